//! Rule: who wants the end of its slices told, but never listens, is ended.
//!
//! The kernel has to end the program, which holds events back for ever.
#![no_std]
#![no_main]

use exo_user::Start;
use exo_user::control::Masked;
use exo_user::upcall::{self, Handlers};
use guest_probes::rule;

exo_user::program!(main);

static HANDLERS: Handlers = Handlers { slice_end: Some(upcall::give_slice_up), ..Handlers::NONE };

fn main(_: &Start<'_>) -> u64 {
    rule::granted("an upcall stack", upcall::install_with_stack(4, &HANDLERS));
    let _masked = Masked::hold();
    loop {
        core::hint::spin_loop();
    }
}
