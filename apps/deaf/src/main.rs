//! Under construction.
#![no_std]
#![no_main]

use exo_user::{Start, println};

exo_user::program!(main);

fn main(start: &Start) -> u64 {
    println!("hello, {}", start.arguments());
    0
}
