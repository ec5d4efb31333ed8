//! What the hostile programs share.
//!
//! Each program under `bin/` attacks one rule of the kernel, and is named after it. It ends with 0
//! if the rule held. Otherwise it says what happened and ends with 1. Programs that the kernel has
//! to end say so in the table of the system tests.
//!
//! - A program attacks first and asks afterwards: it knows the error that each attack deserves, and
//!   any other answer is a failure.
//! - It attacks with what a program can have: its contract, its frames, its instructions.
//! - Nothing here is clever. What is shared is how to be refused, how to fault and to go on, and
//!   where the others are.
#![no_std]

pub mod attempt;
pub mod bytecode;
pub mod child;
pub mod exchange;
pub mod fork;
pub mod ground;
pub mod neighbour;
pub mod peer;
pub mod random;
pub mod rule;
pub mod traffic;
