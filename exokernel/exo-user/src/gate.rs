//! Protected control transfer: entering another environment, and being entered.
//!
//! An environment is entered while it is at rest, where it rests, by whom it lets in: its *keeper*.
//! All three are said by the very call that rests, so there is nothing to open before or to close
//! behind, and no moment in between: an upcall that comes before the rest, and gives the CPU up
//! itself, rests with a keeper of its own, mostly nobody.
//!
//! An event does not get lost by that, but it may have come just before: who rests until one comes
//! holds upcalls back ([`Masked`]) and looks; the rest then ends at once.
//!
//! Whoever is entered finds the stack as it was when it began to rest. Nothing else is kept: of the
//! registers, eight are the caller's words ([`Message`]), the others are what the kernel says.
//! Vector registers don't pass; each environment has its own.
//!
//! [`rpc`](mod@crate::rpc) makes calls of this, [`pipe`](crate::pipe) a stream.

use crate::control::Masked;
use crate::{call, environment};
use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use exo_abi::calls::{ENTERED, Number, TransferMode};
use exo_abi::{Call, EnvName, Error};

/// How many words of its own a transfer carries.
pub const WORDS: usize = 7;

/// How often an answer is tried that its caller is not ready for, before it is dropped. Each time
/// the caller gets the CPU.
const ATTEMPTS: u64 = 16;

/// Why a transfer came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The other environment has ended. What it did before is not known.
    Ended,
    /// The time was over before there was an answer.
    Deadline,
    /// The kernel refuses it.
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::StaleEnvironment | Error::WrongState => Self::Ended,
            other => Self::Refused(other),
        }
    }
}

impl Failure {
    /// Whether the other was only busy: running, or at rest for somebody else.
    pub fn is_busy(self) -> bool {
        matches!(self, Self::Refused(Error::NotRunnable | Error::GateClosed))
    }
}

/// How a rest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rested {
    /// Somebody has entered.
    Entered,
    /// An event is pending, the time has come, or it was the environment's turn.
    Woken,
}

/// What passes in registers: the words of a call or an answer, and a ticket by which a caller tells
/// the answer from one that comes too late.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Message {
    /// In `r8`, `r9`, `rbx`, `rbp`, `r12`, `r13` and `r14`.
    pub words: [u64; WORDS],
    /// In `r15`. An answer has that of its call.
    pub ticket: u64,
}

/// A call that rests, as [`exchange`] makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    number: Number,
    arguments: [u64; 4],
}

impl Rest {
    /// Gives control to the target, which may come back.
    pub(crate) fn transfer(target: EnvName, mode: TransferMode, until: u64) -> Self {
        Self { number: Number::Transfer, arguments: [target.0, mode as u64, until, target.0] }
    }

    /// Gives the CPU to the target or, without a name, to whoever is next. `keeper` may enter.
    pub(crate) fn give_way(target: EnvName, keeper: EnvName) -> Self {
        Self { number: Number::Yield, arguments: [target.0, keeper.0, 0, 0] }
    }

    /// Sleeps. `keeper` may enter.
    pub(crate) fn sleep(until: u64, keeper: EnvName) -> Self {
        Self { number: Number::Sleep, arguments: [until, keeper.0, 0, 0] }
    }
}

#[inline]
fn rested(status: u64) -> Result<Rested, Failure> {
    match status {
        ENTERED => Ok(Rested::Entered),
        0 => Ok(Rested::Woken),
        error => Err(failure(error)),
    }
}

#[cold]
#[inline(never)]
fn failure(error: u64) -> Failure {
    Error::from_number(error).unwrap_or(Error::UnknownCall).into()
}

/// Rests with the message in the registers. If somebody enters, the message is what came. Every
/// register that a function keeps is saved.
pub(crate) fn exchange(message: &mut Message, rest: Rest) -> Result<Rested, Failure> {
    let [first, second, third, fourth] = rest.arguments;
    // SAFETY: the message is borrowed.
    let status = unsafe { exchange_raw(message, rest.number as u64, first, second, third, fourth) };
    rested(status)
}

