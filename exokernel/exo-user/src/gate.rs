//! Protected control transfer: entering another environment, and being entered.
//!
//! An environment is entered at its gate, and only while it is at rest. So the rule of this module:
//! a gate is open for as long as its owner rests behind it, and not an instruction longer. The
//! routines here open it with the last store before the `syscall` that rests, and close it with the
//! first store behind. In between upcalls of events are held back
//! ([`Masked`]): a handler that gives the CPU up, as at the end of a slice,
//! would rest on another stack, and whoever entered then would find that one. An event that comes
//! ends the rest instead.
//!
//! Whoever is entered finds the stack as it was when it began to rest. Nothing else is kept: of the
//! registers, nine are the caller's words ([`Message`]), the others are what the kernel says.
//! Vector registers don't pass; each environment has its own.
//!
//! [`rpc`](mod@crate::rpc) makes calls of this, [`pipe`](crate::pipe) a stream.

use crate::control::{Masked, admit};
use crate::{call, environment};
use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use exo_abi::calls::{Number, TransferMode};
use exo_abi::control::{ANYBODY, ControlPage};
use exo_abi::layout::CONTROL;
use exo_abi::{Call, EnvName, Error};

/// How many words of its own a transfer carries.
pub const WORDS: usize = 8;

/// How often an answer is tried that its caller is not ready for, before it is dropped. Each time
/// the caller gets the CPU.
const ATTEMPTS: u64 = 16;

/// The address of the gate's word; the keeper's is behind it.
const GATE: u64 = CONTROL + offset_of!(ControlPage, gate) as u64;

/// What [`exchange`] and [`rest`] say when the gate was entered: no error has this number.
const ENTERED: u64 = u64::MAX;

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
    /// Whether the other was only busy: running, or not at its gate.
    pub fn is_busy(self) -> bool {
        matches!(self, Self::Refused(Error::NotRunnable | Error::GateClosed))
    }
}

/// How a rest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rested {
    /// Somebody has entered the gate.
    Entered,
    /// An event is pending, the time has come, or it was the environment's turn.
    Woken,
}

/// What passes in registers: the words of a call or an answer, and a ticket by which a caller tells
/// the answer from one that comes too late.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Message {
    /// In `r10`, `r8`, `r9`, `rbx`, `rbp`, `r12`, `r13` and `r14`.
    pub words: [u64; WORDS],
    /// In `r15`. An answer has that of its call.
    pub ticket: u64,
}

/// A call that rests, as [`exchange`] makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    number: Number,
    arguments: [u64; 3],
}

impl Rest {
    pub(crate) fn transfer(target: EnvName, mode: TransferMode, until: u64) -> Self {
        Self { number: Number::Transfer, arguments: [target.0, mode as u64, until] }
    }

    pub(crate) fn give_way(target: EnvName) -> Self {
        Self { number: Number::Yield, arguments: [target.0, 0, 0] }
    }

    pub(crate) fn sleep(until: u64) -> Self {
        Self { number: Number::Sleep, arguments: [until, 0, 0] }
    }
}

fn rested(status: u64) -> Result<Rested, Failure> {
    match status {
        ENTERED => Ok(Rested::Entered),
        0 => Ok(Rested::Woken),
        error => Err(Error::from_number(error).unwrap_or(Error::UnknownCall).into()),
    }
}

/// Rests with the message in the registers and the gate open for `keeper`. If it is entered, the
/// message is what came. Every register that a function keeps is saved.
pub(crate) fn exchange(
    message: &mut Message,
    rest: Rest,
    keeper: EnvName,
) -> Result<Rested, Failure> {
    let [first, second, third] = rest.arguments;
    // SAFETY: the message is borrowed.
    let ended =
        unsafe { exchange_raw(message, rest.number as u64, first, second, third, keeper.0) };
    if ended.held_back != 0 {
        admit();
    }
    rested(ended.status)
}

/// What a rest leaves in `rax` and `rdx`.
#[repr(C)]
struct Ended {
    status: u64,
    /// The events for which there would have been upcalls.
    held_back: u64,
}

