//! Memory that may be gone: a copy that comes back with an answer when it faults.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use exo_user::Error;
use exo_user::abi::upcall::{FaultCode, PAGE_FAULT};
use exo_user::upcall::{self, Handlers, Interrupted};

/// Why a page cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gone {
    /// The frame behind it was taken.
    Lost,
    /// It is not bound: never, or the software TLB had no place for it any more.
    Unbound,
}

/// The code of the last fault in [`copy_words`].
static CODE: AtomicU64 = AtomicU64::new(0);
/// Whether losses were announced since this was last asked.
static LOST: AtomicBool = AtomicBool::new(false);

/// Deaf: `revoke` has no handler.
static HANDLERS: Handlers =
    Handlers { exception: on_exception, lost: Some(on_lost), ..Handlers::NONE };

/// Installs the handlers, on an upcall stack of this many pages.
///
/// # Errors
/// As [`upcall::install_with_stack`].
pub(crate) fn install(pages: u64) -> Result<(), Error> {
    upcall::install_with_stack(pages, &HANDLERS)
}

/// Says whether losses were announced since this was last asked.
pub(crate) fn take_lost() -> bool {
    LOST.swap(false, Ordering::Relaxed)
}

fn on_lost(_: &mut Interrupted) {
    LOST.store(true, Ordering::Relaxed);
}

/// Lets [`copy_words`] return 1 where it has faulted. Any other exception ends the program.
fn on_exception(interrupted: &mut Interrupted) {
    let frame = &mut interrupted.frame;
    if frame.cause != PAGE_FAULT || frame.rip != copy_words as *const () as u64 {
        return upcall::end_with_report(interrupted);
    }
    CODE.store(frame.code, Ordering::Relaxed);
    // SAFETY: the fault is in the first instruction of `copy_words`, where the stack pointer is at
    // the return address.
    frame.rip = unsafe { (frame.rsp as *const u64).read() };
    frame.rsp += 8;
    frame.rax = 1;
}

/// Copies words and returns 0, or 1 if that faults. The first instruction is the one that can
/// fault, so that its address is known; `count` is the fourth argument, since that is in `rcx`.
///
/// # Safety
/// What is written is memory of the caller's to which nothing refers, or none at all.
// SAFETY: the body uses no register that a function keeps, and returns.
#[unsafe(naked)]
unsafe extern "C" fn copy_words(to: u64, from: u64, unused: u64, count: u64) -> u64 {
    naked_asm!("rep movsq", "xor eax, eax", "ret")
}

fn answer(copied: u64) -> Result<(), Gone> {
    match copied {
        0 => Ok(()),
        _ if CODE.load(Ordering::Relaxed) & FaultCode::LOST.bits() != 0 => Err(Gone::Lost),
        _ => Err(Gone::Unbound),
    }
}

/// Reads the words from an address on.
///
/// # Errors
/// [`Gone`], if they are not all there.
pub(crate) fn read(address: u64, words: &mut [u64]) -> Result<(), Gone> {
    // SAFETY: the words are borrowed for this.
    answer(unsafe { copy_words(words.as_mut_ptr() as u64, address, 0, words.len() as u64) })
}

/// Writes words from an address on, in the hoard.
///
/// # Errors
/// [`Gone`], if the place is not there.
pub(crate) fn write(address: u64, words: &[u64]) -> Result<(), Gone> {
    // SAFETY: the hoard keeps no reference to its pages.
    answer(unsafe { copy_words(address, words.as_ptr() as u64, 0, words.len() as u64) })
}
