//! Rule: the kernel's tables can be read by everybody and written by nobody.
#![no_std]
#![no_main]

use exo_user::abi::layout::SYSTEM;
use exo_user::abi::tables::TableReference;
use exo_user::abi::upcall::FaultCode;
use exo_user::{Start, tables};
use guest_probes::attempt::{self, page_fault};
use guest_probes::rule;

exo_user::program!(main);

fn spoil(address: u64) {
    rule::same("to read a table", attempt::read(address), None);
    let refused = FaultCode::WRITE | FaultCode::PROTECTION;
    page_fault("to write a table", attempt::write(address), address, refused);
    // SAFETY: there is no code; it must not run.
    let fault = unsafe { attempt::execute(address) };
    page_fault("to execute a table", fault, address, FaultCode::FETCH | FaultCode::PROTECTION);
}

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let system = tables::system();
    spoil(SYSTEM);
    spoil(SYSTEM + 16);
    for table in [
        system.frames,
        system.environments,
        system.slices,
        system.filters,
        system.rings,
        system.statistics,
    ] {
        let TableReference { address, count, entry_size } = table;
        rule::holds("the table is there", count > 0);
        spoil(address);
        spoil(address + (count - 1) * entry_size);
    }
    0
}
