//! Rule: who holds events back for ever keeps the CPU no longer than anybody else.
#![no_std]
#![no_main]

use exo_user::control::Masked;
use exo_user::upcall::{self, Handlers};
use exo_user::{EnvName, Start, contract, environment, tables, time};
use guest_probes::neighbour;
use guest_probes::rule::{granted, holds, same};

exo_user::program!(main);

static HANDLERS: Handlers = Handlers { slice_end: Some(upcall::give_slice_up), ..Handlers::NONE };

fn main(_: &Start<'_>) -> u64 {
    granted("an upcall stack", upcall::install_with_stack(4, &HANDLERS));
    let witness = neighbour::witness();
    let masked = Masked::hold();
    let (before, since) = (tables::run_time(witness), time::now());
    // The witness gives way whenever it has looked at a page; it needs little.
    while tables::run_time(witness) < before + time::MILLISECOND {
        holds("the others run", time::now() < since + 20 * time::SECOND);
    }
    same(
        "what it overran",
        tables::environment_named(contract::name()).unwrap_or_default().excess,
        0,
    );
    drop(masked);
    granted("to give way", environment::yield_to(EnvName::NONE));
    0
}
