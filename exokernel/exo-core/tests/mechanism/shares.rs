//! What everybody has of a CPU, whatever the others do with their slices.

use crate::environments::{create, start, start_on};
use crate::fake::{Bench, DATA, POSITIONS};
use exo_abi::calls::TransferMode;
use exo_abi::request::NOBODY;
use exo_abi::tables::{EnvState, EnvWord};
use exo_abi::{Call, EnvName, Error};

const SLICE: u64 = 1_000_000;
/// The last position of a CPU.
const LAST: u32 = POSITIONS as u32 - 1;

/// Ends the slice of whoever runs, so much too late if it is this one's.
fn end_slice(bench: &mut Bench, tardy: EnvName, late: u64) {
    let runs = bench.call(Call::Null {}).unwrap();
    bench.tick(SLICE + if runs == tardy.0 { late } else { 0 });
}

/// The part of the time that the environment in a slot has had for itself.
fn share(bench: &Bench, slot: usize, since: u64) -> f64 {
    bench.environment(slot, EnvWord::RunTime) as f64 / (bench.machine.time.get() - since) as f64
}

#[test]
fn who_lets_others_wait_pays_with_its_slices() {
    for late in [SLICE / 1000, SLICE / 3, 5 * SLICE] {
        let mut bench = Bench::new();
        let victim = create(&mut bench, 300, 0, 100);
        start(&mut bench, victim, 3);
        let (tardy, since) = (bench.name(0), bench.machine.time.get());
        for _ in 0..4000 {
            end_slice(&mut bench, tardy, late);
        }
        let share = share(&bench, 1, since);
        assert!((0.495..0.505).contains(&share), "{share} of the time beside {late} ns");
    }
}

#[test]
fn where_all_are_late_who_is_later_pays() {
    for late in [SLICE / 2, 7 * SLICE, 40 * SLICE] {
        let mut bench = Bench::new();
        let victim = create(&mut bench, 300, 0, 100);
        start(&mut bench, victim, 3);
        let (tardy, since) = (bench.name(0), bench.machine.time.get());
        for _ in 0..4000 {
            let runs = bench.call(Call::Null {}).unwrap();
            bench.tick(4 * SLICE + if runs == tardy.0 { late } else { 0 });
        }
        let share = share(&bench, 1, since);
        assert!((0.495..0.505).contains(&share), "{share} of the time beside {late} ns");
    }
}

#[test]
fn who_is_alone_has_all_slices() {
    let mut bench = Bench::new();
    let (own, since) = (bench.name(0), bench.machine.time.get());
    for _ in 0..100 {
        end_slice(&mut bench, own, 3 * SLICE);
        assert!(!bench.idle());
    }
    assert!(share(&bench, 0, since) > 0.99);
}

#[test]
fn who_lends_its_slices_pays_for_whom_it_lends_them_to() {
    let mut bench = Bench::new();
    let (victim, friend) = (create(&mut bench, 300, 0, 100), create(&mut bench, 300, 0, 100));
    start(&mut bench, victim, 3);
    start(&mut bench, friend, 5);
    let back = |position| Call::Slice { cpu: 0, position, environment: NOBODY, capability: 0 };
    bench.call(back(5)).unwrap();
    bench.call(Call::Yield { target: friend, keeper: EnvName::NONE }).unwrap();
    bench.call(Call::Sleep { until: u64::MAX, keeper: EnvName::ANYBODY }).unwrap();
    while bench.call(Call::Null {}) != Ok(bench.name(0).0) {
        bench.tick(SLICE);
    }
    let (mode, until) = (TransferMode::Synchronous, u64::MAX);
    let _ = bench.call(Call::Transfer { target: friend, mode, until, keeper: EnvName::NONE });
    let (since, before) = (bench.machine.time.get(), bench.environment(1, EnvWord::RunTime));
    for _ in 0..4000 {
        end_slice(&mut bench, friend, SLICE / 3);
    }
    let had = bench.environment(1, EnvWord::RunTime) - before;
    let share = had as f64 / (bench.machine.time.get() - since) as f64;
    assert!((0.495..0.505).contains(&share), "{share} of the time");
}

