//! Rule: stepping stops at the kernel: a program traces itself only.
#![no_std]
#![no_main]

use exo_user::Start;
use guest_probes::attempt::{self, attempt};
use guest_probes::{code, rule};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let trace = code!(
        "pushfq",
        "or qword ptr [rsp], 0x100",
        "popfq",
        "mov r8d, 50",
        "2:",
        "xor eax, eax",
        "syscall",
        "dec r8d",
        "jnz 2b",
        "pushfq",
        "and qword ptr [rsp], ~0x100",
        "popfq"
    );
    // SAFETY: it makes calls that do nothing, and the trap flag is off at its end.
    let fault = unsafe { attempt(trace, 0) };
    rule::same("a traced call", fault, None);
    let steps = attempt::steps();
    // Four instructions in each of fifty turns, one of which is the call.
    rule::holds(format_args!("{steps} steps"), (100..=250).contains(&steps));
    // The stack segment's shadow must not carry the trap into the kernel.
    let shadow = code!(
        "mov ecx, ss",
        "pushfq",
        "or qword ptr [rsp], 0x100",
        "popfq",
        "mov ss, ecx",
        "syscall",
        "pushfq",
        "and qword ptr [rsp], ~0x100",
        "popfq"
    );
    for _ in 0..20 {
        // SAFETY: as above.
        rule::same("a call in the shadow", unsafe { attempt(shadow, 0) }, None);
    }
    0
}
