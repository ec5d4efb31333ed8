//! The abort protocol, for every kind: taken by force in the order that the owner wants, and told.

use crate::accounts::{allocate, write_list};
use crate::environments::{create, start, start_on};
use crate::fake::{Bench, DATA};
use crate::network::{filter, install};
use exo_abi::contract::Kind;
use exo_abi::control::{SURRENDER_COUNT, SURRENDER_WORD, Surrender};
use exo_abi::layout::{CONTROL, LOST_NAMES};
use exo_abi::tables::{
    Cause, EnvState, EnvWord, FrameState, MOVE_WORDS, Move, NO_RING, SystemWord,
};
use exo_abi::{Call, EnvName, Error, FrameNumber};
use secure_bindings::FrameMemory;
use std::sync::atomic::Ordering::Relaxed;

const LIST: u64 = DATA + 0x1000;
const MILLISECOND: u64 = 1_000_000;

fn revoke(environment: EnvName, kind: Kind, count: u64) -> Call {
    Call::Revoke { environment, capability: 0, kind, count, own: 0, wall: 0 }
}

/// What moved so far.
fn moves(bench: &Bench) -> Vec<Move> {
    let count = bench.exposed.system[33].load(Relaxed) as usize;
    let entries = bench.exposed.moves.chunks(MOVE_WORDS).take(count);
    entries
        .map(|words| {
            let [time, victim, other, what, count] =
                std::array::from_fn(|word| words[word].load(Relaxed));
            Move { time, victim, other, what, count }
        })
        .collect()
}

/// The names of a kind that were taken from whom.
fn taken(bench: &Bench, victim: EnvName, kind: Kind) -> Vec<u64> {
    let moves = moves(bench).into_iter();
    let own = moves.filter(|entry| entry.victim == victim.0 && entry.kind() == Some(kind));
    own.filter(|entry| entry.cause() == Some(Cause::Repossessed)).map(|entry| entry.count).collect()
}

fn give(bench: &mut Bench, child: EnvName, count: usize) -> Vec<u32> {
    let frames = allocate(bench, count);
    write_list(bench, &frames);
    let count = count as u64;
    let call = Call::FrameTransfer { environment: child, capability: 0, list: LIST, count };
    bench.call(call).unwrap();
    frames
}

#[test]
fn slices_are_taken_from_who_does_not_give_them_back() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 3);
    let (capability, environment) = (0, child);
    for position in [7, 9] {
        bench.call(Call::Slice { cpu: 1, position, environment, capability }).unwrap();
    }
    // It may hold four, and holds three.
    assert_eq!(bench.call(revoke(child, Kind::Slices, 3)), Ok(2));
    assert_eq!(bench.environment(1, EnvWord::Debt), 2);
    bench.tick(MILLISECOND);
    assert_eq!(bench.environment(1, EnvWord::Slices), 1);
    assert_eq!(
        (bench.environment(1, EnvWord::Debt), bench.environment(1, EnvWord::Repossessed)),
        (0, 2)
    );
    assert_eq!(taken(&bench, child, Kind::Slices), [3, 1 << 32 | 7]);
    bench
        .call(Call::Slice { cpu: 0, position: 3, environment: EnvName::NONE, capability })
        .unwrap();
    bench.on(1).tick(1);
    assert_eq!([bench.peek(LOST_NAMES), bench.peek(LOST_NAMES + 8)], [1 << 3, 1 << 7]);
    let acknowledge = |epoch| Call::Acknowledge { kind: Kind::Slices, epoch };
    assert_eq!(bench.call(acknowledge(1)), Err(Error::StaleEpoch));
    assert_eq!(bench.call(acknowledge(2)), Ok(0));
    assert_eq!([bench.peek(LOST_NAMES), bench.peek(LOST_NAMES + 8)], [0, 0]);
}

#[test]
fn filters_are_taken_before_the_reservations_that_they_need() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    for ethertype in [0x0800, 0x0806, 0x86dd] {
        install(&mut bench, child, &filter(ethertype), NO_RING).unwrap();
    }
    assert_eq!(bench.call(revoke(child, Kind::Filters, 3)), Ok(2));
    for _ in 0..40 {
        bench.tick(MILLISECOND);
    }
    assert_eq!(bench.environment(1, EnvWord::Filters), 1);
    assert_eq!(taken(&bench, child, Kind::Filters).len(), 2);
    assert_eq!(install(&mut bench, EnvName::NONE, &filter(0x0800), NO_RING).map(drop), Ok(()));
    assert_eq!(
        install(&mut bench, EnvName::NONE, &filter(0x86dd), NO_RING),
        Err(Error::FilterOverlaps)
    );
}

