//! Rule: what is no call is refused, and a call keeps every register that it does not return in.
#![no_std]
#![no_main]

use core::arch::asm;
use exo_user::abi::calls::CALLS;
use exo_user::{Error, Registers, Start};
use guest_probes::rule::{refused_raw, same};

exo_user::program!(main);

/// Makes a call that does nothing, with a pattern in every register; returns them afterwards.
fn registers_after(number: u64) -> [u64; 10] {
    let mut registers: [u64; 10] = core::array::from_fn(|index| 0x1111 * (index as u64 + 1));
    // SAFETY: the call does nothing, and all registers are saved or named.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdx",
            "mov rdi, [rdx]", "mov rsi, [rdx + 8]", "mov r8, [rdx + 16]", "mov r9, [rdx + 24]",
            "mov r10, [rdx + 32]", "mov r12, [rdx + 40]", "mov r13, [rdx + 48]",
            "mov r14, [rdx + 56]", "mov rbx, [rdx + 64]", "mov rbp, [rdx + 72]",
            "syscall",
            "pop rdx",
            "mov [rdx], rdi", "mov [rdx + 8], rsi", "mov [rdx + 16], r8", "mov [rdx + 24], r9",
            "mov [rdx + 32], r10", "mov [rdx + 40], r12", "mov [rdx + 48], r13",
            "mov [rdx + 56], r14", "mov [rdx + 64], rbx", "mov [rdx + 72], rbp",
            "pop rbp",
            "pop rbx",
            inout("rax") number => _, in("rdx") registers.as_mut_ptr(),
            out("rdi") _, out("rsi") _, out("rcx") _, out("r8") _, out("r9") _, out("r10") _,
            out("r11") _, out("r12") _, out("r13") _, out("r14") _,
        );
    }
    registers
}

fn main(_: &Start<'_>) -> u64 {
    let known = CALLS.len() as u64;
    let far = [1 << 32, 1 << 63, u64::MAX, 0xffff_ffff, 0x1_0000_0001, 0x4000_0000];
    for number in (known..known + 4096).chain(far) {
        for argument in [0, u64::MAX] {
            let registers = Registers { number, arguments: [argument; 6] };
            refused_raw(registers, Error::UnknownCall);
        }
    }
    let expected: [u64; 10] = core::array::from_fn(|index| 0x1111 * (index as u64 + 1));
    for number in [0, known, u64::MAX] {
        same("registers after a call", registers_after(number), expected);
    }
    0
}
