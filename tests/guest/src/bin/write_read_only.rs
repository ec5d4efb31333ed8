//! Rule: what the kernel shows of an environment, the environment cannot write.
#![no_std]
#![no_main]

use exo_user::abi::layout::{CONTRACT, LOSS_RING, LOST_FRAMES, PAGE_TABLE, SOFTWARE_TLB};
use exo_user::abi::upcall::FaultCode;
use exo_user::{Start, layout};
use guest_probes::attempt::{self, page_fault};
use guest_probes::ground::{self, DATA, GROUND};
use guest_probes::rule;

exo_user::program!(main);

/// The address of the hardware page-table entry of a page, `level` tables up.
fn entry(page: u64, level: u32) -> u64 {
    (0..=level).fold(page, |address, _| PAGE_TABLE | (address >> 9 & 0x7f_ffff_fff8))
}

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    ground::bound(GROUND, DATA);
    ground::store(GROUND, 1);
    let refused = FaultCode::WRITE | FaultCode::PROTECTION;
    let text = main as *const () as u64 & !7;
    let constant = "a constant".as_ptr() as u64 & !7;
    for address in [text, constant, layout::START_BLOCK] {
        page_fault("to write what is read only", attempt::write(address), address, refused);
    }
    let shared = [CONTRACT, CONTRACT + 64, LOSS_RING, LOST_FRAMES, SOFTWARE_TLB];
    let tables = [0, 1, 2, 3].map(|level| entry(GROUND, level));
    for address in shared.into_iter().chain(tables) {
        rule::same("to read it", attempt::read(address), None);
        page_fault("to write it", attempt::write(address), address, refused);
        // SAFETY: there is no code; it must not run.
        let fault = unsafe { attempt::execute(address) };
        let code = FaultCode::FETCH | FaultCode::PROTECTION;
        page_fault("to execute it", fault, address, code);
    }
    0
}