/// Returns what the rest leaves in `rax`. Whoever comes, nothing has moved on the stack.
///
/// # Safety
/// The message can be read and written, and the call is one that rests.
// SAFETY: the body pushes what a function keeps and pops it before it returns, on the stack that it
// entered with.
#[unsafe(naked)]
unsafe extern "sysv64" fn exchange_raw(
    message: *mut Message,
    number: u64,
    first: u64,
    second: u64,
    third: u64,
    fourth: u64,
) -> u64 {
    naked_asm!(
        "push rbx; push rbp; push r12; push r13; push r14; push r15; push rdi",
        "mov r11, rdi; mov rax, rsi; mov rdi, rdx; mov rsi, rcx; mov rdx, r8; mov r10, r9",
        "mov r8, [r11]; mov r9, [r11 + 8]; mov rbx, [r11 + 16]; mov rbp, [r11 + 24]",
        "mov r12, [r11 + 32]; mov r13, [r11 + 40]; mov r14, [r11 + 48]; mov r15, [r11 + 56]",
        "syscall",
        "pop rdi",
        "cmp rax, {entered}",
        "jne 2f",
        "mov [rdi], r8; mov [rdi + 8], r9; mov [rdi + 16], rbx; mov [rdi + 24], rbp",
        "mov [rdi + 32], r12; mov [rdi + 40], r13; mov [rdi + 48], r14; mov [rdi + 56], r15",
        "2:",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "ret",
        entered = const ENTERED as i64,
    )
}

/// As [`exchange`], with six words and a ticket, inline: it saves nothing but `rbx` and `rbp`, and
/// leaves the rest to the compiler, which saves what it needs.
#[inline(always)]
pub(crate) fn exchange_lean(
    words: &mut [u64; 6],
    ticket: &mut u64,
    rest: Rest,
) -> Result<Rested, Failure> {
    let [first, second, third, fourth] = rest.arguments;
    let status: u64;
    // SAFETY: every register that may change is named or pushed; the stack pointer is what it was,
    // for who rests is entered with the one that rested.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rbx, rcx",
            "xor ebp, ebp",
            "syscall",
            "mov rcx, rbx",
            "pop rbp",
            "pop rbx",
            inlateout("rax") rest.number as u64 => status,
            inlateout("rdi") first => _,
            inlateout("rsi") second => _,
            inlateout("rdx") third => _,
            inlateout("r10") fourth => _,
            inlateout("r8") words[0] => words[0],
            inlateout("r9") words[1] => words[1],
            inlateout("rcx") words[2] => words[2],
            inlateout("r12") words[3] => words[3],
            inlateout("r13") words[4] => words[4],
            inlateout("r14") words[5] => words[5],
            inlateout("r15") *ticket => *ticket,
            clobber_abi("sysv64"),
        );
    }
    rested(status)
}

/// Rests with nothing in the registers.
#[inline]
pub(crate) fn rest(rest: Rest) -> Result<Rested, Failure> {
    exchange_lean(&mut [0; 6], &mut 0, rest)
}

/// Gives control to an environment at rest that lets the caller in, and rests so that it alone may
/// enter. No words pass.
///
/// # Errors
/// [`Failure::Ended`]; [`Failure::Refused`] with `NoEnvironment`, `NotRunnable` or `GateClosed`.
#[inline]
pub fn transfer(target: EnvName, mode: TransferMode, until: u64) -> Result<Rested, Failure> {
    rest(Rest::transfer(target, mode, until))
}

/// Gives the rest of the slice to an environment that can run, and rests so that it alone may enter.
///
/// # Errors
/// As [`transfer`].
pub fn give_way(target: EnvName) -> Result<Rested, Failure> {
    rest(Rest::give_way(target, target))
}

