//! Control transfer, slices of several CPUs, and batches.

use crate::environments::{create, start};
use crate::fake::{Bench, DATA, POSITIONS};
use exo_abi::batch::{BATCH_WORDS, BatchEntry, BatchFlags};
use exo_abi::calls::{ENTERED, TransferMode};
use exo_abi::control::ControlWord;
use exo_abi::tables::EnvState;
use exo_abi::tables::SEND_TEMPLATE;
use exo_abi::{Call, EnvName, Error};
use std::sync::atomic::Ordering;

const LIST: u64 = DATA + 0x4000;

/// Writes a word of the control page of whoever runs.
fn set_control(bench: &mut Bench, word: ControlWord, value: u64) {
    use secure_bindings::FrameMemory;
    let (control, _) = bench.hardware(exo_abi::layout::CONTROL).unwrap();
    bench.machine.page(control)[word as usize].store(value, Ordering::Relaxed);
}

fn transfer(target: EnvName, mode: TransferMode) -> Call {
    let keeper = if mode == TransferMode::Asynchronous { EnvName::NONE } else { target };
    Call::Transfer { target, mode, until: u64::MAX, keeper }
}

/// A child that sleeps with this stack pointer and lets `keeper` in; the first environment runs.
fn server(bench: &mut Bench, keeper: EnvName, rsp: u64) -> EnvName {
    let child = create(bench, 300, 0, 100);
    start(bench, child, 3);
    bench.call(Call::Yield { target: child, keeper: EnvName::NONE }).unwrap();
    assert_eq!(bench.call(Call::Null {}), Ok(child.0));
    bench.context().rsp = rsp;
    bench.call(Call::Sleep { until: u64::MAX, keeper }).unwrap();
    assert_eq!(bench.call(Call::Null {}), Ok(bench.name(0).0));
    child
}

/// Where who runs goes on, and its first argument.
fn registers(bench: &mut Bench) -> [u64; 4] {
    let context = bench.context();
    [context.rip, context.rsp, context.rflags, context.rdi]
}

#[test]
fn control_enters_where_one_rests_and_comes_back() {
    let mut bench = Bench::new();
    let client = bench.name(0);
    let child = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 3);
    bench.call(Call::Yield { target: child, keeper: EnvName::NONE }).unwrap();
    (bench.context().rip, bench.context().rsp) = (DATA + 0x80, 0x7777);
    bench.context().rflags |= 1;
    let flags = bench.context().rflags;
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::ANYBODY }).unwrap();
    (bench.context().rip, bench.context().rsp) = (DATA + 0x90, 0x5555);
    bench.context().r12 = 99;
    let own = bench.context().rflags;
    let _ = bench.call(transfer(child, TransferMode::Synchronous));
    assert_eq!((bench.context().rax, bench.context().r12), (ENTERED, 99));
    assert_eq!(registers(&mut bench), [DATA + 0x80, 0x7777, flags, client.0]);
    assert_eq!((bench.state(0), bench.state(1)), (EnvState::Asleep, EnvState::Running));
    let _ = bench.call(transfer(client, TransferMode::Reply));
    assert_eq!(bench.context().rax, ENTERED);
    assert_eq!(registers(&mut bench), [DATA + 0x90, 0x5555, own, child.0]);
    assert_eq!((bench.state(0), bench.state(1)), (EnvState::Running, EnvState::Asleep));
}

#[test]
fn who_is_let_in_is_said_anew_with_each_rest() {
    let mut bench = Bench::new();
    let client = bench.name(0);
    let child = server(&mut bench, client, 0x7777);
    let call = transfer(child, TransferMode::Synchronous);
    let _ = bench.call(call);
    assert_eq!(bench.call(Call::Null {}), Ok(child.0), "entered");
    for keeper in [EnvName::NONE, EnvName::new(0, 99), child, EnvName(u64::MAX - 1)] {
        let rest = Call::Transfer { target: client, mode: TransferMode::Reply, until: 0, keeper };
        let _ = bench.call(rest);
        assert_eq!(bench.call(Call::Null {}), Ok(client.0));
        assert_eq!(bench.call(call), Err(Error::GateClosed), "{keeper:?}");
        let refused = bench.call(Call::Yield { target: child, keeper: EnvName::ANYBODY });
        assert_eq!(refused, Err(Error::NotRunnable), "it sleeps");
        bench.tick(1);
        let back = Call::Yield { target: child, keeper: EnvName::ANYBODY };
        bench.call(back).unwrap();
        assert_eq!(bench.call(Call::Null {}), Ok(child.0));
    }
    // Who is stopped by force is not at rest, whomever it let in before.
    let _ = bench.call(Call::Yield { target: client, keeper: EnvName::ANYBODY });
    bench.call(Call::Yield { target: child, keeper: EnvName::ANYBODY }).unwrap();
    while bench.call(Call::Null {}) != Ok(client.0) {
        bench.tick(1_000_000_000);
    }
    assert_eq!(bench.state(1), EnvState::Preempted);
    assert_eq!(bench.call(call), Err(Error::NotRunnable));
}

