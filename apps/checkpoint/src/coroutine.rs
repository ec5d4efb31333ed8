//! The computation's own thread of control: a stack in the region, and a way in and out.
//!
//! While it does not run, everything that it is stands in the region: its registers on its stack, and
//! the stack pointer in a word. So the region alone can be saved, and gone on with elsewhere.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The stack pointer of whoever has resumed the computation.
static OUTSIDE: AtomicU64 = AtomicU64::new(0);
/// Where the computation's own goes.
static INSIDE: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());

/// The words that [`switch`] leaves on a stack: six registers, and where to go on.
const SAVED: usize = 7;

/// Saves the registers that a called function must keep, exchanges the stacks, and restores those of
/// the other side. The vector unit's control word is the same on both.
///
/// # Safety
/// `to` is a stack pointer that an earlier switch has stored, or one to a stack made like that; `save`
/// can be written to.
// SAFETY: the body keeps the calling convention: what it pushes here, it pops on the way back.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch(save: *mut u64, to: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Prepares a stack on which a function is about to start. Returns its stack pointer.
pub(crate) fn prepare(stack: &mut [u64], entry: extern "sysv64" fn() -> !) -> Option<u64> {
    // As if the function had been called: the place of a return address, which it never uses.
    let (_, top) = stack.split_at_mut_checked(stack.len().checked_sub(SAVED + 1)?)?;
    top.fill(0);
    top[SAVED - 1] = entry as *const () as u64;
    Some(top.as_ptr() as u64)
}

/// Lets the computation run until its next [`pause`].
///
/// # Safety
/// `stack_pointer` holds what [`prepare`] or the last [`pause`] has left there, the stack behind it
/// is as it was then, and this is not called by the computation itself.
pub(crate) unsafe fn resume(stack_pointer: *mut u64) {
    INSIDE.store(stack_pointer, Ordering::Relaxed);
    // SAFETY: the caller answers for the stack; the way back is by `pause`.
    unsafe { switch(OUTSIDE.as_ptr(), stack_pointer.read()) }
}

/// Gives way to whoever has resumed the computation. Only the computation may call it.
pub(crate) fn pause() {
    // SAFETY: `resume` has set both, and its stack waits for this.
    unsafe { switch(INSIDE.load(Ordering::Relaxed), OUTSIDE.load(Ordering::Relaxed)) }
}
