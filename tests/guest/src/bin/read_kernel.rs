//! Rule: a program reads nothing of the kernel, its page tables included.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::control::ControlWord;
use exo_user::abi::layout::PAGE_TABLE;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::upcall::{FaultCode, PAGE_FAULT};
use exo_user::{Start, control};
use guest_probes::attempt::{self, Fault, PROTECTION};
use guest_probes::rule;

exo_user::program!(main);

const KERNEL: [u64; 8] = [
    0xffff_8000_0000_0000,
    0xffff_ff80_0010_0000,
    0xffff_ff80_fee0_0000,
    0xffff_c000_0000_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_8010_0000,
    0xffff_ffff_8020_0000,
    0xffff_ffff_ffff_fff8,
];
/// Addresses that are none, and pages that nobody has bound: the null page, the local APIC.
const HOLE: [u64; 3] = [0x8000_0000_0000, 0xffff_7fff_ffff_fff8, 0x1234_5678_9abc_def0];
const UNBOUND: [u64; 4] = [0, 8, 0xfee0_0000, 0xfec0_0000];

/// The addresses where the tables of the kernel's half would be seen in the window on the
/// program's own tables.
fn tables_of_the_kernel(index: u64) -> [u64; 3] {
    let upper = PAGE_TABLE | index << 30;
    [upper, PAGE_TABLE | 255 << 30 | index << 21, PAGE_TABLE | 255 << 30 | 255 << 21 | index << 12]
}

fn denied(address: u64, fault: Option<Fault>) {
    let kept = fault.is_some_and(|fault| fault.cause == PAGE_FAULT && fault.address == address);
    rule::holds(format_args!("{address:#x} is kept: {fault:x?}"), kept);
}

/// Where the kernel has large pages: its code, and all memory. Their entries lead to no table.
const LARGE: [u64; 2] = [0xffff_ffff_8020_0000, 0xffff_ff80_0000_0000];
/// How many pages of these are tried, each taken for the place of a table's entry.
const PAGES: u64 = 4096;

/// Lets the frames of upcalls cross the end of a page, which only the long way can do: what it does
/// about the fault itself, it does first.
fn go_the_long_way() {
    let top = control::word(ControlWord::StackTop);
    top.fetch_sub(PAGE_SIZE - 48, SeqCst);
}

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    for address in KERNEL.into_iter().chain(UNBOUND) {
        denied(address, attempt::read(address));
        denied(address, attempt::write(address));
    }
    for address in HOLE {
        attempt::raised("a non-canonical address", attempt::read(address), PROTECTION);
        attempt::raised("a non-canonical address", attempt::write(address), PROTECTION);
    }
    for index in 256..512 {
        for address in tables_of_the_kernel(index) {
            denied(address, attempt::read(address));
        }
    }
    go_the_long_way();
    for page in
        LARGE.into_iter().flat_map(|large| (0..PAGES).map(move |page| large + page * PAGE_SIZE))
    {
        denied(page, attempt::read(page));
        denied(page, attempt::write(page));
    }
    let fault = attempt::read(KERNEL[0]);
    let code = fault.map(|fault| fault.code);
    rule::same("a protection fault", code, Some(FaultCode::PROTECTION.bits()));
    0
}