#[test]
fn an_event_comes_before_what_is_entered_and_loses_nothing() {
    let mut bench = Bench::new();
    let client = bench.name(0);
    let child = server(&mut bench, client, 0);
    let (entry, top) = (DATA + 0x40, DATA + 0x4000);
    for (word, value) in [
        (ControlWord::Entry, entry),
        (ControlWord::StackBase, DATA),
        (ControlWord::StackTop, top),
        (ControlWord::Enabled, u64::MAX),
    ] {
        set_control(&mut bench, word, value);
    }
    let read = Call::ConsoleRead { capability: 0, address: LIST, length: 1 };
    assert_eq!(bench.call(read), Ok(0), "who reads is told of what comes");
    (bench.context().rip, bench.context().rsp) = (0x1234, 0x7777);
    let _ = bench.call(transfer(child, TransferMode::Synchronous));
    assert_eq!(bench.call(Call::Null {}), Ok(child.0));
    bench.machine.typed.borrow_mut().push(b'x');
    bench.kernel.console_input();
    assert_eq!(bench.state(0), EnvState::Runnable, "woken");
    bench.context().r12 = 99;
    let _ = bench.call(transfer(client, TransferMode::Reply));
    assert_eq!((bench.state(0), bench.state(1)), (EnvState::Running, EnvState::Asleep));
    let (place, context) = (top - 12 * 8, *bench.context());
    assert_eq!((context.rip, context.rsp, context.r12), (entry, place, 99), "the handler");
    let saved = [0, 4, 10, 11].map(|word| bench.peek(place + 8 * word));
    assert_eq!(saved, [ENTERED, child.0, 0x7777, 0x1234], "rax, rdi, rsp and rip");
    // Back from the handler, nothing is pending any more, and a sleep lasts.
    set_control(&mut bench, ControlWord::Mask, 0);
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE }).unwrap();
    assert_eq!(bench.state(0), EnvState::Asleep);
}

#[test]
fn an_event_that_nobody_takes_keeps_its_owner_awake() {
    let mut bench = Bench::new();
    let read = Call::ConsoleRead { capability: 0, address: LIST, length: 1 };
    assert_eq!(bench.call(read), Ok(0));
    bench.machine.typed.borrow_mut().push(b'x');
    bench.kernel.console_input();
    let sleep = Call::Sleep { until: u64::MAX, keeper: EnvName::NONE };
    for _ in 0..3 {
        assert_eq!(bench.call(Call::Null {}), Ok(bench.name(0).0));
        assert_eq!(bench.call(sleep), Ok(0));
        assert_eq!(bench.state(0), EnvState::Running, "at once");
    }
    set_control(&mut bench, ControlWord::Pending, 0);
    bench.call(sleep).unwrap();
    assert_eq!(bench.state(0), EnvState::Asleep);
}

#[test]
fn who_is_not_let_in_changes_nothing() {
    let mut bench = Bench::new();
    let child = server(&mut bench, EnvName(0x1234_0000_0009), 0x7777);
    let call = transfer(child, TransferMode::Synchronous);
    assert_eq!(bench.call(call), Err(Error::GateClosed));
    assert_eq!((bench.state(0), bench.state(1)), (EnvState::Running, EnvState::Asleep));
    let own = bench.name(0);
    assert_eq!(bench.call(transfer(own, TransferMode::Reply)), Err(Error::NotRunnable));
    for name in [EnvName::NONE, EnvName::new(1, 99), EnvName::new(999, 1)] {
        let call = transfer(name, TransferMode::Asynchronous);
        assert_eq!(bench.call(call), Err(Error::NoEnvironment), "{name:?}");
    }
}

#[test]
fn who_waits_for_one_that_ends_is_told() {
    let mut bench = Bench::new();
    let child = server(&mut bench, EnvName::ANYBODY, 0);
    let _ = bench.call(transfer(child, TransferMode::Synchronous));
    let end = Call::EnvironmentDestroy { environment: EnvName::NONE, capability: 0, code: 4 };
    assert_eq!(bench.call(end), Err(Error::StaleEnvironment), "the answer of the client's call");
    assert_eq!(bench.call(Call::Null {}), Ok(bench.name(0).0));
}

#[test]
fn the_slices_of_a_client_go_to_whom_it_waits_for() {
    let mut bench = Bench::new();
    let child = server(&mut bench, EnvName::ANYBODY, 0);
    let (own, capability) = (bench.name(0), 0);
    let back =
        Call::Slice { cpu: 0, position: 3, environment: exo_abi::request::NOBODY, capability };
    bench.call(back).unwrap();
    let _ = bench.call(transfer(child, TransferMode::Synchronous));
    for _ in 0..3 {
        bench.call(Call::Yield { target: EnvName::NONE, keeper: EnvName::NONE }).unwrap();
        assert_eq!(bench.call(Call::Null {}), Ok(child.0), "on the client's slice");
    }
    let _ = bench.call(transfer(own, TransferMode::Reply));
    assert_eq!(bench.context().rax, ENTERED);
    assert_eq!(bench.call(Call::Null {}), Ok(own.0));
}