/// The gate is the label behind the `syscall`: nothing has moved on the stack, whoever comes. `rcx`
/// and `r11` pass nothing, so they hold what the last store before the rest needs.
///
/// # Safety
/// The message can be read and written, events are held back, and the call is one that rests.
// SAFETY: the body pushes what a function keeps and pops it on both ways out, on the stack that it
// entered with.
#[unsafe(naked)]
unsafe extern "sysv64" fn exchange_raw(
    message: *mut Message,
    number: u64,
    first: u64,
    second: u64,
    third: u64,
    keeper: u64,
) -> Ended {
    naked_asm!(
        "push rbx; push rbp; push r12",
        "push r13; push r14; push r15",
        "mov rax, rsi; mov r11, rdi; mov rdi, rdx",
        "mov rsi, rcx; mov rdx, r8",
        "movabs rcx, {control}",
        "push [rcx + {mask}]; push r11",
        "mov qword ptr [rcx + {mask}], 1",
        "mov [rcx + {keeper}], r9; mov r10, [r11]; mov r8, [r11 + 8]",
        "mov r9, [r11 + 16]; mov rbx, [r11 + 24]; mov rbp, [r11 + 32]",
        "mov r12, [r11 + 40]; mov r13, [r11 + 48]; mov r14, [r11 + 56]",
        "mov r15, [r11 + 64]",
        "lea r11, [rip + 2f]",
        "mov [rcx + {gate}], r11",
        "syscall",
        // Refused, or woken.
        "movabs rcx, {control}",
        "mov qword ptr [rcx + {gate}], 0",
        "pop rdi",
        "jmp 3f",
        // The gate.
        "2:",
        "movabs rcx, {control}",
        "mov qword ptr [rcx + {gate}], 0",
        "pop rdi",
        "mov [rdi], r10; mov [rdi + 8], r8; mov [rdi + 16], r9",
        "mov [rdi + 24], rbx; mov [rdi + 32], rbp; mov [rdi + 40], r12",
        "mov [rdi + 48], r13; mov [rdi + 56], r14; mov [rdi + 64], r15",
        "mov rax, {entered}",
        "3:",
        "pop [rcx + {mask}]",
        "mov rdx, [rcx + {pending}]; and rdx, [rcx + {enabled}]",
        "pop r15; pop r14; pop r13",
        "pop r12; pop rbp; pop rbx",
        "ret",
        control = const CONTROL,
        mask = const offset_of!(ControlPage, mask),
        pending = const offset_of!(ControlPage, pending),
        enabled = const offset_of!(ControlPage, enabled),
        gate = const offset_of!(ControlPage, gate),
        keeper = const offset_of!(ControlPage, keeper),
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
    keeper: EnvName,
) -> Result<Rested, Failure> {
    let [first, second, third] = rest.arguments;
    let (status, held_back): (u64, u64);
    // SAFETY: every register that may change is named or pushed; the stack pointer is what it was,
    // for the kernel enters the gate with the one that rested.
    unsafe {
        asm!(
            "push qword ptr [rcx + {mask}]",
            "push rbx",
            "push rbp",
            "mov qword ptr [rcx + {mask}], 1",
            "mov [rcx + {keeper}], r11",
            "xor ebx, ebx",
            "xor ebp, ebp",
            "lea r11, [rip + 2f]",
            "mov [rcx + {gate}], r11",
            "syscall",
            "jmp 3f",
            "2:",
            "mov rax, {entered}",
            "3:",
            "movabs rcx, {control}",
            "mov qword ptr [rcx + {gate}], 0",
            "pop rbp",
            "pop rbx",
            "pop qword ptr [rcx + {mask}]",
            "mov r11, [rcx + {pending}]",
            "and r11, [rcx + {enabled}]",
            control = const CONTROL,
            mask = const offset_of!(ControlPage, mask),
            pending = const offset_of!(ControlPage, pending),
            enabled = const offset_of!(ControlPage, enabled),
            gate = const offset_of!(ControlPage, gate),
            keeper = const offset_of!(ControlPage, keeper),
            entered = const ENTERED as i64,
            inlateout("rax") rest.number as u64 => status,
            inlateout("rcx") CONTROL => _,
            inlateout("r11") keeper.0 => held_back,
            inlateout("rdi") first => _,
            inlateout("rsi") second => _,
            inlateout("rdx") third => _,
            inlateout("r10") words[0] => words[0],
            inlateout("r8") words[1] => words[1],
            inlateout("r9") words[2] => words[2],
            inlateout("r12") words[3] => words[3],
            inlateout("r13") words[4] => words[4],
            inlateout("r14") words[5] => words[5],
            inlateout("r15") *ticket => *ticket,
            clobber_abi("sysv64"),
        );
    }
    if held_back != 0 {
        admit();
    }
    rested(status)
}

/// Rests with the gate open for `keeper`, and with nothing in the registers.
#[inline]
pub(crate) fn rest(rest: Rest, keeper: EnvName) -> Result<Rested, Failure> {
    exchange_lean(&mut [0; 6], &mut 0, rest, keeper)
}

/// Gives control to an environment at rest that has its gate open for the caller, and rests with
/// the gate open for it alone. No words pass.
///
/// # Errors
/// [`Failure::Ended`]; [`Failure::Refused`] with `NoEnvironment`, `NotRunnable` or `GateClosed`.
#[inline]
pub fn transfer(target: EnvName, mode: TransferMode, until: u64) -> Result<Rested, Failure> {
    rest(Rest::transfer(target, mode, until), target)
}

/// Gives the rest of the slice to an environment that can run, and rests with the gate open for it
/// alone.
///
/// # Errors
/// As [`transfer`].
pub fn give_way(target: EnvName) -> Result<Rested, Failure> {
    rest(Rest::give_way(target), target)
}

/// Sends words one way: the target runs at once, on the rest of the slice, and the caller goes on
/// when it is its turn again.
///
/// # Errors
/// As [`transfer`].
pub fn send(target: EnvName, words: [u64; WORDS]) -> Result<(), Failure> {
    let mut message = Message { words, ticket: 0 };
    let rest = Rest::transfer(target, TransferMode::Asynchronous, 0);
    exchange(&mut message, rest, EnvName::NONE).map(|_| ())
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

/// For [`serve`]: whoever comes may enter.
pub const EVERYBODY: EnvName = EnvName(ANYBODY);

/// Rests with the gate open for `keeper` and lets `handler` answer whoever enters, until an event
/// is pending or the time has come, like [`environment::sleep`]: an event that nobody takes makes it
/// return at once.
///
/// The handler runs on the caller's stack, with the gate closed and events held back. It may rest
/// itself, as in a call of another service; nobody can enter meanwhile. An answer for which the
/// caller is not ready is dropped after some attempts.
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
        "push rbx; push rbp; push r12",
        "push r13; push r14; push r15",
        "sub rsp, {frame}",
        "mov [rsp + {own}], rdi; mov [rsp + {own} + 8], rsi",
        "mov [rsp + {own} + 16], rdx; mov [rsp + {own} + 24], rcx",
        // Rests without an answer to give.
        "2:",
        "mov rdi, [rsp + {own} + 16]; mov eax, {sleep}",
        "jmp 5f",
        // The gate.
        "3:",
        "movabs rcx, {gate}",
        "mov qword ptr [rcx], 0; mov [rsp], rdi; mov [rsp + 8], rsi",
        "mov [rsp + 16], rdx; mov [rsp + 24], r10; mov [rsp + 32], r8",
        "mov [rsp + 40], r9; mov [rsp + 48], rbx; mov [rsp + 56], rbp",
        "mov [rsp + 64], r12; mov [rsp + 72], r13; mov [rsp + 80], r14",
        "mov [rsp + 88], r15; mov rdi, rsp; mov rsi, [rsp + {own}]",
        "xor ebp, ebp",
        "call [rsp + {own} + 8]",
        "test al, al",
        "jz 2b",
        // Rests with an answer.
        "4:",
        "mov rdi, [rsp]; mov esi, {reply}; mov rdx, [rsp + {own} + 16]",
        "mov r10, [rsp + 24]; mov r8, [rsp + 32]; mov r9, [rsp + 40]",
        "mov rbx, [rsp + 48]; mov rbp, [rsp + 56]; mov r12, [rsp + 64]",
        "mov r13, [rsp + 72]; mov r14, [rsp + 80]; mov r15, [rsp + 88]",
        "mov eax, {transfer}",
        "5:",
        "movabs rcx, {gate}",
        "mov r11, [rsp + {own} + 24]; mov [rcx + 8], r11",
        "lea r11, [rip + 3b]",
        "mov [rcx], r11",
        "syscall",
        // Refused, or woken.
        "movabs rcx, {gate}",
        "mov qword ptr [rcx], 0",
        "test eax, eax",
        "jz 6f",
        "mov rdi, rsp; mov esi, eax",
        "call {refused}",
        "test al, al",
        "jnz 4b",
        "jmp 2b",
        "6:",
        "add rsp, {frame}",
        "pop r15; pop r14; pop r13",
        "pop r12; pop rbp; pop rbx",
        "ret",
        gate = const GATE,
        frame = const FRAME,
        own = const size_of::<Request>(),
        sleep = const Number::Sleep as u64,
        transfer = const Number::Transfer as u64,
        reply = const TransferMode::Reply as u64,
        refused = sym refused,
    )
}

/// A request and four words, and what is missing so that calls find the stack aligned behind six
/// pushes and the return address.
const FRAME: usize = (size_of::<Request>() + 4 * 8).next_multiple_of(16) + 8;

const _: () = {
    assert!(offset_of!(ControlPage, keeper) == offset_of!(ControlPage, gate) + 8);
    assert!(offset_of!(Request, message) == 24);
    assert!(size_of::<Message>() == 9 * 8);
};

/// Transfers control without resting at a gate, for what this module does not cover.
///
/// # Errors
/// Whatever the kernel says.
///
/// # Safety
/// As [`call::give_up`].
pub unsafe fn raw(target: EnvName, mode: TransferMode, until: u64) -> Result<u64, Error> {
    // SAFETY: the caller promises the same.
    unsafe { call::give_up(Call::Transfer { target, mode, until }) }
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
