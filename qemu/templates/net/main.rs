//! NAME: a program on the kernel's calls alone. Everything that an operating system decides is
//! yours to decide here.
#![no_std]
#![no_main]

use exo_user::{Context, println};

exo_user::program!(main);

fn main(context: &Context) -> u64 {
    println!("hello, {}", context.arguments());
    0
}
