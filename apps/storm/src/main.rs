//! storm: asks other programs for what they hold, again and again, and gives the right to hold it
//! back after a while. What it does and what came of it are lines for `cargo xtask lab`.
//!
//! Arguments: `storms=STORM;STORM...`, each `FROM,FROM:PICK:KIND:AT:EVERY:TIMES:LEAST:MOST:DEADLINE:KEEP`
//! with times in milliseconds. `PICK` is `all` (ask each of them, each time) or `one` (ask one of
//! them, at random). `tail=MILLISECONDS` to go on after the last is paid.
#![no_std]
#![no_main]

extern crate alloc;

mod ask;
mod plan;

use alloc::vec::Vec;
use ask::Ask;
use exo_user::time::{self, MILLISECOND};
use exo_user::{Start, environment, println};
use plan::{Random, Storm};

exo_user::program!(main);

/// How often the debts are looked at, in nanoseconds.
const LOOK: u64 = MILLISECOND / 2;
/// The exit code for arguments that make no sense.
const EXIT_USAGE: u64 = 2;

fn main(start: &Start<'_>) -> u64 {
    let text = start.argument("storms").unwrap_or("");
    let Some(mut storms) = plan::parse(text) else {
        println!("storm: storms= makes no sense: {text}");
        return EXIT_USAGE;
    };
    let mut random = Random(start.number("seed", start.seed));
    let begin = time::now();
    let mut asks: Vec<Ask> = Vec::new();
    let mut unpaid = 0;
    loop {
        let now = time::now();
        for storm in &mut storms {
            while storm.is_due(now - begin) {
                storm.victims(&mut random, |victim, count| {
                    asks.extend(Ask::make(victim, storm, count));
                });
            }
        }
        asks.retain_mut(|ask| !ask.look(time::now(), &mut unpaid));
        let next = storms.iter().filter_map(Storm::next).min();
        if next.is_none() && asks.is_empty() {
            break;
        }
        let soon = if asks.is_empty() { u64::MAX } else { now + LOOK };
        let next = next.map_or(u64::MAX, |next| begin + next);
        environment::sleep(soon.min(next));
    }
    environment::sleep(time::now() + start.number("tail", 30) * MILLISECOND);
    u64::from(unpaid > 0)
}
