//! Rule: a program that sleeps for ever and hears nothing can still be ended.
//!
//! It is a service: the first program ends it.
#![no_std]
#![no_main]

use exo_user::control::Masked;
use exo_user::{Start, environment, println, time};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let _masked = Masked::hold();
    println!("good night");
    loop {
        environment::sleep(time::NEVER);
    }
}
