//! Slices of CPU time, by position.

use crate::call::call;
use exo_abi::request::NOBODY;
use exo_abi::{Call, EnvName, Error};

/// Takes a position for an environment over which the capability has `CONTROL` (none: the caller).
///
/// # Errors
/// `NoSlice`, `SliceTaken`, `NoEnvironment`, `StaleEnvironment`, `WrongState`, `NoCapability`,
/// `NotDominated`, `OverLimit`.
pub fn take(cpu: u32, position: u32, environment: EnvName, capability: u32) -> Result<(), Error> {
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::Slice { cpu, position, environment, capability }) }.map(|_| ())
}

/// Gives a position back.
///
/// # Errors
/// As [`take`].
pub fn give_back(cpu: u32, position: u32, capability: u32) -> Result<(), Error> {
    take(cpu, position, NOBODY, capability)
}
