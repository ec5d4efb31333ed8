//! Running code that ought to fault, and going on behind it.
//!
//! The handler throws the interrupted code away: it sends the program to the end of [`attempt`],
//! with the stack pointer that `attempt` had. So the code may be a single instruction, a jump into
//! nowhere or an endless recursion.

use crate::rule;
use core::arch::naked_asm;
use core::fmt::Display;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use exo_user::abi::upcall::{FaultCode, PAGE_FAULT};
use exo_user::upcall::{self, Handlers, Interrupted};

/// Code that may fault, in [`attempt`]'s hands. Gets an argument in `rdi`.
// SAFETY: who calls one answers for what it does: see `attempt`.
pub type Code = unsafe extern "sysv64" fn(u64);

/// The vector of a debug exception.
pub const DEBUG: u64 = 1;
/// The vector of an invalid opcode.
pub const INVALID_OPCODE: u64 = 6;
/// The vector of a general protection fault.
pub const PROTECTION: u64 = 13;
/// The pages of the upcall stack.
const STACK_PAGES: u64 = 4;
/// The flags with which the program goes on: none but those that are always set.
const CLEAN_FLAGS: u64 = 0x202;

const TRAP_FLAG: u64 = 1 << 8;

/// Makes [`Code`] of assembler text.
#[macro_export]
macro_rules! code {
    ($($text:expr),+ $(,)?) => {{
        // SAFETY: it is called by `enter`, which has saved what it may lose on the way to a fault.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn code(_: u64) {
            ::core::arch::naked_asm!($($text),+, "ret")
        }
        code as $crate::attempt::Code
    }};
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The exception vector.
    pub cause: u64,
    /// [`FaultCode`] bits of a page fault, otherwise the CPU's error code.
    pub code: u64,
    /// The address of a page fault.
    pub address: u64,
    /// The instruction.
    pub rip: u64,
}

/// The stack pointer of the attempt that is under way, or 0.
static RESUME: AtomicU64 = AtomicU64::new(0);
/// Whether there was a fault, and its fields.
static CAUGHT: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
/// How many debug exceptions have come.
static STEPS: AtomicU64 = AtomicU64::new(0);

static HANDLERS: Handlers = Handlers { exception: caught, ..Handlers::NONE };

/// Installs the handler. Once, before the first attempt.
pub fn prepare() {
    rule::granted("an upcall stack", upcall::install_with_stack(STACK_PAGES, &HANDLERS));
}

/// The handler of exceptions, for programs that install handlers of their own.
pub fn caught(interrupted: &mut Interrupted) {
    let frame = &mut interrupted.frame;
    if frame.cause == DEBUG {
        STEPS.fetch_add(1, Relaxed);
        // The way back would be traced too.
        frame.rflags &= !TRAP_FLAG;
        return;
    }
    let resume = RESUME.swap(0, Relaxed);
    if resume == 0 {
        return upcall::end_with_report(interrupted);
    }
    let values = [1, frame.cause, frame.code, frame.address, frame.rip];
    for (place, value) in CAUGHT.iter().zip(values) {
        place.store(value, Relaxed);
    }
    frame.rip = land as *const () as u64;
    frame.rsp = resume;
    frame.rflags = CLEAN_FLAGS;
}

/// How many debug exceptions have come so far. They end no attempt.
pub fn steps() -> u64 {
    STEPS.load(Relaxed)
}

/// Runs the code, and says how it faulted if it did.
///
/// # Safety
/// The code does to the program's memory only what the program expects, or faults.
pub unsafe fn attempt(code: Code, argument: u64) -> Option<Fault> {
    CAUGHT[0].store(0, Relaxed);
    // SAFETY: for the code the caller answers. Whatever registers it loses on the way to a fault,
    // `enter` has saved those that count.
    unsafe { enter(code, argument, RESUME.as_ptr()) };
    RESUME.store(0, Relaxed);
    let [caught, cause, code, address, rip] = CAUGHT.each_ref().map(|word| word.load(Relaxed));
    (caught != 0).then_some(Fault { cause, code, address, rip })
}

/// Saves what a function has to keep, notes the stack pointer in `resume`, and calls the code.
// SAFETY: it keeps the registers that a function has to keep, with `land`, and the stack a multiple of 16
// at the call; `resume` is written once.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(code: Code, argument: u64, resume: *mut u64) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdx], rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "jmp {land}",
        land = sym land,
    )
}

/// The end of [`enter`].
// SAFETY: only jumped to, with the stack pointer that `enter` has noted: it takes back what that pushed.
#[unsafe(naked)]
unsafe extern "sysv64" fn land() {
    naked_asm!(
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// Whether this is QEMU's translator. In its version 7.2 `iretq` and far returns in ring 3 fault for
/// ever where there is SMAP: it reads the stack as the kernel would.
pub fn is_emulated() -> bool {
    let leaf = core::arch::x86_64::__cpuid(0x4000_0000);
    leaf.ebx.to_le_bytes() == *b"TCGT"
}

/// Reads a word.
pub fn read(address: u64) -> Option<Fault> {
    // SAFETY: a read changes nothing.
    unsafe { attempt(code!("mov rax, [rdi]"), address) }
}

/// Writes a word, without changing it.
pub fn write(address: u64) -> Option<Fault> {
    // SAFETY: it writes what is there, in one step.
    unsafe { attempt(code!("lock or qword ptr [rdi], 0"), address) }
}

/// Calls an address.
///
/// # Safety
/// There is no code, or code that may be called.
pub unsafe fn execute(address: u64) -> Option<Fault> {
    // SAFETY: the caller answers for what is there.
    unsafe { attempt(code!("call rdi"), address) }
}

/// Ends the program unless there was an exception with this vector.
pub fn raised(what: impl Display, fault: Option<Fault>, vector: u64) {
    rule::same(what, fault.map(|fault| fault.cause), Some(vector));
}

/// Ends the program unless there was a page fault at this address with this code.
pub fn page_fault(what: impl Display, fault: Option<Fault>, address: u64, code: FaultCode) {
    let found = fault.map(|fault| (fault.cause, fault.address, fault.code));
    rule::same(what, found, Some((PAGE_FAULT, address, code.bits())));
}
