//! holder: takes all that its contract allows, works with it, and answers who asks for it back by
//! the policy in its arguments. What happens to it are lines for `cargo xtask lab`.
//!
//! Arguments: `policy=cooperative|slow|deaf|lying|greedy|dying`; `frames=N`, `slices=N`, `filters=N`,
//! `rings=N` to hold at most; `delay=MILLISECONDS` until a slow one answers; `port=N` that its filters
//! are for; `asks=N` after how many a dying one ends.
#![no_std]
#![no_main]

extern crate alloc;

mod event;
mod lie;
mod page;
mod policy;
mod stock;

use libos_net::exo_user::abi::upcall::Event;
use libos_net::exo_user::time::{self, MILLISECOND};
use libos_net::exo_user::{Kind, Start, contract, control, environment, println, program};
use policy::Policy;
use stock::Stock;

program!(main);

/// How long it rests between two rounds, in nanoseconds.
const REST: u64 = MILLISECOND;
/// How long all but the greedy leave it at what they have, in nanoseconds.
const MODESTY: u64 = 15 * MILLISECOND;
/// The exit code for arguments that make no sense.
const EXIT_USAGE: u64 = 2;
/// The exit code where a page holds what nobody put there, or a lie was believed.
const EXIT_BROKEN: u64 = 3;

fn main(start: &Start<'_>) -> u64 {
    let Some(policy) = start.argument("policy").and_then(Policy::named) else {
        println!("holder: policy= has to be one of {}", policy::names());
        return EXIT_USAGE;
    };
    if let Err(error) = event::install(policy) {
        println!("holder: no upcall stack: {error:?}");
        return EXIT_BROKEN;
    }
    match run(start, policy) {
        Ok(()) => 0,
        Err(broken) => {
            println!("holder: {broken}");
            EXIT_BROKEN
        }
    }
}

/// Holds and answers until there is nothing more to do: for most policies, for ever.
fn run(start: &Start<'_>, policy: Policy) -> Result<(), &'static str> {
    let mut stock = Stock::new(start)?;
    let delay = start.number("delay", 30) * MILLISECOND;
    let last = start.number("asks", 1);
    let mut asked_since = None;
    let mut filled = 0;
    loop {
        let now = time::now();
        event::report();
        stock.count_losses(now);
        let debt: u64 = Kind::ALL.iter().map(|&kind| contract::debt(kind)).sum();
        asked_since = if debt > 0 { asked_since.or(Some(now)) } else { None };
        let asks: u64 = Kind::ALL.iter().map(|&kind| contract::account(kind).asks).sum();
        match policy {
            Policy::Dying if asks >= last => {
                println!("@lab {now} dies {asks}");
                return Ok(());
            }
            Policy::Lying => lie::tell(&stock)?,
            _ => {}
        }
        if asked_since.is_some_and(|since| policy.answers(now - since, delay)) {
            stock.pay();
        }
        if debt == 0 && (policy == Policy::Greedy || now >= filled + MODESTY) {
            filled = now;
            stock.fill();
        }
        stock.work()?;
        // Who has no handler for an event has to forget it, or it would keep it awake.
        if !policy.listens() {
            control::take(Event::Revoke);
        }
        let answer = asked_since.map_or(u64::MAX, |since| since + delay);
        let wake = if answer > now { answer.min(now + REST) } else { now + REST };
        environment::sleep(wake);
    }
}