#[test]
fn donated_frames_are_taken_last_and_never_the_least_of_them() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start_on(&mut bench, 1, child, 3);
    let frames = give(&mut bench, child, 20);
    assert_eq!(bench.environment(1, EnvWord::FramesDonated), 100);
    // It holds 120.
    assert_eq!(bench.call(revoke(child, Kind::Frames, 300 - 95)), Ok(25));
    for _ in 0..20 {
        bench.on(1).tick(MILLISECOND);
    }
    assert_eq!(bench.environment(1, EnvWord::Debt), 0);
    let counts = [EnvWord::Frames, EnvWord::FramesDonated].map(|word| bench.environment(1, word));
    assert_eq!(counts, [95, 95]);
    let gone = taken(&bench, child, Kind::Frames);
    let (plain, donated) = gone.split_at(20);
    assert_eq!(plain, frames.iter().map(|&frame| frame.into()).collect::<Vec<u64>>());
    for &frame in donated {
        assert_eq!(bench.frame(frame as u32).state, FrameState::Free as u8);
    }
    // All of it: what is left is what it needs at least, and it still runs.
    assert!(bench.on(0).call(revoke(child, Kind::Frames, 95)).is_ok());
    for _ in 0..200 {
        bench.on(1).tick(MILLISECOND);
    }
    let [held, donated, debt] = [EnvWord::Frames, EnvWord::FramesDonated, EnvWord::Debt]
        .map(|word| bench.environment(1, word));
    assert_eq!((held, debt), (donated, donated));
    let least = bench.exposed.system[SystemWord::DonationMinimum as usize].load(Relaxed);
    assert_eq!(donated, least + 2, "with its software TLB");
    assert_ne!(bench.environment(1, EnvWord::State) & 0xff, EnvState::Ended as u64);
}

#[test]
fn who_holds_the_lock_takes_what_is_due_on_other_processors() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start_on(&mut bench, 1, child, 3);
    give(&mut bench, child, 20);
    assert_eq!(bench.call(revoke(child, Kind::Frames, 190)), Ok(10));
    bench.machine.time.update(|time| time + MILLISECOND);
    bench.kernel.collect(1);
    assert!(taken(&bench, child, Kind::Frames).is_empty(), "it has no slices there");
    bench.kernel.collect(1 << 1);
    assert_eq!(taken(&bench, child, Kind::Frames).len(), 10);
}

#[test]
fn an_event_during_a_claim_of_no_use_is_not_slept_over() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    start_on(&mut bench, 1, child, 3);
    bench.on(1).tick(1);
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::NONE }).unwrap();
    let cell = &bench.board.cells[1];
    let state = &cell.entry[EnvWord::State as usize];
    let asleep = state.load(Relaxed);
    assert_eq!(asleep & 0xff, EnvState::Asleep as u64);
    // As the short way claims it, and gives it back.
    state.store(asleep & !0xffff | EnvState::Running as u64, Relaxed);
    assert_eq!(bench.on(0).call(revoke(child, Kind::Slices, 4)), Ok(1));
    state.store(asleep, Relaxed);
    bench.here().reconsider(cell);
    assert_eq!(state.load(Relaxed) & 0xff, EnvState::Runnable as u64);
}

#[test]
fn what_is_on_the_surrender_list_goes_first_and_is_saved() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    let frames = give(&mut bench, child, 20);
    let own = allocate(&mut bench, 1)[0];
    start_on(&mut bench, 1, child, 3);
    bench.on(1).tick(1);
    let control = bench.hardware(CONTROL).unwrap().0;
    bench.on(0);
    let [chosen, place] = [frames[13], frames[2]].map(FrameNumber);
    let nothing = FrameNumber(0);
    let (kind, foreign) = (Kind::Frames, FrameNumber(own));
    let list = [
        Surrender { kind, name: own.into(), save: nothing },
        Surrender { kind, name: 1 << 40, save: nothing },
        Surrender { kind, name: 3, save: nothing },
        Surrender { kind, name: frames[5].into(), save: foreign },
        Surrender { kind, name: frames[6].into(), save: FrameNumber(frames[6]) },
        Surrender { kind: Kind::Slices, name: 3, save: nothing },
        Surrender { kind, name: chosen.0.into(), save: place },
    ];
    for (entry, surrender) in list.into_iter().enumerate() {
        for (word, value) in surrender.to_words().into_iter().enumerate() {
            let at = SURRENDER_WORD + 2 * entry + word;
            bench.machine.page(control)[at].store(value, Relaxed);
        }
    }
    bench.machine.page(control)[SURRENDER_COUNT].store(u64::MAX, Relaxed);
    bench.machine.page(chosen)[77].store(4711, Relaxed);
    assert_eq!(bench.call(revoke(child, Kind::Frames, 300 - 120 + 2)), Ok(2));
    // In its own time, on the processor where it has some.
    bench.on(1).tick(MILLISECOND);
    assert_eq!(bench.environment(1, EnvWord::Frames), 118);
    assert_eq!(taken(&bench, child, Kind::Frames), [chosen.0, frames[0]].map(u64::from));
    assert_eq!(bench.machine.page(place)[77].load(Relaxed), 4711, "its copy");
    assert_eq!(bench.frame(own).state, FrameState::Held as u8);
    let left = |entry: usize| bench.machine.page(control)[SURRENDER_WORD + 2 * entry].load(Relaxed);
    assert_eq!(
        (0..7).filter(|&entry| left(entry) != 0).collect::<Vec<_>>(),
        [5],
        "of another kind"
    );
}