/// Sends words one way: the target runs at once, on the rest of the slice, and the caller goes on
/// when it is its turn again.
///
/// # Errors
/// As [`transfer`].
pub fn send(target: EnvName, words: [u64; WORDS]) -> Result<(), Failure> {
    let mut message = Message { words, ticket: 0 };
    let arguments = [target.0, TransferMode::Asynchronous as u64, 0, EnvName::NONE.0];
    exchange(&mut message, Rest { number: Number::Transfer, arguments }).map(|_| ())
}

/// A transfer that has entered a service.
#[derive(Debug)]
#[repr(C)]
pub struct Request {
    caller: EnvName,
    mode: u64,
    until: u64,
    /// What the caller has sent, and what it gets if it is answered.
    pub message: Message,
    attempts: u64,
}

impl Request {
    /// Who has called. The kernel says so.
    pub fn caller(&self) -> EnvName {
        self.caller
    }

    /// Whether the caller sleeps until there is an answer. One who has sent its words one way gets
    /// none.
    pub fn wants_answer(&self) -> bool {
        self.mode == TransferMode::Synchronous as u64
    }

    /// How long the caller waits, in nanoseconds since boot.
    pub fn until(&self) -> u64 {
        self.until
    }
}

/// Whether a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// With what is in its message, if the caller waits for it.
    Now,
    /// Not, or later by other means.
    None,
}

/// Rests, lets `keeper` in and lets `handler` answer, until an event is pending or the time has
/// come, like [`environment::sleep`]: an event that nobody takes makes it return at once.
///
/// The handler runs on the stack of whoever serves, with events held back. It may rest itself, as in
/// a call of another service; whom it then lets in is its own affair. An answer for which the caller
/// is not ready is dropped after some attempts.
pub fn serve<F: FnMut(&mut Request) -> Answer>(keeper: EnvName, until: u64, handler: &mut F) {
    let _masked = Masked::hold();
    let handler = core::ptr::from_mut(handler).cast();
    // SAFETY: `invoke` is the one of this handler, which is borrowed; events are held back.
    unsafe { serve_raw(handler, invoke::<F>, until, keeper.0) };
}

type Invoke = unsafe extern "sysv64" fn(*mut Request, *mut ()) -> bool;

unsafe extern "sysv64" fn invoke<F: FnMut(&mut Request) -> Answer>(
    request: *mut Request,
    handler: *mut (),
) -> bool {
    // SAFETY: `serve_raw` passes its own frame, and the handler that `serve` has borrowed.
    let (request, handler) = unsafe { (&mut *request, &mut *handler.cast::<F>()) };
    request.attempts = 0;
    handler(request) == Answer::Now && request.wants_answer()
}

/// An answer was refused. Gives its caller the time to come to rest; says whether to try again.
extern "sysv64" fn refused(request: &mut Request, error: u64) -> bool {
    request.attempts += 1;
    let busy = rested(error).is_err_and(Failure::is_busy);
    if !busy || request.attempts > ATTEMPTS {
        return false;
    }
    if environment::yield_to(request.caller).is_err() {
        // It runs elsewhere, or waits for something else than this.
        core::hint::spin_loop();
    }
    true
}