#[test]
fn nobody_runs_twice() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 3);
    let slice = Call::Slice { cpu: 1, position: 5, environment: child, capability: 0 };
    bench.call(slice).unwrap();
    let beyond = POSITIONS as u32;
    for (cpu, position) in [(2, 0), (u32::MAX, 0), (0, beyond), (1, u32::MAX)] {
        let slice = Call::Slice { cpu, position, environment: child, capability: 0 };
        assert_eq!(bench.call(slice), Err(Error::NoSlice));
    }
    bench.on(1).tick(1);
    assert_eq!(bench.call(Call::Null {}), Ok(child.0), "the second CPU found it");
    bench.on(0);
    assert_eq!(
        bench.call(Call::Yield { target: child, keeper: EnvName::NONE }),
        Err(Error::NotRunnable)
    );
    let call = transfer(child, TransferMode::Asynchronous);
    assert_eq!(bench.call(call), Err(Error::NotRunnable));
    bench.call(Call::Yield { target: EnvName::NONE, keeper: EnvName::NONE }).unwrap();
    assert_eq!(bench.call(Call::Null {}), Ok(bench.name(0).0));
    bench.on(1).call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE }).unwrap();
    assert!(bench.idle());
    bench.on(0).call(Call::Sleep { until: 5_000_000, keeper: EnvName::NONE }).unwrap();
    bench.tick(5_000_000);
    assert!(!bench.idle());
}

fn batch(bench: &mut Bench, calls: &[Call], flags: BatchFlags) -> Result<u64, Error> {
    for (index, call) in calls.iter().enumerate() {
        let registers = call.pack();
        let mut words = [0; BATCH_WORDS];
        words[0] = registers.number;
        words[1..7].copy_from_slice(&registers.arguments);
        bench.poke(LIST + index as u64 * 64, &words);
    }
    bench.call(Call::Batch { list: LIST, count: calls.len() as u64, flags })
}

fn result(bench: &mut Bench, index: u64) -> Result<u64, Error> {
    let head = bench.peek(LIST + index * 64);
    let value = bench.peek(LIST + index * 64 + 56);
    let entry = BatchEntry { error: (head >> 32) as u32, value, ..BatchEntry::default() };
    entry.result()
}

#[test]
fn a_batch_stops_at_the_first_refusal_or_undoes_all() {
    let mut bench = Bench::new();
    let own = bench.name(0).0;
    let take =
        |position| Call::Slice { cpu: 0, position, environment: EnvName(own), capability: 0 };
    let calls = [Call::Null {}, take(7), take(7), Call::Null {}];
    assert_eq!(batch(&mut bench, &calls, BatchFlags::empty()), Ok(2));
    assert_eq!(result(&mut bench, 0), Ok(own));
    assert_eq!(result(&mut bench, 2), Err(Error::SliceTaken));
    let calls = [take(8), take(9), take(7)];
    assert_eq!(batch(&mut bench, &calls, BatchFlags::ROLL_BACK), Err(Error::SliceTaken));
    for position in [8, 9] {
        bench.call(take(position)).unwrap();
    }
    let sleep = Call::Sleep { until: 0, keeper: EnvName::NONE };
    assert_eq!(batch(&mut bench, &[sleep], BatchFlags::empty()), Ok(0));
    assert_eq!(result(&mut bench, 0), Err(Error::NotInBatch));
    let calls = [Call::Acknowledge { kind: exo_abi::Kind::Frames, epoch: 0 }];
    assert_eq!(batch(&mut bench, &calls, BatchFlags::ROLL_BACK), Err(Error::NotInBatch));
    // What was at the place of a template is gone, and a template has no id.
    let (environment, capability, ring) = (EnvName::NONE, 0, SEND_TEMPLATE);
    let template = Call::FilterInstall { environment, capability, address: 0, length: 0, ring };
    assert_eq!(batch(&mut bench, &[template], BatchFlags::ROLL_BACK), Err(Error::NotInBatch));
    let call = |list, count| Call::Batch { list, count, flags: BatchFlags::empty() };
    assert_eq!(bench.call(call(LIST + 8, 1)), Err(Error::BadAddress));
    assert_eq!(bench.call(call(LIST, 65)), Err(Error::TooLong));
    assert_eq!(bench.call(call(0x7000_0000_0000, 1)), Err(Error::NotBound));
    assert_eq!(bench.call(call(u64::MAX - 63, 1)), Err(Error::BadAddress));
}
