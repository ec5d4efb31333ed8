//! Rule: no far transfer and no segment load leads to the kernel's segments.
#![no_std]
#![no_main]

use exo_user::Start;
use guest_probes::attempt::{self, attempt};
use guest_probes::{code, rule};

exo_user::program!(main);

/// The segments of programs.
const CODE: u64 = 0x23;
const DATA: u64 = 0x1b;

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let far_return = code!("lea rax, [rip + 2f]", "push rdi", "push rax", "retfq", "2:");
    let far_jump = code!(
        "lea rax, [rip + 2f]",
        "mov [rsp - 16], rax",
        "mov [rsp - 8], rdi",
        ".byte 0x48",
        "jmp fword ptr [rsp - 16]",
        "2:"
    );
    for selector in 0..0x80 {
        // A jump may name the segment with any privilege, a return only with the program's.
        let jump = (far_jump, selector | 3 == CODE);
        let back = (far_return, selector == CODE);
        for (way, good) in if attempt::is_emulated() { [jump; 2] } else { [jump, back] } {
            // SAFETY: it comes back with the segment that it had, or faults.
            let fault = unsafe { attempt(way, selector) };
            rule::same(format_args!("segment {selector:#x}"), fault.is_none(), good);
        }
        let loads = [
            code!("mov ds, edi"),
            code!("mov es, edi"),
            code!("mov fs, edi"),
            code!("mov gs, edi"),
        ];
        for load in loads {
            // SAFETY: the segments are not used in 64-bit mode.
            let fault = unsafe { attempt(load, selector) };
            let null = selector < 4;
            let own = selector | 3 == CODE || selector | 3 == DATA;
            rule::same(format_args!("data in {selector:#x}"), fault.is_none(), null || own);
        }
    }
    0
}
