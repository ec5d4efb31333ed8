//! Exceptions and events.

use crate::environments::{create, start};
use crate::fake::{Bench, DATA};
use exo_abi::tables::{EndReason, EnvState, EnvWord};
use exo_abi::upcall::{Event, FaultCode};
use exo_abi::{Call, EnvName, FrameNumber};
use secure_bindings::FrameMemory;
use std::sync::atomic::Ordering;

const TOP: u64 = DATA + 0x5000;
const ENTRY: u64 = DATA + 0x100;

/// Registers an upcall handler of the first environment, for these events.
fn install(bench: &mut Bench, enabled: u64) {
    let words = [ENTRY, TOP - 0x1000, TOP, 0, 0, enabled];
    let (control, _) = bench.hardware(exo_abi::layout::CONTROL).unwrap();
    for (stored, word) in bench.machine.page(control).iter().zip(words) {
        stored.store(word, Ordering::Relaxed);
    }
}

#[test]
fn an_exception_enters_the_handler_with_its_frame() {
    let mut bench = Bench::new();
    install(&mut bench, 0);
    (bench.context().rip, bench.context().rsp) = (0x1234, 0x9999);
    bench.context().rdi = 77;
    bench.exception(6, 0, 0);
    let frame = TOP - 12 * 8;
    assert_eq!((bench.context().rip, bench.context().rsp), (ENTRY, frame));
    assert_eq!((bench.context().rdi, bench.context().rcx), (6, frame));
    assert_eq!(bench.peek(frame + 4 * 8), 77, "rdi");
    assert_eq!(bench.peek(frame + 11 * 8), 0x1234, "rip");
    assert_eq!(bench.peek(frame + 10 * 8), 0x9999, "rsp");
}

#[test]
fn a_nested_exception_goes_below_the_red_zone() {
    let mut bench = Bench::new();
    install(&mut bench, 0);
    bench.exception(6, 0, 0);
    let outer = bench.context().rsp;
    bench.exception(6, 0, 0);
    assert!(bench.context().rsp + 12 * 8 + 128 <= outer);
    assert_eq!(bench.context().rsp % 16, 0);
}

#[test]
fn a_fault_in_the_handler_for_ever_ends_its_owner_only() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 3);
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE }).unwrap();
    bench.exception(13, 0, 0);
    assert_eq!(bench.state(1), EnvState::Ended);
    assert_eq!(bench.environment(1, EnvWord::EndReason), EndReason::Exception as u64);
    assert_eq!(bench.environment(1, EnvWord::EndCode), 13);
    assert_eq!(bench.state(0), EnvState::Running);
    install(&mut bench, 0);
    for _ in 0..100 {
        if bench.machine.exit.get().is_some() {
            break;
        }
        bench.exception(13, 0, 0);
    }
    assert_eq!(bench.environment(0, EnvWord::EndReason), EndReason::UpcallStack as u64);
}

#[test]
fn addresses_of_the_kernel_are_a_protection_fault() {
    let mut bench = Bench::new();
    install(&mut bench, 0);
    for address in [0, 0x7f00_0000_0000, 0x7f80_0000_0000, 0xffff_8000_0000_0000] {
        bench.exception(14, 2, address);
        let code = FaultCode::from_bits(bench.context().rsi).unwrap();
        assert!(code.contains(FaultCode::PROTECTION), "{address:#x}");
        assert_eq!(bench.context().rdx, address);
    }
}

/// The kernel's half of the tables leads to page 1, where each word could be an entry.
#[test]
fn the_kernel_changes_no_table_of_its_own_for_a_program() {
    let mut bench = Bench::new();
    let own = bench.machine.page(FrameNumber(1));
    own.iter().for_each(|word| word.store(0x1003, Ordering::Relaxed));
    let control = bench.hardware(exo_abi::layout::CONTROL).unwrap().0;
    for address in [0xffff_8000_0000_0000, 0xffff_ff80_0020_3000, u64::MAX] {
        // Frames that cross the end of a page are pushed under the lock.
        install(&mut bench, 0);
        bench.machine.page(control)[2].store(TOP - 0x1000 + 48, Ordering::Relaxed);
        bench.machine.page(control)[1].store(TOP - 0x2000, Ordering::Relaxed);
        for error in [0, 1, 2, 3, 16] {
            bench.exception(14, error, address);
            let code = FaultCode::from_bits(bench.context().rsi).unwrap();
            assert!(code.contains(FaultCode::PROTECTION), "{address:#x}");
            bench.machine.page(control)[3].store(0, Ordering::Relaxed);
            bench.context().rsp = 0;
        }
    }
    // And no frame is pushed there.
    bench.machine.page(control)[1].store(0xffff_8000_0000_0000, Ordering::Relaxed);
    bench.machine.page(control)[2].store(0xffff_8000_0001_0000, Ordering::Relaxed);
    bench.exception(6, 0, 0);
    assert_eq!(bench.environment(0, EnvWord::EndReason), EndReason::UpcallStack as u64);
    assert!(own.iter().all(|word| word.load(Ordering::Relaxed) == 0x1003));
}

#[test]
fn a_slice_end_is_told_once_and_an_endless_epilogue_is_ended() {
    let mut bench = Bench::new();
    let other = create(&mut bench, 300, 0, 100);
    start(&mut bench, other, 3);
    install(&mut bench, Event::SliceEnd.bit());
    bench.tick(1_000_000);
    assert_eq!(bench.context().rdi, Event::SliceEnd.cause());
    assert_eq!(bench.state(0), EnvState::Running);
    bench.tick(300_000);
    assert_eq!(bench.state(0), EnvState::Preempted, "by force");
    assert!(bench.environment(0, EnvWord::Excess) > 0);
    for _ in 0..1000 {
        bench.tick(300_000);
    }
    assert_eq!(bench.environment(0, EnvWord::EndReason), EndReason::Overrun as u64);
}

#[test]
fn a_sleeper_wakes_at_its_time_and_the_timer_is_asked_for() {
    let mut bench = Bench::new();
    let until = bench.machine.time.get() + 5_000_000;
    bench.call(Call::Sleep { until, keeper: EnvName::NONE }).unwrap();
    assert!(bench.idle());
    assert!(bench.machine.alarm.get() <= until);
    bench.tick(4_999_999);
    assert!(bench.idle());
    bench.tick(1);
    assert!(!bench.idle());
}

#[test]
fn a_fault_that_no_refill_can_mend_goes_to_the_program() {
    let mut bench = Bench::new();
    install(&mut bench, 0);
    bench.context().rip = 0x1234;
    for _ in 0..2 {
        bench.exception(14, 5, DATA);
        bench.context().rip = if bench.context().rip == ENTRY { break } else { 0x1234 };
    }
    assert_eq!(bench.context().rdi, 14, "an upcall, not another refill");
    let code = FaultCode::from_bits(bench.context().rsi).unwrap();
    assert!(code.contains(FaultCode::PROTECTION));
}

#[test]
fn a_handler_that_has_run_out_of_stack_ends_its_owner() {
    let mut bench = Bench::new();
    install(&mut bench, 0);
    bench.context().rsp = TOP - 0x1000 - 64;
    bench.exception(13, 0, 0);
    assert_eq!(bench.environment(0, EnvWord::EndReason), EndReason::UpcallStack as u64);
}
