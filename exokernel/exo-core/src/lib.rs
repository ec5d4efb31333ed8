//! Under construction.
#![no_std]
#![forbid(unsafe_code)]

pub mod context;
pub mod machine;

pub use context::Context;
pub use machine::{FILTERS, Machine, SendError};
