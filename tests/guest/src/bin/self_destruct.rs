//! Rule: a program that ends in the middle of everything leaves nothing behind.
//!
//! It ends itself, by its name, with the code 33.
#![no_std]
#![no_main]

use exo_user::{Start, capability, console, contract, environment};
use filter_language::Builder;
use guest_probes::traffic::{self, Ring};
use guest_probes::{child, ground, rule};

exo_user::program!(main);

const PORT: u16 = 4006;

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::create();
    traffic::install(Builder::udp_port(PORT), ring);
    ground::bound(ground::page(1), ground::DATA);
    let sleeper = rule::granted("a child", child::create("orphan", 4));
    rule::granted("a frame for it", {
        let frames = ground::frames::<2>();
        exo_user::frame::transfer(&frames, sleeper, capability::OWN)
    });
    console::write(b"half a line");
    let gone = environment::destroy(contract::name(), capability::ARCHIVE, 33);
    rule::granted("to end", gone);
    rule::holds("nobody comes back", false);
    0
}
