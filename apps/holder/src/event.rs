//! Upcalls: noted when they come, told when there is time.

use crate::page;
use crate::policy::Policy;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libos_net::exo_user::abi::upcall::{FaultCode, PAGE_FAULT};
use libos_net::exo_user::upcall::{self, Handlers, Interrupted};
use libos_net::exo_user::{Error, println, time};

/// The pages of the upcall stack.
const STACK_PAGES: u64 = 2;
/// How many upcalls can wait to be told. What is more is not told.
const ROOM: usize = 64;

/// What is told: the time in nanoseconds times four, and which of [`WORDS`].
static NOTES: [AtomicU64; ROOM] = [const { AtomicU64::new(0) }; ROOM];
static NOTED: AtomicU64 = AtomicU64::new(0);
static TOLD: AtomicU64 = AtomicU64::new(0);
const WORDS: [&str; 3] = ["upcall-ask", "upcall-lost", "fault"];

static LISTENING: Handlers = Handlers { revoke: Some(|_| note(0)), ..DEAF };
static DEAF: Handlers =
    Handlers { exception: on_exception, lost: Some(|_| note(1)), ..Handlers::NONE };

/// Installs the handlers.
///
/// # Errors
/// As [`upcall::install_with_stack`].
pub(crate) fn install(policy: Policy) -> Result<(), Error> {
    upcall::install_with_stack(STACK_PAGES, if policy.listens() { &LISTENING } else { &DEAF })
}

fn note(word: u64) {
    let place = NOTED.load(Relaxed);
    if place - TOLD.load(Relaxed) < ROOM as u64 {
        NOTES[place as usize % ROOM].store(time::now() << 2 | word, Relaxed);
        NOTED.store(place + 1, Relaxed);
    }
}

/// Lets the program go on where it has touched a page whose frame is gone. Any other exception ends
/// it.
fn on_exception(interrupted: &mut Interrupted) {
    let frame = &interrupted.frame;
    let lost = FaultCode::from_bits_truncate(frame.code).contains(FaultCode::LOST);
    if frame.cause == PAGE_FAULT && lost && page::cover(frame.address).is_ok() {
        return note(2);
    }
    if frame.cause == PAGE_FAULT && !lost && page::rebind(frame.address).is_ok() {
        return;
    }
    upcall::end_with_report(interrupted);
}

/// Prints what was noted.
pub(crate) fn report() {
    while TOLD.load(Relaxed) < NOTED.load(Relaxed) {
        let place = TOLD.load(Relaxed);
        let note = NOTES[place as usize % ROOM].load(Relaxed);
        TOLD.store(place + 1, Relaxed);
        println!("@lab {} {}", note >> 2, WORDS[(note & 3) as usize]);
    }
}
