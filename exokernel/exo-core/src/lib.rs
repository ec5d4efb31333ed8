//! The kernel's mechanism, as plain data.
//!
//! This crate owns what the kernel knows: environments and their contracts, slices, rings, filters,
//! and the calls that change them. It reaches the hardware through [`Machine`] alone, so that all
//! of it runs under tests on the host.
//!
//! - A register or a word in a program's memory is a claim. `user_memory` turns addresses into
//!   frames; nothing else believes one, and no program's address is ever dereferenced.
//! - A call either does all that it says or changes nothing.
//! - Every path is bounded by a constant or by the length of a list that is bounded itself; none
//!   waits.
//! - What a program sees in the exposed tables is written where the fact changes.
#![no_std]
#![forbid(unsafe_code)]

mod batch;
mod binding;
mod board;
mod boot;
mod call;
mod console;
mod context;
mod debt;
mod environment;
mod event;
mod exposed;
mod fast;
mod frame;
mod handler;
mod kernel;
mod lifecycle;
mod machine;
mod network;
mod processor;
mod revocation;
mod schedule;
mod transfer;
mod user_memory;

pub use board::{Board, CpuCell, EnvCell, running};
pub use boot::BootError;
pub use context::{Context, Frame, USER_CODE, USER_DATA};
pub use debt::EPILOGUE;
pub use environment::Environment;
pub use event::Exception;
pub use exposed::Exposed;
pub use handler::{Arrival, Handled};
pub use kernel::{Kernel, Lists, Storage};
pub use machine::{Devices, FILTERS, Machine, RESERVATIONS, SHAPES, SHAPES_EACH};
pub use network::RINGS;
pub use processor::Processor;
pub use schedule::Next;
