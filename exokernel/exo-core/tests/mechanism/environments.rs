//! Creation, authority and end.

use crate::accounts::{allocate, write_list};
use crate::fake::{Bench, DATA};
use exo_abi::contract::Kind;
use exo_abi::request::{ENVIRONMENT_WORDS, NOBODY};
use exo_abi::rights::Capability;
use exo_abi::tables::{EnvState, EnvWord, FrameState};
use exo_abi::{Call, CapabilityName, EnvName, Error, Rights};
use exo_core::Machine;

const LIST: u64 = DATA + 0x1000;
const REQUEST: u64 = DATA + 0x3000;

/// Writes a request for a child named `[part]`.
pub(crate) fn request(bench: &mut Bench, part: u8, limit: u64, floor: u64, donated: usize) {
    let frames = allocate(bench, donated);
    write_list(bench, &frames);
    let name = CapabilityName::new(&[part]).unwrap();
    let rights = Rights::READ | Rights::WRITE | Rights::EXECUTE | Rights::GRANT | Rights::CONTROL;
    let guard = Capability { name, rights }.to_words();
    let mut words = [0; ENVIRONMENT_WORDS];
    words[..6].copy_from_slice(&[LIST, donated as u64, 2, 0, guard[0], guard[1]]);
    words[6..11].copy_from_slice(&[limit, 4, 4, 4, 2]);
    words[11] = floor;
    words[17] = u64::from_le_bytes(*b"child\0\0\0");
    bench.poke(REQUEST, &words);
}

/// Creates a child in the next free slot.
pub(crate) fn create(bench: &mut Bench, limit: u64, floor: u64, donated: usize) -> EnvName {
    request(bench, 7, limit, floor, donated);
    EnvName(bench.call(Call::EnvironmentCreate { request: REQUEST }).unwrap())
}

/// Starts a child and gives it a slice.
pub(crate) fn start(bench: &mut Bench, child: EnvName, position: u32) {
    start_on(bench, 0, child, position);
}

pub(crate) fn start_on(bench: &mut Bench, cpu: u32, child: EnvName, position: u32) {
    let (capability, environment) = (0, child);
    bench
        .call(Call::EnvironmentStart {
            environment,
            capability,
            entry: DATA,
            stack: 0,
            argument: 5,
        })
        .unwrap();
    bench.call(Call::Slice { cpu, position, environment, capability }).unwrap();
}

fn destroy(environment: EnvName) -> Call {
    Call::EnvironmentDestroy { environment, capability: 0, code: 9 }
}

#[test]
fn what_an_environment_held_is_free_when_it_ends() {
    let mut bench = Bench::new();
    let free = bench.exposed.system[9].load(std::sync::atomic::Ordering::Relaxed);
    let limit = bench.environment(0, EnvWord::FramesLimit);
    let child = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 3);
    let frames = allocate(&mut bench, 50);
    write_list(&mut bench, &frames);
    bench
        .call(Call::FrameTransfer { environment: child, capability: 0, list: LIST, count: 50 })
        .unwrap();
    assert_eq!(bench.environment(1, EnvWord::FramesDonated), 100);
    bench.call(destroy(child)).unwrap();
    assert_eq!(bench.state(1), EnvState::Ended);
    assert_eq!(bench.exposed.system[9].load(std::sync::atomic::Ordering::Relaxed), free);
    assert_eq!(bench.environment(0, EnvWord::FramesLimit), limit);
    let call = Call::EnvironmentStart {
        environment: child,
        capability: 0,
        entry: DATA,
        stack: 0,
        argument: 0,
    };
    assert_eq!(bench.call(call), Err(Error::WrongState));
    bench.call(destroy(child)).unwrap();
    assert_eq!(bench.state(1), EnvState::Free);
    assert_eq!(bench.call(destroy(child)), Err(Error::StaleEnvironment));
    assert!(frames.iter().all(|&frame| bench.frame(frame).state == FrameState::Free as u8));
}

#[test]
fn no_processor_is_left_in_the_tables_of_one_that_has_ended() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start_on(&mut bench, 1, child, 3);
    bench.on(1).tick(1);
    assert_eq!(bench.state(1), EnvState::Running);
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE }).unwrap();
    assert!(bench.machine.loaded[1].get().is_some(), "it has let go, and is on its way out");
    bench.on(0).call(destroy(child)).unwrap();
    bench.machine.quiesce();
}

#[test]
fn who_waits_has_left_the_tables_of_whom_it_stopped() {
    let bench = Bench::new();
    bench.machine.time.set(1 << 40);
    bench.here().tick(&bench.contexts[0]);
    assert!(bench.idle() && bench.machine.active[0].get().is_some());
    bench.here().drop_doomed();
    assert_eq!(bench.machine.active[0].get(), None);
}

#[test]
fn a_child_runs_in_its_slice_and_exits() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 3);
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE }).unwrap();
    assert_eq!(bench.state(1), EnvState::Running);
    assert_eq!((bench.context().rip, bench.context().rdi), (DATA, 5));
    assert_eq!(bench.call(Call::Null {}), Ok(child.0));
    bench.call(destroy(EnvName::NONE)).unwrap();
    assert_eq!(bench.environment(1, EnvWord::EndCode), 9);
    assert_eq!(bench.call(Call::Null {}), Ok(bench.name(0).0), "the parent was woken");
}

