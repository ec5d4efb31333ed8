//! Rule: the time is the kernel's: nobody sets it, and nobody's word about it is believed.
#![no_std]
#![no_main]

use exo_user::abi::layout::{CONTRACT, SYSTEM};
use exo_user::abi::upcall::FaultCode;
use exo_user::{Start, tables, time};
use guest_probes::attempt::{self, PROTECTION, attempt, page_fault, raised};
use guest_probes::{code, rule};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let before = tables::system();
    // The time, the counter's frequency and start, the slice's length; in the contract the run time
    // and the slice's end.
    for address in
        (0..12).map(|word| SYSTEM + 8 * word).chain((0..8).map(|word| CONTRACT + 8 * word))
    {
        let expected = FaultCode::WRITE | FaultCode::PROTECTION;
        // SAFETY: it faults.
        let fault = unsafe { attempt(code!("mov [rdi], rdi"), address) };
        page_fault("a word of the time", fault, address, expected);
    }
    // SAFETY: it faults.
    let fault =
        unsafe { attempt(code!("mov ecx, 0x10", "xor eax, eax", "xor edx, edx", "wrmsr"), 0) };
    raised("setting the counter", fault, PROTECTION);
    let after = tables::system();
    let constants = |page: &exo_user::abi::tables::SystemPage| {
        (page.tsc_frequency, page.tsc_boot, page.slice, page.cpus, page.positions)
    };
    rule::same("the time base", constants(&after), constants(&before));
    let mut last = time::now();
    for _ in 0..10_000 {
        let now = time::now();
        rule::holds("the time goes on", now >= last);
        last = now;
    }
    rule::holds("and so does the word", tables::system().time >= before.time);
    0
}
