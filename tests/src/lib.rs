//! What the system tests stand on: a machine in five lines, and the other end of its network.
//!
//! - Every test boots a machine of its own, from sources built just before.
//! - A guest that ends is asked whether every frame, slice, filter and ring is free again; no test
//!   has to think of it.
//! - No sleep, no second try: a test waits for an event, and every wait has a deadline.

pub mod guest;
pub mod http;

pub use guest::{Guest, Outcome};
pub use qemu::machine::Board;
pub use qemu::wire::Wire;