#[test]
fn a_parent_pays_for_children_that_end_in_debt() {
    let mut bench = Bench::new();
    let victim = create(&mut bench, 300, 0, 100);
    start(&mut bench, victim, 3);
    let child = create(&mut bench, 300, 0, 100);
    start(&mut bench, child, 5);
    while bench.call(Call::Null {}) != Ok(child.0) {
        bench.tick(SLICE);
    }
    bench.tick(5 * SLICE + SLICE / 2);
    while bench.call(Call::Null {}) != Ok(bench.name(0).0) {
        bench.tick(SLICE);
    }
    let end = Call::EnvironmentDestroy { environment: child, capability: 0, code: 0 };
    bench.call(end).unwrap();
    let before = bench.environment(1, EnvWord::RunTime);
    bench.tick(SLICE);
    // Of the four and a half slices that are owed, one was paid while the child still was.
    for _ in 0..4 {
        assert_eq!(bench.call(Call::Null {}), Ok(victim.0));
        bench.tick(SLICE);
    }
    assert!(bench.environment(1, EnvWord::RunTime) - before >= 4 * SLICE);
}

#[test]
fn sleepers_disturb_whoever_runs_a_few_times_in_a_slice() {
    let mut bench = Bench::new();
    let runs = create(&mut bench, 300, 0, 100);
    start(&mut bench, runs, 3);
    let mut ticks = 0;
    // The first wakes time and again, and sleeps at once.
    for _ in 0..100 {
        if bench.call(Call::Null {}) == Ok(bench.name(0).0) {
            let until = bench.machine.time.get() + 1000;
            bench.call(Call::Sleep { until, keeper: EnvName::NONE }).unwrap();
        }
        let (now, alarm) = (bench.machine.time.get(), bench.machine.alarm.get());
        bench.tick(alarm - now);
        ticks += 1;
    }
    let elapsed = bench.environment(1, EnvWord::RunTime) / SLICE;
    assert!(ticks <= 6 * elapsed, "{ticks} ticks in {elapsed} slices");
}

#[test]
fn who_moves_from_position_to_position_has_no_more_than_who_stays() {
    let mut bench = Bench::new();
    let victim = create(&mut bench, 300, 0, 100);
    start(&mut bench, victim, LAST);
    let (own, since) = (bench.name(0), bench.machine.time.get());
    let slice =
        |position, environment| Call::Slice { cpu: 0, position, environment, capability: 0 };
    let mut position = 0;
    for _ in 0..4000 {
        if bench.call(Call::Null {}) == Ok(own.0) {
            bench.call(slice(position, NOBODY)).unwrap();
            position = (position + 1) % LAST;
            bench.call(slice(position, own)).unwrap();
        }
        bench.tick(SLICE);
    }
    let share = share(&bench, 1, since);
    assert!(share > 0.495, "{share} of the time");
}

#[test]
fn nobody_is_run_elsewhere_when_its_own_slice_begins() {
    let mut bench = Bench::new();
    let [victim, thief, guest] = [0; 3].map(|_| create(&mut bench, 300, 0, 100));
    start(&mut bench, victim, 3);
    start_on(&mut bench, 1, thief, 0);
    let (environment, capability) = (guest, 0);
    let start =
        Call::EnvironmentStart { environment, capability, entry: DATA, stack: 0, argument: 0 };
    bench.call(start).unwrap();
    bench.on(1).tick(1);
    assert_eq!(bench.call(Call::Null {}), Ok(thief.0));
    // Just before the slice on the first CPU ends, behind which the victim's comes.
    let to = |target| Call::Yield { target, keeper: EnvName::NONE };
    assert_eq!(bench.call(to(victim)), Err(Error::NotRunnable));
    let later = EnvName::new(victim.index() as u32, victim.generation() + 1);
    assert_eq!(bench.call(to(later)), Err(Error::NoEnvironment));
    for _ in 0..2 {
        bench.on(0).tick(SLICE);
    }
    assert_eq!(bench.call(Call::Null {}), Ok(victim.0));
    // One without slices runs anywhere.
    bench.on(1).tick(0);
    bench.call(to(guest)).unwrap();
    assert_eq!(bench.state(guest.index()), EnvState::Running);
}
