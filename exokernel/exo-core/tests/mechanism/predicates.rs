//! Predicates for waking: who is told, when, and of whose frames.

use crate::accounts::{allocate, write_list};
use crate::environments::{create, start_on};
use crate::fake::{Bench, DATA};
use exo_abi::contract::Kind;
use exo_abi::control::ControlWord;
use exo_abi::predicate::{Clause, Comparison, FREE_WORD};
use exo_abi::tables::EnvState;
use exo_abi::upcall::Event;
use exo_abi::{Call, EnvName, Error, FrameNumber};
use secure_bindings::FrameMemory;
use std::sync::atomic::Ordering::Relaxed;

const LIST: u64 = DATA + 0x1000;

/// Puts "the first word is at least `value`" into the clause of a frame with this number.
fn arm(bench: &Bench, frame: u32, place: usize, value: u64) {
    let offset = 8 * FREE_WORD as u16;
    let clause = Clause { offset, mask: u64::MAX, comparison: Comparison::AtLeast, value };
    let words = clause.to_words(false).unwrap();
    let page = bench.machine.page(FrameNumber(frame));
    page[3 * place..].iter().zip(words).for_each(|(stored, word)| stored.store(word, Relaxed));
}

fn set(bench: &Bench, frame: u32, value: u64) {
    bench.machine.page(FrameNumber(frame))[FREE_WORD].store(value, Relaxed);
}

fn notify(bench: &mut Bench, frame: u32) -> Result<u64, Error> {
    bench.call(Call::Notify { frame, capability: 0 })
}

/// Whether a slot has been told of a predicate, which is forgotten.
fn told(bench: &Bench, slot: u16) -> bool {
    let control = bench.board.cell(slot).control(bench.machine);
    let pending = &control[ControlWord::Pending as usize];
    pending.fetch_and(!Event::Predicate.bit(), Relaxed) & Event::Predicate.bit() != 0
}

/// A child that sleeps on the other processor, and two frames of its own.
fn sleeper() -> (Bench, EnvName, Vec<u32>) {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    let frames = allocate(&mut bench, 2);
    write_list(&mut bench, &frames);
    let call = Call::FrameTransfer { environment: child, capability: 0, list: LIST, count: 2 };
    bench.call(call).unwrap();
    start_on(&mut bench, 1, child, 3);
    bench.on(1).tick(1);
    let _ = bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE });
    bench.on(0);
    assert_eq!(bench.state(1), EnvState::Asleep);
    (bench, child, frames)
}

#[test]
fn a_sleeper_wakes_when_its_predicate_holds_and_not_before() {
    let (mut bench, _, frames) = sleeper();
    assert_eq!(notify(&mut bench, frames[0]), Ok(0), "there is none");
    arm(&bench, frames[0], 7, 5);
    set(&bench, frames[0], 4);
    assert_eq!(notify(&mut bench, frames[0]), Ok(0));
    // A storm about a word that is not enough, and about a frame of the same owner without any.
    for _ in 0..1000 {
        assert_eq!(notify(&mut bench, frames[0]), Ok(0));
        assert_eq!(notify(&mut bench, frames[1]), Ok(0));
    }
    set(&bench, frames[0], 5);
    assert_eq!(notify(&mut bench, frames[1]), Ok(0), "that is the other frame");
    assert!(!told(&bench, 1));
    assert_eq!(bench.state(1), EnvState::Asleep);
    assert_eq!(notify(&mut bench, frames[0]), Ok(1));
    assert_eq!(bench.state(1), EnvState::Runnable);
    assert!(told(&bench, 1) && !told(&bench, 0));
}

#[test]
fn only_who_could_write_the_words_says_that_they_changed() {
    let (mut bench, child, frames) = sleeper();
    arm(&bench, frames[0], 0, 0);
    // The child has a capability for its own name only, and none in other slots.
    let own = allocate(&mut bench, 1)[0];
    arm(&bench, own, 0, 0);
    assert_eq!(notify(&mut bench, frames[0]), Ok(1));
    bench.on(1).tick(1_000_000);
    assert_eq!(bench.name(1), child);
    assert_eq!(notify(&mut bench, own), Err(Error::NotDominated));
    let call = Call::Notify { frame: frames[0], capability: 9 };
    assert_eq!(bench.call(call), Err(Error::NoCapability));
    bench.on(0);
    assert!(!told(&bench, 0));
    for frame in [0, 4095, 4096, u32::MAX] {
        assert_eq!(notify(&mut bench, frame), Err(Error::NoFrame), "{frame}");
    }
}

#[test]
fn a_frame_that_goes_takes_its_predicates_with_it() {
    let (mut bench, child, frames) = sleeper();
    arm(&bench, frames[0], 0, 0);
    let (capability, environment) = (0, child);
    let (kind, count, own, wall) = (Kind::Frames, 300 - 100, 0, 0);
    bench.call(Call::Revoke { environment, capability, kind, count, own, wall }).unwrap();
    // In its own time, on the processor where it has some.
    bench.on(1).tick(1_000_000);
    bench.on(0);
    // It is told of the loss, and of nothing else any more.
    assert_ne!(bench.state(1), EnvState::Asleep);
    assert_eq!(notify(&mut bench, frames[0]), Err(Error::NoFrame));
    // Whose it is now has a frame of zeros.
    write_list(&mut bench, &[frames[0]]);
    bench.call(Call::FrameAllocate { list: LIST, count: 1, capability: 0 }).unwrap();
    assert_eq!(notify(&mut bench, frames[0]), Ok(0));
    arm(&bench, frames[0], 0, 0);
    assert_eq!(notify(&mut bench, frames[0]), Ok(1));
    assert!(told(&bench, 0) && !told(&bench, 1));
}
