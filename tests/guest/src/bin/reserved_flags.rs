//! Rule: the flags that are not a program's stay what they are, and the others do not reach the
//! kernel.
#![no_std]
#![no_main]

use exo_user::{EnvName, Start, environment, time};
use guest_probes::attempt::{self, INVALID_OPCODE, attempt};
use guest_probes::{code, ground, rule};

exo_user::program!(main);

const DIRECTION: u64 = 1 << 10;
const NESTED_TASK: u64 = 1 << 14;
const ALIGNMENT: u64 = 1 << 18;
/// I/O privilege, virtual 8086 mode, virtual interrupts: what only the kernel sets.
const KERNEL_FLAGS: u64 = 3 << 12 | 1 << 17 | 3 << 19;
const INTERRUPTS: u64 = 1 << 9;

/// Sets flags by `popfq`, and returns those that are set then.
fn by_popfq(flags: u64) -> u64 {
    let after: u64;
    // SAFETY: the flags are put back before anything depends on them.
    unsafe {
        core::arch::asm!(
            "pushfq", "push {flags}", "popfq", "pushfq", "pop {after}", "popfq",
            flags = in(reg) flags, after = out(reg) after,
        );
    }
    after
}

/// Sets flags that only the kernel sets by `iretq`, and raises an invalid opcode if they are set
/// then.
fn by_iretq() {
    let code = code!(
        "mov rax, rsp",
        "push 0x1b",
        "push rax",
        "push rdi",
        "push 0x23",
        "lea rax, [rip + 2f]",
        "push rax",
        "iretq",
        "2:",
        "pushfq",
        "pop rax",
        "push 0x202",
        "popfq",
        "and rax, rdi",
        "jz 3f",
        "ud2",
        "3:"
    );
    // SAFETY: it goes on behind itself with the stack that it had, and clears the flags.
    let fault = unsafe { attempt(code, KERNEL_FLAGS) };
    let set = fault.is_some_and(|fault| fault.cause == INVALID_OPCODE);
    rule::holds("flags that only the kernel sets", !set);
}

/// Enters the kernel with these flags in every way that there is: a call, a call that gives the CPU
/// up, ticks, a page fault.
fn enter_with(flags: u64) {
    let null = code!("push rdi", "popfq", "xor eax, eax", "syscall", "push 0x202", "popfq");
    let give_way = code!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "popfq",
        "mov eax, 1",
        "xor edi, edi",
        "syscall",
        "push 0x202",
        "popfq",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx"
    );
    let spin = code!(
        "push rdi",
        "popfq",
        "mov ecx, 10000000",
        "2:",
        "dec ecx",
        "jnz 2b",
        "push 0x202",
        "popfq"
    );
    let fault = code!("push rdi", "popfq", "mov rax, [0]");
    for code in [null, give_way, spin, fault] {
        // SAFETY: it keeps what a function keeps. At its end the flags are clean again; behind a
        // fault they are too.
        unsafe { attempt(code, flags) };
    }
}

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let after = by_popfq(KERNEL_FLAGS | 2);
    rule::same("flags that only the kernel sets", after & KERNEL_FLAGS, 0);
    rule::same("the interrupt flag", by_popfq(2) & INTERRUPTS, INTERRUPTS);
    if !attempt::is_emulated() {
        by_iretq();
    }
    for flags in [DIRECTION, ALIGNMENT, DIRECTION | ALIGNMENT, NESTED_TASK, 1 << 21, 0xcd5] {
        enter_with(flags | 2);
        // What the kernel copies is copied the right way round.
        let before = ground::held();
        let frames = ground::frames::<64>();
        rule::holds("the frames differ", frames.windows(2).all(|pair| pair[0] != pair[1]));
        ground::free(&frames);
        rule::same("frames held", ground::held(), before);
        rule::granted("to give way", environment::yield_to(EnvName::NONE));
    }
    rule::holds("the time goes on", time::now() > 0);
    0
}
