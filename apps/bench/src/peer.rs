//! The second program that some benches need.

use crate::{handlers, mark};
use core::sync::atomic::AtomicU64;
use libos_posix::exo_user::abi::EnvName;
use libos_posix::exo_user::abi::tables::EnvEntry;
use libos_posix::exo_user::upcall::{self, Handlers};
use libos_posix::exo_user::{Error, contract, environment, tables, time};

/// How long to wait for the other program to start, in nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
/// How long between two looks for it, in nanoseconds.
const TURN: u64 = 1_000_000;

/// Plays a role until the machine ends; `None` if there is none of this name.
pub(crate) fn run(role: &str) -> Option<u64> {
    match role {
        "compute" => Some(compute()),
        _ => None,
    }
}

/// The other program that plays a role, once it runs.
///
/// # Errors
/// `NoEnvironment` if there is none within a second.
pub(crate) fn find() -> Result<EnvName, Error> {
    let me = contract::name();
    let parent = tables::environment_named(me).map_or(0, |entry| entry.parent);
    let deadline = time::now() + PATIENCE;
    while time::now() < deadline {
        let other = |entry: &EnvEntry| entry.parent == parent && entry.name != me.0;
        let mut others = tables::environments().iter().map(|(_, entry)| entry).filter(other);
        match others.find(|entry| entry.upcalls > 0) {
            Some(entry) => return Ok(EnvName(entry.name)),
            None => environment::sleep(time::now() + TURN),
        }
    }
    Err(Error::NoEnvironment)
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