/// The frame of a service lies at its stack pointer whenever it rests: the [`Request`], then what
/// `serve` has passed. Every entry finds that stack pointer, and what a handler needs of the stack
/// is below; so nothing grows.
///
/// # Safety
/// `invoke` is the one of the handler's type, the handler stays until this returns, and events are held
/// back.
// SAFETY: the body pushes what a function keeps and pops it before it returns; calls find the stack
// aligned.
#[unsafe(naked)]
unsafe extern "sysv64" fn serve_raw(handler: *mut (), invoke: Invoke, until: u64, keeper: u64) {
    naked_asm!(
        "push rbx; push rbp; push r12; push r13; push r14; push r15",
        "sub rsp, {frame}",
        "mov [rsp + {own}], rdi; mov [rsp + {own} + 8], rsi",
        "mov [rsp + {own} + 16], rdx; mov [rsp + {own} + 24], rcx",
        // Rests without an answer to give.
        "2:",
        "mov rdi, [rsp + {own} + 16]; mov rsi, [rsp + {own} + 24]; mov eax, {sleep}",
        "jmp 4f",
        // Rests with an answer.
        "3:",
        "mov rdi, [rsp]; mov esi, {reply}",
        "mov rdx, [rsp + {own} + 16]; mov r10, [rsp + {own} + 24]",
        "mov r8, [rsp + 24]; mov r9, [rsp + 32]; mov rbx, [rsp + 40]; mov rbp, [rsp + 48]",
        "mov r12, [rsp + 56]; mov r13, [rsp + 64]; mov r14, [rsp + 72]; mov r15, [rsp + 80]",
        "mov eax, {transfer}",
        "4:",
        "syscall",
        "cmp rax, {entered}",
        "jne 5f",
        "mov [rsp], rdi; mov [rsp + 8], rsi; mov [rsp + 16], rdx",
        "mov [rsp + 24], r8; mov [rsp + 32], r9; mov [rsp + 40], rbx; mov [rsp + 48], rbp",
        "mov [rsp + 56], r12; mov [rsp + 64], r13; mov [rsp + 72], r14; mov [rsp + 80], r15",
        "mov rdi, rsp; mov rsi, [rsp + {own}]",
        "xor ebp, ebp",
        "call [rsp + {own} + 8]",
        "test al, al",
        "jz 2b",
        "jmp 3b",
        // Refused, or woken.
        "5:",
        "test eax, eax",
        "jz 6f",
        "mov rdi, rsp; mov esi, eax",
        "call {refused}",
        "test al, al",
        "jnz 3b",
        "jmp 2b",
        "6:",
        "add rsp, {frame}",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "ret",
        frame = const FRAME,
        own = const size_of::<Request>(),
        sleep = const Number::Sleep as u64,
        transfer = const Number::Transfer as u64,
        reply = const TransferMode::Reply as u64,
        entered = const ENTERED as i64,
        refused = sym refused,
    )
}

/// A request and four words, and what is missing so that calls find the stack aligned behind six
/// pushes and the return address.
const FRAME: usize = (size_of::<Request>() + 4 * 8).next_multiple_of(16) + 8;

const _: () = {
    assert!(offset_of!(Request, message) == 24);
    assert!(size_of::<Message>() == 8 * 8);
};

/// Transfers control and lets nobody in, for what this module does not cover.
///
/// # Errors
/// Whatever the kernel says.
///
/// # Safety
/// As [`call::give_up`].
pub unsafe fn raw(target: EnvName, mode: TransferMode, until: u64) -> Result<u64, Error> {
    // SAFETY: the caller promises the same.
    unsafe { call::give_up(Call::Transfer { target, mode, until, keeper: EnvName::NONE }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_ends_in_one_of_three_ways() {
        assert_eq!(rested(ENTERED), Ok(Rested::Entered));
        assert_eq!(rested(0), Ok(Rested::Woken));
        assert_eq!(rested(Error::StaleEnvironment as u64), Err(Failure::Ended));
        assert_eq!(rested(Error::WrongState as u64), Err(Failure::Ended));
        assert!(rested(Error::NotRunnable as u64).unwrap_err().is_busy());
        assert!(rested(Error::GateClosed as u64).unwrap_err().is_busy());
        assert!(!rested(Error::NoEnvironment as u64).unwrap_err().is_busy());
    }

    #[test]
    fn calls_in_a_service_find_an_aligned_stack() {
        // The return address and six pushes are 56 bytes.
        assert_eq!((56 + FRAME) % 16, 0);
        assert!(FRAME >= size_of::<Request>() + 32);
    }
}
