//! Rule: a stack that runs over meets an unbound page, and its owner is told.
#![no_std]
#![no_main]

use exo_user::abi::upcall::FaultCode;
use exo_user::{Start, layout};
use guest_probes::attempt::{self, page_fault};
use guest_probes::{code, rule};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let recursion = code!("2:", "push rdi", "jmp 2b");
    for _ in 0..3 {
        // SAFETY: it writes only below what the stack holds, and then faults.
        let fault = unsafe { attempt::attempt(recursion, 0) };
        page_fault("an endless recursion", fault, layout::STACK.start - 8, FaultCode::WRITE);
    }
    // A stack pointer that is none harms nobody, in calls and in faults.
    for pointer in [0, 8, 0x8000_0000_0000, 0xffff_ffff_8010_0000, u64::MAX] {
        let calls = code!("mov rsp, rdi", "xor eax, eax", "syscall", "ud2");
        // SAFETY: it uses no stack, and then faults.
        let fault = unsafe { attempt::attempt(calls, pointer) };
        attempt::raised("after a call without a stack", fault, attempt::INVALID_OPCODE);
    }
    rule::same("the program goes on", attempt::read(layout::STACK.start), None);
    0
}
