//! Rule: whoever tries to enter those who let nobody in keeps them from none of their slices.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::calls::TransferMode;
use exo_user::{Call, EnvName, Kind, Start, call, contract, environment, println, tables, time};
use guest_probes::attempt;
use guest_probes::fork::{Fork, Meeting};
use guest_probes::rule::{granted, holds};

exo_user::program!(main);

/// How often this program gives its slices up, on the processor of its child.
const ROUNDS: u64 = 20_000;
/// Which part of its turns the child may miss, by ticks.
const MISSED: u64 = 50;
/// The word of the meeting page: how often the child had its turn.
const TURNS: usize = 0;

/// Gives way for ever, and counts.
extern "sysv64" fn victim(_: u64) -> ! {
    loop {
        Meeting::word(TURNS).fetch_add(1, SeqCst);
        let _ = environment::yield_to(EnvName::NONE);
    }
}

/// Tries to enter the victim for ever.
extern "sysv64" fn crasher(target: u64) -> ! {
    let (target, mode) = (EnvName(target), TransferMode::Asynchronous);
    let transfer = Call::Transfer { target, mode, until: 0, keeper: EnvName::NONE };
    loop {
        // SAFETY: it touches no memory; nobody is let in.
        let _ = unsafe { call::give_up(transfer) };
    }
}

/// The processor of this program's slices.
fn home() -> u32 {
    let (own, positions) = (contract::name().0, tables::system().positions as usize);
    let held = tables::slices().iter().find(|(_, entry)| entry.holder == own);
    (held.map_or(0, |(place, _)| place) / positions) as u32
}

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    let meeting = Meeting::open();
    let (home, cpus) = (home(), tables::system().cpus as u32);
    let victim = Fork::start(start, Some(meeting), &[home], victim, 0);
    let mut others = (1..cpus.min(4)).map(|other| (home + other) % cpus);
    let crashers: [Option<Fork>; 3] = core::array::from_fn(|_| {
        Some(Fork::start(start, None, &[others.next()?], crasher, victim.name.0))
    });
    let end = time::now() + 10 * time::SECOND;
    while Meeting::word(TURNS).load(SeqCst) == 0 && time::now() < end {
        granted("to give way", environment::yield_to(EnvName::NONE));
    }
    let before = Meeting::word(TURNS).load(SeqCst);
    for _ in 0..ROUNDS {
        granted("to give way", environment::yield_to(EnvName::NONE));
    }
    let turns = Meeting::word(TURNS).load(SeqCst) - before;
    // Of the positions on its processor the child has one, and this program the others.
    let wanted = ROUNDS / contract::account(Kind::Slices).held;
    println!("{turns} turns of {wanted}");
    holds(format_args!("{turns} turns of {wanted}"), turns + wanted / MISSED >= wanted);
    crashers.into_iter().flatten().for_each(Fork::end);
    victim.end();
    0
}
