//! Giving the CPU up with known registers, for somebody to enter, and looking at them afterwards.
//!
//! Straight at the kernel's rules, without a library in between.

use core::arch::naked_asm;
use core::mem::offset_of;
use exo_user::abi::calls::{ENTERED, Number, TransferMode};
use exo_user::control::Masked;
use exo_user::{EnvName, Error};

/// The general registers that a transfer passes and that are free for words: `r8`, `r9`, `rbx`,
/// `rbp`, `r12`, `r13`, `r14`, `r15`.
pub const WORDS: usize = 8;

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
    /// Somebody has come in.
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

/// Rests with this keeper. Events are held back meanwhile.
pub fn rest(registers: &mut Registers, rest: Rest, keeper: EnvName) -> Rested {
    let _masked = Masked::hold();
    rest_open(registers, rest, keeper)
}

/// As [`rest`], and events come as they like.
pub fn rest_open(registers: &mut Registers, rest: Rest, keeper: EnvName) -> Rested {
    let (number, [first, second, third, fourth]) = match rest {
        Rest::Yield(target) => (Number::Yield, [target.0, keeper.0, 0, 0]),
        Rest::Sleep(until) => (Number::Sleep, [until, keeper.0, 0, 0]),
        Rest::Transfer(target, mode, until) => {
            (Number::Transfer, [target.0, mode as u64, until, keeper.0])
        }
    };
    // SAFETY: the registers are borrowed, and all that a function keeps are saved.
    let status = unsafe { raw(registers, number as u64, first, second, third, fourth) };
    match status {
        ENTERED => Rested::Entered(EnvName(registers.caller)),
        0 => Rested::Woken,
        error => Rested::Error(Error::from_number(error).unwrap_or(Error::UnknownCall)),
    }
}

// SAFETY: it keeps the registers that a function has to keep, and writes the registers' record alone.
#[unsafe(naked)]
unsafe extern "sysv64" fn raw(
    registers: *mut Registers,
    number: u64,
    first: u64,
    second: u64,
    third: u64,
    fourth: u64,
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
        "mov r10, r9",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "movdqu xmm\\n, [r11 + {vectors} + 16 * \\n]",
        ".endr",
        "mov r8, [r11]",
        "mov r9, [r11 + 8]",
        "mov rbx, [r11 + 16]",
        "mov rbp, [r11 + 24]",
        "mov r12, [r11 + 32]",
        "mov r13, [r11 + 40]",
        "mov r14, [r11 + 48]",
        "mov r15, [r11 + 56]",
        "syscall",
        "pop rcx",
        "cmp rax, {entered}",
        "jne 3f",
        "mov [rcx + 64], rdi",
        "mov [rcx], r8",
        "mov [rcx + 8], r9",
        "mov [rcx + 16], rbx",
        "mov [rcx + 24], rbp",
        "mov [rcx + 32], r12",
        "mov [rcx + 40], r13",
        "mov [rcx + 48], r14",
        "mov [rcx + 56], r15",
        "3:",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "movdqu [rcx + {vectors} + 16 * \\n], xmm\\n",
        ".endr",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        vectors = const offset_of!(Registers, vectors),
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