#[test]
fn a_child_has_no_authority_over_others() {
    let mut bench = Bench::new();
    let parent = bench.name(0);
    let child = create(&mut bench, 300, 0, 100);
    let sibling = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 3);
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE }).unwrap();
    assert_eq!(bench.call(destroy(parent)), Err(Error::NotDominated));
    let code = bench.call(Call::MachineExit { capability: 0, code: 1 });
    assert_eq!(code, Err(Error::NotDominated));
    let call = Call::Revoke {
        environment: sibling,
        capability: 1,
        kind: Kind::Frames,
        count: 1,
        own: 0,
        wall: 0,
    };
    assert_eq!(bench.call(call), Err(Error::NoCapability));
    let own = bench.call(Call::Slice { cpu: 0, position: 0, environment: NOBODY, capability: 0 });
    assert_eq!(own, Err(Error::NotDominated), "the parent's slice");
    let forged = Capability::ROOT.to_words();
    let grant = Call::CapabilityGrant {
        environment: EnvName::NONE,
        authority: 0,
        destination: 1,
        source: 0,
        low: forged[0],
        high: forged[1],
    };
    assert_eq!(bench.call(grant), Err(Error::NotDominated));
    assert_eq!(bench.machine.exit.get(), None);
}

#[test]
fn nobody_promises_more_than_it_has() {
    let mut bench = Bench::new();
    request(&mut bench, 7, 1 << 40, 0, 100);
    let call = Call::EnvironmentCreate { request: REQUEST };
    assert_eq!(bench.call(call), Err(Error::OverLimit));
    request(&mut bench, 7, 300, 301, 100);
    assert_eq!(bench.call(call), Err(Error::BelowFloor));
    request(&mut bench, 7, 300, 0, 3);
    assert_eq!(bench.call(call), Err(Error::TooFewFrames));
    assert_eq!(bench.state(1), EnvState::Free);
}

#[test]
fn environments_run_out_with_an_error() {
    let mut bench = Bench::new();
    let mut made = 0;
    loop {
        request(&mut bench, 7, 100, 0, 60);
        bench.poke(REQUEST + 7 * 8, &[0; 4]);
        match bench.call(Call::EnvironmentCreate { request: REQUEST }) {
            Ok(_) => made += 1,
            Err(error) => {
                assert!(matches!(error, Error::OverLimit | Error::NoFreeEnvironments), "{error:?}");
                break;
            }
        }
    }
    assert_eq!(made, crate::fake::ENVIRONMENTS - 1);
}

#[test]
fn a_label_is_text_and_no_forebears() {
    let mut bench = Bench::new();
    let call = Call::EnvironmentCreate { request: REQUEST };
    let forged: [&[u8; 16]; 7] = [
        b"kernel\0\0\0\0\0\0\0\0\0\0",
        b"init\0\0\0\0\0\0\0\0\0\0\0\0",
        b"a\nb\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"a]\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"a b\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"a\0b\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"0123456789abcde\xff",
    ];
    request(&mut bench, 7, 300, 0, 100);
    for label in forged {
        let (low, high) = label.split_at(8);
        let words = [low, high].map(|half| u64::from_le_bytes(half.try_into().unwrap()));
        bench.poke(REQUEST + 17 * 8, &words);
        assert_eq!(bench.call(call), Err(Error::BadArgument), "{label:?}");
    }
    let whole = [u64::from_le_bytes(*b"01234567"), u64::from_le_bytes(*b"89abcdef")];
    bench.poke(REQUEST + 17 * 8, &whole);
    let child = EnvName(bench.call(call).unwrap());
    bench.call(destroy(child)).unwrap();
}

#[test]
fn nothing_is_written_to_the_frames_of_one_that_has_ended() {
    use secure_bindings::FrameMemory;
    use std::sync::atomic::Ordering::Relaxed;
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 3);
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE }).unwrap();
    let (contract, _) = bench.hardware(exo_abi::layout::CONTRACT).unwrap();
    let clock = |bench: &Bench| {
        [0, 1, 2, 3, 4].map(|word: usize| bench.machine.page(contract)[word].load(Relaxed))
    };
    bench.machine.time.update(|time| time + 1000);
    bench.call(destroy(EnvName::NONE)).unwrap();
    assert_eq!(bench.frame(contract.0).state, FrameState::Free as u8);
    let free = clock(&bench);
    bench.tick(5_000_000);
    assert_eq!(clock(&bench), free);
}

#[test]
fn no_control_character_reaches_the_console() {
    let mut bench = Bench::new();
    let text = b"a\x1b\r\x7f\xc2\x9b\xc3\x9fb\n      ";
    let words: Vec<u64> =
        text.chunks_exact(8).map(|part| u64::from_le_bytes(part.try_into().unwrap())).collect();
    bench.poke(LIST, &words);
    bench.call(Call::ConsoleWrite { address: LIST, length: 10 }).unwrap();
    assert_eq!(*bench.machine.console.borrow(), b"[init] a???\xc2?\xc3\x9fb\n");
}
