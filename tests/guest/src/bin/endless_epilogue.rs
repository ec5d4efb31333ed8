//! Rule: who never ends the epilogue of a slice is ended.
//!
//! The kernel has to end the program, whose handler does not return.
#![no_std]
#![no_main]

use exo_user::upcall::{self, Handlers, Interrupted};
use exo_user::{Start, println};
use guest_probes::rule;

exo_user::program!(main);

static HANDLERS: Handlers = Handlers { slice_end: Some(never_end), ..Handlers::NONE };

fn never_end(_: &mut Interrupted) {
    println!("the epilogue begins");
    loop {
        core::hint::spin_loop();
    }
}

fn main(_: &Start<'_>) -> u64 {
    rule::granted("an upcall stack", upcall::install_with_stack(4, &HANDLERS));
    loop {
        core::hint::spin_loop();
    }
}
