//! NAME: a program on the kernel's calls alone. Everything that an operating system decides is
//! yours to decide here.
#![no_std]
#![no_main]

use exo_user::{Start, println};

exo_user::program!(main);

fn main(start: &Start) -> u64 {
    println!("hello, {}", start.arguments());
    0
}
