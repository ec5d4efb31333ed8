//! Rule: control is transferred only to who is at rest, by whom it lets in.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::calls::{Number, TransferMode};
use exo_user::abi::control::ControlWord;
use exo_user::abi::tables::EnvState;
use exo_user::{
    Call, EnvName, Error, Registers, Start, call, capability, contract, control, environment, time,
};
use guest_probes::exchange::{self, Registers as Words, Rest, Rested, WORDS};
use guest_probes::fork::{Fork, Meeting};
use guest_probes::rule::{granted, holds, refused_raw, same};
use guest_probes::{attempt, neighbour};

exo_user::program!(main);

/// How many strangers are let in, one after the other.
const STRANGERS: u64 = 8;
const MODES: [TransferMode; 3] =
    [TransferMode::Asynchronous, TransferMode::Synchronous, TransferMode::Reply];
/// The words of the meeting page: which stranger is let in, and up to which one it was tried.
const OPEN: usize = 0;
const TRIED: usize = 1;

fn transfer(target: EnvName, mode: TransferMode, patience: u64) -> Result<u64, Error> {
    let until = time::now() + patience;
    let keeper = EnvName::NONE;
    // SAFETY: it touches no memory; nobody is let in.
    unsafe { call::give_up(Call::Transfer { target, mode, until, keeper }) }
}

/// Keepers that are not this environment: nobody, its slot in other generations and others' slots.
fn strangers(not: EnvName) -> [EnvName; STRANGERS as usize] {
    let (index, generation) = (not.index() as u32, not.generation());
    [
        EnvName::NONE,
        EnvName::new(index, generation + 1),
        EnvName::new(index, generation - 1),
        EnvName::new(index + 1, generation),
        EnvName::new(200, 1),
        EnvName::new(u32::MAX, generation),
        EnvName::new(index, u32::MAX),
        EnvName(u64::MAX - 1),
    ]
}

/// Lets one stranger in after the other, then its parent, and ends when that has come.
extern "sysv64" fn liar(parent: u64) -> ! {
    let mut words = Words { words: [0; WORDS], caller: 0, vectors: [[0; 2]; 16] };
    for (index, keeper) in (1..).zip(strangers(EnvName(parent))) {
        Meeting::word(OPEN).store(index, SeqCst);
        while Meeting::word(TRIED).load(SeqCst) < index {
            let rest = Rest::Sleep(time::now() + time::MILLISECOND);
            let rested = exchange::rest(&mut words, rest, keeper);
            holds("nobody has that name", rested == Rested::Woken);
        }
    }
    let rested = exchange::rest(&mut words, Rest::Sleep(time::NEVER), EnvName(parent));
    environment::exit(u64::from(rested == Rested::Entered(EnvName(parent))))
}

/// Asks for ever, whoever does not answer.
extern "sysv64" fn asker(target: u64) -> ! {
    loop {
        for mode in MODES {
            let _ = transfer(EnvName(target), mode, 50_000);
        }
    }
}

/// Tries one that rests for a stranger.
fn shut(fork: &Fork, index: u64) {
    while Meeting::word(OPEN).load(SeqCst) < index {
        environment::sleep(time::now() + 100_000);
    }
    let mut refused = 0;
    while refused < 20 {
        match transfer(fork.name, MODES[refused % 3], 1_000_000) {
            Err(Error::GateClosed) => refused += 1,
            Err(Error::NotRunnable) => granted("to wait", environment::yield_to(EnvName::NONE)),
            other => holds(format_args!("who rests for stranger {index} gives {other:?}"), false),
        }
    }
    Meeting::word(TRIED).store(index, SeqCst);
}

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    let own = contract::name();
    for mode in MODES {
        same("to itself", transfer(own, mode, 0), Err(Error::NotRunnable));
        same("to nobody", transfer(EnvName(u64::MAX), mode, 0), Err(Error::NoEnvironment));
        same("to no name", transfer(EnvName::NONE, mode, 0), Err(Error::NoEnvironment));
        same("to one not yet", transfer(EnvName::new(0, 7), mode, 0), Err(Error::NoEnvironment));
        let first = transfer(neighbour::first(), mode, 0);
        let known = [Err(Error::GateClosed), Err(Error::NotRunnable)];
        holds(format_args!("the first program: {first:?}"), known.contains(&first));
    }
    let number = Number::Transfer as u64;
    for mode in [3, 1 << 32, u64::MAX] {
        refused_raw(Registers { number, arguments: [own.0, mode, 0, 0, 0, 0] }, Error::BadArgument);
    }
    let meeting = Some(Meeting::open());
    let liar = Fork::start(start, meeting, &[0], liar, own.0);
    for index in 1..=STRANGERS {
        shut(&liar, index);
    }
    // It ends while this one waits for it: that is told at once.
    let began = time::now();
    loop {
        match transfer(liar.name, TransferMode::Synchronous, 10 * time::SECOND) {
            Err(Error::StaleEnvironment) => break,
            Err(Error::GateClosed | Error::NotRunnable) => {
                granted("to wait", environment::yield_to(EnvName::NONE));
            }
            other => holds(format_args!("whom it waits for has ended: {other:?}"), false),
        }
    }
    holds("at once", time::now() < began + 5 * time::SECOND);
    same("its end", liar.end_code(), Some(1));
    same("ended", transfer(liar.name, TransferMode::Reply, 0), Err(Error::WrongState));
    let name = liar.name;
    liar.end();
    same("gone", transfer(name, TransferMode::Reply, 0), Err(Error::StaleEnvironment));
    // Somebody hammers at one that lets nobody in, and is ended in the midst of it.
    let asker = Fork::start(start, None, &[0], asker, own.0);
    for _ in 0..50 {
        let until = time::now() + time::MILLISECOND;
        control::word(ControlWord::Pending).store(0, SeqCst);
        environment::sleep(until);
        holds("a sleep lasts", time::now() >= until);
    }
    holds("it goes on", asker.state() != Some(EnvState::Ended));
    asker.end();
    same("a slot without a name", environment::destroy(name, capability::OWN, 0).is_err(), true);
    0
}
