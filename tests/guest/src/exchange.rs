//! Giving the CPU up with known registers and an open gate, and looking at them afterwards.
//!
//! Straight at the kernel's rules, without a library in between: the gate is the instruction behind
//! the `syscall`, so that whoever enters finds the stack of the one that rests.

use core::arch::naked_asm;
use exo_user::abi::calls::{Number, TransferMode};
use exo_user::abi::control::ControlWord;
use exo_user::abi::layout::CONTROL;
use exo_user::control::Masked;
use exo_user::{EnvName, Error};

/// The general registers that a transfer passes and that are free for words: `r10`, `r8`, `r9`,
/// `rbx`, `rbp`, `r12`, `r13`, `r14`, `r15`.
pub const WORDS: usize = 9;

/// The words before and after, and the vector registers.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Registers {
    /// What passes.
    pub words: [u64; WORDS],
    /// Who has entered, if somebody has.
    pub caller: u64,
    /// `xmm0` to `xmm15`, which do not pass.
    pub vectors: [[u64; 2]; 16],
}

/// How a rest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rested {
    /// The call has returned.
    Woken,
    /// It was refused, or, for a transfer, its target has ended meanwhile.
    Error(Error),
    /// Somebody has come in by the gate.
    Entered(EnvName),
}

/// A call that rests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// `yield`
    Yield(EnvName),
    /// `sleep`
    Sleep(u64),
    /// `transfer`
    Transfer(EnvName, TransferMode, u64),
}

const ENTERED: u64 = u64::MAX;

/// Rests with the gate open for `keeper`. Events are held back meanwhile.
pub fn rest(registers: &mut Registers, rest: Rest, keeper: EnvName) -> Rested {
    let (number, [first, second, third]) = match rest {
        Rest::Yield(target) => (Number::Yield, [target.0, 0, 0]),
        Rest::Sleep(until) => (Number::Sleep, [until, 0, 0]),
        Rest::Transfer(target, mode, until) => (Number::Transfer, [target.0, mode as u64, until]),
    };
    let _masked = Masked::hold();
    // SAFETY: the registers are borrowed, and all that a function keeps are saved.
    let status = unsafe { raw(registers, number as u64, first, second, third, keeper.0) };
    match status {
        ENTERED => Rested::Entered(EnvName(registers.caller)),
        0 => Rested::Woken,
        error => Rested::Error(Error::from_number(error).unwrap_or(Error::UnknownCall)),
    }
}

#[unsafe(naked)]
unsafe extern "sysv64" fn raw(
    registers: *mut Registers,
    number: u64,
    first: u64,
    second: u64,
    third: u64,
    keeper: u64,
) -> u64 {
    naked_asm!(
        "push rbx; push rbp; push r12",
        "push r13; push r14; push r15",
        "push rdi",
        "mov rax, rsi",
        "mov r11, rdi",
        "mov rdi, rdx",
        "mov rsi, rcx",
        "mov rdx, r8",
        "movabs rcx, {gate}",
        "mov [rcx + 8], r9",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "movdqu xmm\\n, [r11 + 80 + 16 * \\n]",
        ".endr",
        "mov r10, [r11]",
        "mov r8, [r11 + 8]",
        "mov r9, [r11 + 16]",
        "mov rbx, [r11 + 24]",
        "mov rbp, [r11 + 32]",
        "mov r12, [r11 + 40]",
        "mov r13, [r11 + 48]",
        "mov r14, [r11 + 56]",
        "mov r15, [r11 + 64]",
        "lea r11, [rip + 2f]",
        "mov [rcx], r11",
        "syscall",
        "pop rdi",
        "jmp 3f",
        // The gate.
        "2:",
        "pop rax",
        "mov [rax + 72], rdi",
        "mov rdi, rax",
        "mov [rdi], r10",
        "mov [rdi + 8], r8",
        "mov [rdi + 16], r9",
        "mov [rdi + 24], rbx",
        "mov [rdi + 32], rbp",
        "mov [rdi + 40], r12",
        "mov [rdi + 48], r13",
        "mov [rdi + 56], r14",
        "mov [rdi + 64], r15",
        "mov rax, {entered}",
        "3:",
        "movabs rcx, {gate}",
        "mov qword ptr [rcx], 0",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "movdqu [rdi + 80 + 16 * \\n], xmm\\n",
        ".endr",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        gate = const CONTROL + ControlWord::Gate as u64 * 8,
        entered = const ENTERED as i64,
    )
}

/// A register that has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Changed {
    /// 0: none has. 1 to 4 are `rax`, `rbx`, `rdx` and `rbp`, 8 to 15 those of that number, 16 to 31
    /// vector registers, 100 is `rdi`.
    pub register: u64,
    /// What is in it, less what should be.
    pub by: u64,
}

/// Fills all registers, spins, and looks whether they are what they were. For the end of a slice to
/// come in between.
pub fn spin(pattern: u64, turns: u64) -> Changed {
    // SAFETY: it uses registers alone, and saves those that a function keeps.
    unsafe { spin_raw(pattern, turns.max(1)) }
}

#[unsafe(naked)]
unsafe extern "sysv64" fn spin_raw(pattern: u64, turns: u64) -> Changed {
    naked_asm!(
        "push rbx; push rbp; push r12",
        "push r13; push r14; push r15",
        "push rdi",
        "mov rcx, rsi",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "lea rax, [rdi + \\n]",
        "movq xmm\\n, rax",
        "punpcklqdq xmm\\n, xmm\\n",
        ".endr",
        "lea rax, [rdi + 1]",
        "lea rbx, [rdi + 2]",
        "lea rdx, [rdi + 3]",
        "lea rbp, [rdi + 4]",
        ".irp n, 8,9,10,11,12,13,14,15",
        "lea r\\n, [rdi + \\n]",
        ".endr",
        "4: dec rcx; jnz 4b",
        "mov ecx, 100",
        "cmp rdi, [rsp]",
        "jne 5f",
        "lea rsi, [rdi + 1]; mov ecx, 1",
        "push rax; sub [rsp], rsi; pop rsi; jnz 5f",
        "lea rsi, [rdi + 2]; mov ecx, 2",
        "push rbx; sub [rsp], rsi; pop rsi; jnz 5f",
        "lea rsi, [rdi + 3]; mov ecx, 3",
        "push rdx; sub [rsp], rsi; pop rsi; jnz 5f",
        "lea rsi, [rdi + 4]; mov ecx, 4",
        "push rbp; sub [rsp], rsi; pop rsi; jnz 5f",
        ".irp n, 8,9,10,11,12,13,14,15",
        "lea rsi, [rdi + \\n]",
        "mov ecx, \\n",
        "push r\\n",
        "sub [rsp], rsi",
        "pop rsi",
        "jnz 5f",
        ".endr",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "lea rsi, [rdi + \\n]",
        "mov ecx, 16 + \\n",
        "movq rdx, xmm\\n",
        "sub rsi, rdx",
        "jnz 5f",
        "punpckhqdq xmm\\n, xmm\\n",
        "lea rsi, [rdi + \\n]",
        "movq rdx, xmm\\n",
        "sub rsi, rdx",
        "jnz 5f",
        ".endr",
        "xor ecx, ecx",
        "xor esi, esi",
        "5:",
        "mov eax, ecx",
        "mov rdx, rsi",
        "pop rdi",
        "pop r15; pop r14; pop r13",
        "pop r12; pop rbp; pop rbx",
        "ret",
    )
}
