//! What the kernel and everything above it agree on.
//!
//! This crate owns the calls, their registers and errors, and the layout of every page that the
//! kernel shares with an environment. The kernel, the programs and the host tool use the same
//! definitions, and `doc/abi.md` is printed from them.
//!
//! - One fact in one place: a call's number, registers, errors and text come from [`calls`].
//! - Nothing here touches hardware or memory, and nothing is unsafe.
//! - Registers are packed and unpacked side by side, so that a round trip can be tested.
#![no_std]
#![forbid(unsafe_code)]

pub mod batch;
pub mod boot;
pub mod calls;
pub mod contract;
pub mod control;
pub mod document;
pub mod error;
pub mod layout;
pub mod name;
pub mod predicate;
pub mod request;
pub mod rights;
pub mod ring;
pub mod tables;
pub mod upcall;

pub use calls::{Call, Registers};
pub use contract::Kind;
pub use document::document;
pub use error::Error;
pub use name::{CapabilityName, EnvName, FrameNumber};
pub use rights::{Capability, Rights};
