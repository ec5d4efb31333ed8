//! broker: asks other programs for frames back, by the abort protocol, holds what it was promised
//! until the debt is paid, and returns it, so that it can go on for ever. Who answers surrenders
//! frames of its choice; from who doesn't, the kernel takes them when the notice is over.
//!
//! That a program may do this is a matter of one capability. There is no policy of the kernel in
//! it: who is asked, for how much and how often stands here and in the arguments.
//!
//! Arguments: `victims=LABEL,LABEL`, `frames=N` in use to ask for, `notice=MILLISECONDS`,
//! `period=MILLISECONDS` between two rounds, `rounds=N` (0: for ever), `report=ROUNDS` between two
//! lines for each victim.
#![no_std]
#![no_main]

extern crate alloc;

mod victim;

use alloc::vec::Vec;
use exo_user::time::{self, MILLISECOND};
use exo_user::{Start, environment, println};
use victim::Victim;

exo_user::program!(main);

/// How often the debts are looked at, in nanoseconds.
const LOOK: u64 = MILLISECOND;
/// How long after its deadline a debt must be paid, by choice or by force, in nanoseconds.
const PATIENCE: u64 = 1000 * MILLISECOND;

fn main(start: &Start<'_>) -> u64 {
    let labels = start.argument("victims").unwrap_or("");
    let mut victims: Vec<Victim<'_>> = labels.split(',').map(Victim::new).collect();
    let (count, rounds) = (start.number("frames", 4), start.number("rounds", 0));
    let notice = start.number("notice", 10) * MILLISECOND;
    let period = start.number("period", 10) * MILLISECOND;
    let report = start.number("report", 100).max(1);
    println!("broker: {count} frames at a time from {labels}");
    let mut round = 0;
    while rounds == 0 || round < rounds {
        let begin = time::now();
        victims.iter_mut().for_each(|victim| victim.ask(count, notice));
        wait_for(&victims, begin + notice + PATIENCE);
        victims.iter_mut().for_each(Victim::settle);
        round += 1;
        if round == 1 || round.is_multiple_of(report) || round == rounds {
            victims.iter().filter(|victim| victim.asks > 0).for_each(|victim| println!("{victim}"));
        }
        while time::now() < begin + period {
            environment::sleep(begin + period);
        }
    }
    u64::from(victims.iter().any(|victim| victim.unpaid > 0))
}

/// Waits until nobody owes anything, but not longer than until `deadline`.
fn wait_for(victims: &[Victim<'_>], deadline: u64) {
    while time::now() < deadline && victims.iter().any(|victim| victim.debt() > 0) {
        environment::sleep(time::now() + LOOK);
    }
}
