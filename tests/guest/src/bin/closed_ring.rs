//! Rule: who gives the CPU only to friends has no more of it: a ring of yields and of transfers,
//! in and out of epilogues, runs on its own slices.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::calls::TransferMode;
use exo_user::abi::control::ControlWord;
use exo_user::upcall::{self, Handlers, Interrupted};
use exo_user::{EnvName, Start, contract, control, environment, tables, time};
use guest_probes::attempt;
use guest_probes::exchange::{self, Registers, Rest};
use guest_probes::fork::{Fork, Meeting};
use guest_probes::rule::{granted, holds};

exo_user::program!(main);

/// The children of a ring; the word of the meeting page with this index names each.
const RING: usize = 3;
/// How long the rings turn.
const TURNING: u64 = 60 * time::MILLISECOND;
/// How long an honest sleeper may have to wait beyond its time, with four positions in turn.
const BOUND: u64 = 20 * time::MILLISECOND;

static HANDLERS: Handlers =
    Handlers { exception: attempt::caught, slice_end: Some(hand_on), ..Handlers::NONE };

fn next(index: u64) -> EnvName {
    EnvName(Meeting::word((index as usize + 1) % RING).load(SeqCst))
}

fn own_index() -> u64 {
    let own = contract::name().0;
    (0..RING as u64).find(|&index| Meeting::word(index as usize).load(SeqCst) == own).unwrap_or(0)
}

/// In the epilogue, everything goes to a friend but the end of the slice.
fn hand_on(_: &mut Interrupted) {
    let _ = environment::yield_to(next(own_index()));
    pass(next(own_index()));
}

fn pass(target: EnvName) {
    let mut registers = Registers { words: [0; exchange::WORDS], caller: 0, vectors: [[0; 2]; 16] };
    let rest = Rest::Transfer(target, TransferMode::Asynchronous, 0);
    exchange::rest(&mut registers, rest, EnvName::ANYBODY);
}

extern "sysv64" fn yields(index: u64) -> ! {
    loop {
        let _ = environment::yield_to(next(index));
    }
}

extern "sysv64" fn transfers(index: u64) -> ! {
    granted("an upcall stack", upcall::install_with_stack(4, &HANDLERS));
    loop {
        pass(next(index));
    }
}

/// Transfers in a ring that anybody may enter, with its events never held back.
extern "sysv64" fn told(index: u64) -> ! {
    granted("an upcall stack", upcall::install_with_stack(4, &HANDLERS));
    loop {
        pass(next(index));
        control::word(ControlWord::Mask).store(0, SeqCst);
        (0..20_000).for_each(|_| core::hint::black_box(()));
    }
}

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    let meeting = Meeting::open();
    for entry in [yields, transfers, told] {
        let ring: [Fork; RING] = core::array::from_fn(|index| {
            Fork::start(start, Some(meeting), &[0], entry, index as u64)
        });
        for (index, fork) in ring.iter().enumerate() {
            Meeting::word(index).store(fork.name.0, SeqCst);
        }
        let end = time::now() + TURNING;
        while time::now() < end {
            control::word(ControlWord::Pending).store(0, SeqCst);
            let until = time::now() + time::MILLISECOND;
            environment::sleep(until);
            let late = time::now().saturating_sub(until);
            holds(format_args!("woken {} us late", late / 1000), late < BOUND);
        }
        let ran: u64 = ring
            .iter()
            .map(|fork| {
                tables::environment_named(fork.name)
                    .map_or(0, |entry| entry.transfers + entry.calls)
            })
            .sum();
        holds("the ring has turned", ran > RING as u64);
        ring.into_iter().for_each(Fork::end);
    }
    0
}
