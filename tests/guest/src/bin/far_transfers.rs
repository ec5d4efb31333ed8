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
        let ways = if attempt::is_emulated() { [far_jump; 2] } else { [far_jump, far_return] };
        for way in ways {
            // SAFETY: it comes back with the segment that it had, or faults.
            let fault = unsafe { attempt(way, selector) };
            rule::same(format_args!("segment {selector:#x}"), fault.is_none(), selector == CODE);
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
