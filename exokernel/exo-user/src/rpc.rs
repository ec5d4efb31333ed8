//! Remote procedure calls: words there and words back, in registers, with two control transfers.
//!
//! The server is an environment that serves ([`gate::serve`]). It runs on the caller's slices, and
//! the caller sleeps; when the answer comes the caller goes on, on what is left of the slice.
//!
//! A call is made at most once. While the server is busy, the caller gives it the CPU and tries
//! again. An event that comes in the middle is handled ([`upcall`](crate::upcall)), and the caller
//! waits on. An answer that comes after its deadline is dropped, by the ticket that it carries, and
//! is never taken for another's.

use crate::control::word;
use crate::gate::{self, Failure, Message, Rest, Rested, WORDS};
use crate::{contract, environment, time};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::calls::TransferMode;
use exo_abi::control::ControlWord;
use exo_abi::{EnvName, Error};

/// How long to wait, in nanoseconds, before looking again at a server that waits for something.
pub(crate) const NAP: u64 = 200_000;

fn next_ticket() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    // There is one thread of control, so that a load and a store do.
    let ticket = LAST.load(Relaxed).wrapping_add(1);
    LAST.store(ticket, Relaxed);
    ticket
}

/// Calls a server and waits for its answer until a time (nanoseconds since boot). All registers
/// that a function keeps are saved.
///
/// # Errors
/// [`Failure`]. After [`Failure::Ended`] and [`Failure::Deadline`] the call may have been made or
/// not.
pub fn call(server: EnvName, words: [u64; WORDS], until: u64) -> Result<[u64; WORDS], Failure> {
    let ticket = next_ticket();
    let mut message = Message { words, ticket };
    let rest = Rest::transfer(server, TransferMode::Synchronous, until);
    let rested = gate::exchange(&mut message, rest);
    if rested != Ok(Rested::Entered) || message.ticket != ticket {
        persist(server, &mut message, ticket, until, rested)?;
    }
    Ok(message.words)
}

/// As [`call`], with six words and no more saved than the caller itself needs.
///
/// # Errors
/// As [`call`].
#[inline]
pub fn call_lean(server: EnvName, words: [u64; 6], until: u64) -> Result<[u64; 6], Failure> {
    let (ticket, mut answer) = (next_ticket(), words);
    let mut found = ticket;
    let rest = Rest::transfer(server, TransferMode::Synchronous, until);
    let rested = gate::exchange_lean(&mut answer, &mut found, rest);
    if rested == Ok(Rested::Entered) && found == ticket {
        return Ok(answer);
    }
    let mut message = Message { ticket: found, ..Message::default() };
    // The same registers as there.
    let places = [0, 1, 2, 4, 5, 6];
    for (place, word) in places.into_iter().zip(words) {
        message.words[place] = word;
    }
    persist(server, &mut message, ticket, until, rested)?;
    Ok(places.map(|place| message.words[place]))
}

/// Goes on with a call that was not answered at once: `rested` is how its first rest ended.
#[cold]
fn persist(
    server: EnvName,
    message: &mut Message,
    ticket: u64,
    until: u64,
    mut rested: Result<Rested, Failure>,
) -> Result<(), Failure> {
    let transfer = Rest::transfer(server, TransferMode::Synchronous, until);
    let mut called = true;
    if let Err(failure) = rested {
        if server == contract::name() || !failure.is_busy() {
            return Err(failure);
        }
        called = false;
    }
    loop {
        if called && rested == Ok(Rested::Entered) && message.ticket == ticket {
            return Ok(());
        }
        match rested {
            Err(failure) if !failure.is_busy() => return Err(failure),
            _ if time::now() >= until => return Err(Failure::Deadline),
            Err(_) if !called => {
                step_aside(server);
                rested = gate::exchange(message, transfer);
                called = rested.is_ok();
            }
            // It neither runs here nor can: it waits for something.
            Err(_) => rested = gate::exchange(message, nap(until, NAP, server)),
            Ok(_) => rested = gate::exchange(message, Rest::give_way(server, server)),
        }
    }
}

/// A rest for a moment. Events that nobody takes would end a sleep at once.
pub(crate) fn nap(until: u64, longest: u64, keeper: EnvName) -> Rest {
    if word(ControlWord::Pending).load(Relaxed) != 0 {
        return Rest::give_way(EnvName::NONE, keeper);
    }
    Rest::sleep(until.min(time::now() + longest), keeper)
}

/// Gives the CPU to a server that is busy, or to whoever is next. Here nobody may enter: what came
/// would be no answer.
fn step_aside(server: EnvName) {
    if environment::yield_to(server) == Err(Error::NotRunnable) {
        // With nobody named the kernel has no reason to refuse.
        let _ = environment::yield_to(EnvName::NONE);
    }
}
