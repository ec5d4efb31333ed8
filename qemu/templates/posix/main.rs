//! NAME: a program on libos-posix. Its heap pages itself, and gives frames back when asked.
#![no_std]
#![no_main]

use libos_posix::{Start, println};

libos_posix::program!(main);

fn main(start: &Start) -> u64 {
    println!("hello, {}", start.arguments());
    0
}
