//! Rule: a program can jump anywhere, but arrives only where it may execute.
#![no_std]
#![no_main]

use exo_user::abi::layout::{CONTRACT, CONTROL, PAGE_TABLE, SYSTEM, USER_END};
use exo_user::abi::upcall::{FaultCode, PAGE_FAULT};
use exo_user::{Start, layout};
use guest_probes::attempt::{self, PROTECTION};
use guest_probes::{code, rule};

exo_user::program!(main);

const FORBIDDEN: [u64; 14] = [
    0,
    USER_END,
    CONTROL + 64,
    CONTRACT,
    SYSTEM,
    PAGE_TABLE,
    0xfee0_0000,
    0xffff_8000_0000_0000,
    0xffff_ff80_0010_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_8010_0000,
    0xffff_ffff_8010_1000,
    0xffff_ffff_ffff_f000,
    layout::STACK.start,
];

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let ways = [code!("jmp rdi"), code!("call rdi"), code!("push rdi", "ret")];
    for address in FORBIDDEN {
        for way in ways {
            // SAFETY: there is no code of the program.
            let fault = unsafe { attempt::attempt(way, address) };
            let fetched = fault.is_some_and(|fault| {
                let code = FaultCode::from_bits_truncate(fault.code);
                // A tick between jump and fetch sends a program that is out of its part to 0.
                let place = fault.rip == address || fault.rip == 0;
                fault.cause == PAGE_FAULT
                    && fault.address == fault.rip
                    && place
                    && code.contains(FaultCode::FETCH)
            });
            rule::holds(format_args!("{address:#x} is out of reach: {fault:x?}"), fetched);
        }
    }
    for address in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff] {
        for way in ways {
            // SAFETY: these are no addresses.
            let fault = unsafe { attempt::attempt(way, address) };
            let cause = fault.map(|fault| fault.cause);
            let refused = [Some(PROTECTION), Some(PAGE_FAULT)].contains(&cause);
            rule::holds(format_args!("{address:#x} is no address: {fault:x?}"), refused);
        }
    }
    0
}
