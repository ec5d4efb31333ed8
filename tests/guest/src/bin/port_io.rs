//! Rule: no program reaches a device by a port, the port that ends the machine included.
#![no_std]
#![no_main]

use exo_user::Start;
use guest_probes::attempt::{self, PROTECTION, attempt, raised};
use guest_probes::code;

exo_user::program!(main);

/// Interrupt controller, timer, keyboard, clock, serial line, PCI, the emulator's verdict.
const PORTS: [u64; 12] =
    [0x20, 0x21, 0x40, 0x60, 0x64, 0x70, 0x80, 0xf4, 0x3f8, 0x3fd, 0xcf8, 0xcfc];

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let instructions = [
        code!("mov edx, edi", "in al, dx"),
        code!("mov edx, edi", "in ax, dx"),
        code!("mov edx, edi", "in eax, dx"),
        code!("mov edx, edi", "xor eax, eax", "out dx, al"),
        code!("mov edx, edi", "xor eax, eax", "out dx, ax"),
        code!("mov edx, edi", "xor eax, eax", "out dx, eax"),
        code!("mov edx, edi", "lea rsi, [rsp - 8]", "outsb"),
        code!("mov edx, edi", "lea rdi, [rsp - 8]", "insb"),
    ];
    for port in PORTS.into_iter().chain((0..0x1_0000).step_by(0x3fb)).chain([0xffff]) {
        for code in instructions {
            // SAFETY: it touches no memory but the red zone.
            raised(format_args!("port {port:#x}"), unsafe { attempt(code, port) }, PROTECTION);
        }
    }
    0
}
