//! Rule: control is transferred only to who rests behind an open gate, and enters a program only.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::calls::{Number, TransferMode};
use exo_user::abi::control::{ANYBODY, ControlWord};
use exo_user::abi::layout::{CONTROL, USER_END};
use exo_user::abi::tables::EnvState;
use exo_user::{
    Call, EnvName, Error, Registers, Start, call, capability, contract, control, environment, time,
};
use guest_probes::exchange::{self, Registers as Words, Rest, Rested};
use guest_probes::fork::{Fork, Meeting};
use guest_probes::rule::{granted, holds, refused_raw, same};
use guest_probes::{attempt, neighbour};

exo_user::program!(main);

/// Gates that are none of a program's: null, the pages that the kernel shares, the hole, the kernel.
const GATES: [u64; 7] =
    [0, 8, USER_END, CONTROL, 0x8000_0000_0000, 0xffff_ffff_8010_0000, u64::MAX];
const MODES: [TransferMode; 3] =
    [TransferMode::Asynchronous, TransferMode::Synchronous, TransferMode::Reply];
/// The words of the meeting page: the gate that is tried, and up to which one it was.
const OPEN: usize = 0;
const TRIED: usize = 1;

fn transfer(target: EnvName, mode: TransferMode, patience: u64) -> Result<u64, Error> {
    let until = time::now() + patience;
    // SAFETY: it touches no memory; the gate of the program is closed.
    unsafe { call::give_up(Call::Transfer { target, mode, until }) }
}

/// Opens one wrong gate after the other, then one that is another's, then one for its parent, and
/// ends when that has come in.
extern "sysv64" fn liar(keeper: u64) -> ! {
    for (index, gate) in (1..).zip(GATES) {
        control::word(ControlWord::Keeper).store(ANYBODY, SeqCst);
        control::word(ControlWord::Gate).store(gate, SeqCst);
        Meeting::word(OPEN).store(index, SeqCst);
        while Meeting::word(TRIED).load(SeqCst) < index {
            environment::sleep(time::now() + time::MILLISECOND);
        }
    }
    control::word(ControlWord::Gate).store(0, SeqCst);
    let mut words = Words { words: [0; 9], caller: 0, vectors: [[0; 2]; 16] };
    Meeting::word(OPEN).store(8, SeqCst);
    while Meeting::word(TRIED).load(SeqCst) < 8 {
        let rest = Rest::Sleep(time::now() + time::MILLISECOND);
        let rested = exchange::rest(&mut words, rest, EnvName(1 << 32 | 200));
        holds("nobody has that name", rested == Rested::Woken);
    }
    let rested = exchange::rest(&mut words, Rest::Sleep(time::NEVER), EnvName(keeper));
    environment::exit(u64::from(rested == Rested::Entered(EnvName(keeper))))
}

/// Asks for ever, whoever does not answer.
extern "sysv64" fn asker(target: u64) -> ! {
    loop {
        for mode in MODES {
            let _ = transfer(EnvName(target), mode, 50_000);
        }
    }
}

/// Tries a gate that must not let anybody in, while its owner rests behind it.
fn shut(what: u64, fork: &Fork, index: u64) {
    while Meeting::word(OPEN).load(SeqCst) < index {
        environment::sleep(time::now() + 100_000);
    }
    let mut refused = 0;
    while refused < 20 {
        match transfer(fork.name, MODES[refused % 3], 1_000_000) {
            Err(Error::GateClosed) => refused += 1,
            Err(Error::NotRunnable) => granted("to wait", environment::yield_to(EnvName::NONE)),
            other => holds(format_args!("the gate {what:#x} gives {other:?}"), false),
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
    for (index, gate) in (1..).zip(GATES) {
        shut(gate, &liar, index);
    }
    shut(1, &liar, 8);
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
    // Somebody hammers at a closed gate, and is ended in the midst of it.
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
