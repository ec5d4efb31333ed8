//! Rule: the bases of the segments are the program's, and the kernel relies on none of them.
#![no_std]
#![no_main]

use core::arch::asm;
use exo_user::{EnvName, Start, environment};
use guest_probes::attempt::{self, PROTECTION, attempt};
use guest_probes::{code, rule};

exo_user::program!(main);

const KERNEL: [u64; 5] = [
    0xffff_8000_0000_0000,
    0xffff_ffff_8010_0000,
    0xffff_ffff_ffff_f000,
    0x7fff_ffff_ffff,
    0x7f00_0000_0000,
];

fn set(base: u64) {
    // SAFETY: nothing in the program uses the segments.
    unsafe { asm!("wrgsbase {base}", "wrfsbase {base}", base = in(reg) base) };
}

fn get() -> [u64; 2] {
    let (fs, gs);
    // SAFETY: it only reads registers.
    unsafe { asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs) };
    [fs, gs]
}

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    // Without these instructions there is nothing to attack with.
    // SAFETY: nothing in the program uses the segments.
    if unsafe { attempt(code!("rdgsbase rax"), 0) }.is_some() {
        return 0;
    }
    // What is no address is refused, or, by an emulator, taken; then it must do no harm.
    for base in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 0x1234_5678_9abc_def0] {
        for code in [code!("wrgsbase rdi"), code!("wrfsbase rdi")] {
            // SAFETY: as above.
            let fault = unsafe { attempt(code, base) };
            let cause = fault.map(|fault| fault.cause);
            rule::holds("refused or taken", cause.is_none() || cause == Some(PROTECTION));
            environment::name();
            rule::granted("to give way", environment::yield_to(EnvName::NONE));
        }
    }
    for base in KERNEL {
        set(base);
        environment::name();
        rule::same("the bases after a call", get(), [base; 2]);
        // SAFETY: as above.
        unsafe { attempt(code!("ud2"), 0) };
        rule::same("the bases after an exception", get(), [base; 2]);
        let kernel = base > 0x8000_0000_0000;
        // SAFETY: it only reads.
        let fault = unsafe { attempt(code!("mov rax, gs:[0]"), 0) };
        rule::holds("the kernel is not read by a segment", fault.is_some() || !kernel);
        for _ in 0..5 {
            rule::granted("to give way", environment::yield_to(EnvName::NONE));
            // No `pause`: an emulator with several processors is slow at it.
            (0..200_000).for_each(|turn| _ = core::hint::black_box(turn));
            rule::same("the bases after a switch", get(), [base; 2]);
        }
    }
    0
}
