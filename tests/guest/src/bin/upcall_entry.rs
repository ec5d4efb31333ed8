//! Rule: an upcall entry that is none costs its owner alone.
//!
//! The kernel has to end the program: it has nowhere to enter.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::control::ControlWord;
use exo_user::{Start, control};
use guest_probes::ground::{self, DATA, GROUND};
use guest_probes::{attempt, rule};

exo_user::program!(main);

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    let entry = match start.argument("entry") {
        Some("kernel") => 0xffff_ffff_8010_0000,
        Some("hole") => 0x8000_0000_0000,
        Some("shared") => exo_user::abi::layout::CONTROL,
        Some("data") => {
            ground::bound(GROUND, DATA);
            GROUND
        }
        _ => GROUND,
    };
    control::word(ControlWord::Entry).store(entry, SeqCst);
    // SAFETY: it faults, and there is no handler any more.
    unsafe { attempt::attempt(guest_probes::code!("ud2"), 0) };
    rule::holds("the program was ended", false);
    0
}
