//! The `syscall` instruction.
//!
//! [`exo_abi::calls`] says what each call does. The modules named after nouns wrap the calls; this
//! one is for what they don't cover, such as calls that are wrong on purpose.

use core::arch::asm;
use exo_abi::{Call, Error, Registers};

/// Makes a call with these registers and returns its value. `yield` and `sleep` are calls of
/// [`give_up`], since they keep no register but the stack pointer.
///
/// # Errors
/// Whatever the kernel says. A number that is none of [`Error`]'s becomes [`Error::UnknownCall`].
///
/// # Safety
/// The call must not make memory vanish, change or lose rights while a reference to it is alive,
/// and must not be `yield` or `sleep`.
#[inline]
pub unsafe fn raw(registers: Registers) -> Result<u64, Error> {
    let [rdi, rsi, rdx, r10, r8, r9] = registers.arguments;
    let (status, value): (u64, u64);
    // SAFETY: the kernel keeps every register but those named as outputs here and writes no memory
    // but what the call's arguments point at, for which the caller answers. An upcall in between
    // restores what it uses and leaves the red zone alone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") registers.number => status,
            in("rdi") rdi,
            in("rsi") rsi,
            inlateout("rdx") rdx => value,
            in("r10") r10,
            in("r8") r8,
            in("r9") r9,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer(status, value)
}

/// As [`raw`], for a call by its name.
///
/// # Errors
/// As [`raw`].
///
/// # Safety
/// As [`raw`].
#[inline]
pub unsafe fn call(call: Call) -> Result<u64, Error> {
    // SAFETY: the caller promises the same.
    unsafe { raw(call.pack()) }
}

/// Makes a call that may give up the CPU: nothing but the stack pointer survives it.
///
/// # Errors
/// As [`raw`].
///
/// # Safety
/// As [`raw`], but `yield` and `sleep` are what it is for.
pub unsafe fn give_up(call: Call) -> Result<u64, Error> {
    let registers = call.pack();
    let [rdi, rsi, rdx, r10, r8, r9] = registers.arguments;
    let (status, value): (u64, u64);
    // SAFETY: every register that the kernel may lose is pushed or named as lost.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "syscall",
            "pop rbp",
            "pop rbx",
            inlateout("rax") registers.number => status,
            inlateout("rdi") rdi => _,
            inlateout("rsi") rsi => _,
            inlateout("rdx") rdx => value,
            inlateout("r10") r10 => _,
            inlateout("r8") r8 => _,
            inlateout("r9") r9 => _,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    answer(status, value)
}

fn answer(status: u64, value: u64) -> Result<u64, Error> {
    if status == 0 {
        return Ok(value);
    }
    Err(Error::from_number(status).unwrap_or(Error::UnknownCall))
}

/// A pointer as an argument of a call.
pub(crate) fn address<T>(list: &[T]) -> u64 {
    list.as_ptr() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_values_or_errors() {
        assert_eq!(answer(0, 7), Ok(7));
        assert_eq!(answer(Error::NoFrame as u64, 7), Err(Error::NoFrame));
        assert_eq!(answer(u64::MAX, 0), Err(Error::UnknownCall));
    }
}
