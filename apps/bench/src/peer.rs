//! The second program that some benches need.

use crate::{handlers, mark};
use core::sync::atomic::AtomicU64;
use libos_posix::exo_user::Error;
use libos_posix::exo_user::upcall::{self, Handlers};

/// Plays a role until the machine ends; `None` if there is none of this name.
pub(crate) fn run(role: &str) -> Option<u64> {
    match role {
        "compute" => Some(compute()),
        _ => None,
    }
}

/// Gives the CPU up at the end of each slice, with the registers on the upcall stack.
///
/// # Errors
/// As [`handlers::install`].
pub(crate) fn save_at_slice_end() -> Result<(), Error> {
    static HANDLERS: Handlers =
        Handlers { slice_end: Some(upcall::give_slice_up), ..Handlers::NONE };
    handlers::install(&HANDLERS)
}

/// Computes, as far as anybody can see: it waits for what never comes.
fn compute() -> u64 {
    static NEVER: AtomicU64 = AtomicU64::new(0);
    if save_at_slice_end().is_err() {
        return 1;
    }
    mark::wait_until(&NEVER, u64::MAX);
    0
}
