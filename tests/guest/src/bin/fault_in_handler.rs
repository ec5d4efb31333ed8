//! Rule: a fault in the handler is an upcall like any other, until the stack is full.
//!
//! The kernel has to end the program when it is.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use exo_user::upcall::{self, Handlers, Interrupted};
use exo_user::{Start, println};
use guest_probes::rule;

exo_user::program!(main);

static DEPTH: AtomicU64 = AtomicU64::new(0);
static HANDLERS: Handlers = Handlers { exception: fault_again, ..Handlers::NONE };

fn fault_again(_: &mut Interrupted) {
    if DEPTH.fetch_add(1, Relaxed) == 3 {
        println!("three faults deep");
    }
    // SAFETY: nobody goes on behind it.
    unsafe { core::arch::asm!("ud2") };
}

fn main(_: &Start<'_>) -> u64 {
    rule::granted("an upcall stack", upcall::install_with_stack(4, &HANDLERS));
    // SAFETY: as above.
    unsafe { core::arch::asm!("ud2") };
    0
}
