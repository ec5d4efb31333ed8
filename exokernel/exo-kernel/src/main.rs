//! The kernel on the machine: boot, x86-64, drivers.
//!
//! This crate owns everything that touches hardware; what the kernel knows and decides is in
//! `exo-core`. It is the only code in ring 0 that is unsafe.
//!
//! - Every entry ends in a safe function of `exo_core::Board`, and of `exo_core::Kernel` where that
//!   needs the lock, with the registers as data.
//! - Nothing is writable and executable, by any of its addresses.
//! - Interrupts are off in the kernel, but while it halts because nobody can run.
//! - There is no heap: what is found at boot is all there is.
#![no_std]
#![no_main]

mod boot;
mod devices;
mod drivers;
mod entry;
mod handler;
mod hardware;
mod jit;
mod panic;
mod shootdown;
mod start;
mod upcall;
mod x86_64;

pub(crate) use start::main;
