//! A program that takes what it is given: it has a ring and asks for no packets. Somebody with the
//! right to lead packets may put filters in that lead to it. It says how many have come.
#![no_std]
#![no_main]

use exo_user::abi::upcall::Event;
use exo_user::{Start, control, environment, println};
use guest_probes::traffic::Ring;

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::of::<17>();
    println!("ready");
    let mut said = 0;
    loop {
        environment::sleep(u64::MAX);
        control::take(Event::Packet);
        ring.drain();
        if ring.arrived() != said {
            said = ring.arrived();
            println!("got {said}");
        }
    }
}
