//! The measure of what others can do to a program: the work that it gets done in each of its slices,
//! and what it has of its processor's time.
#![no_std]
#![no_main]

use exo_user::{Start, contract, println, tables, time};

exo_user::program!(main);

/// The first slice is not whole, and in the next ones the attackers may not have begun.
const SKIPPED: u64 = 10;

/// The processor on which it has its slice, and how many of the positions there are somebody's who
/// does not sleep all the time.
fn place() -> (usize, usize) {
    let (own, positions) = (contract::name().0, tables::system().positions as usize);
    let init = tables::environments().get(0).map_or(0, |entry| entry.name);
    let holder = |index| tables::slices().get(index).map_or(0, |entry| entry.holder);
    let first = (0..tables::slices().len()).find(|&index| holder(index) == own).unwrap_or(0);
    let first = first - first % positions;
    let held = |index: &usize| ![0, init].contains(&holder(*index));
    (first / positions, (first..first + positions).filter(held).count())
}

fn main(start: &Start<'_>) -> u64 {
    let (slices, cpu) = (start.number("slices", 50), place().0);
    // It changes when others have run in between.
    let switches = || tables::counters().get(cpu).map_or(0, |counters| counters.switches);
    let (mut last, mut done, mut work) = (switches(), 0, 0_u64);
    let mut began = (0, 0);
    while done < slices + SKIPPED {
        work += 1;
        for turn in 0..20 {
            core::hint::black_box(turn);
        }
        let now = switches();
        if now != last {
            (last, done) = (now, done + 1);
            if done == SKIPPED {
                (work, began) = (0, (time::now(), tables::run_time(contract::name())));
            }
        }
    }
    let ran = tables::run_time(contract::name()) - began.1;
    let (elapsed, positions) = (time::now() - began.0, place().1);
    println!("work {work} slices {slices} ran {ran} elapsed {elapsed} positions {positions}");
    0
}
