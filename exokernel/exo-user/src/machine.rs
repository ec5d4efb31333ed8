//! The whole machine.

use crate::call::call;
use exo_abi::{Call, Error};

/// Ends the machine with a code, of which the host sees at most
/// [`VERDICT_MAX`](exo_abi::boot::VERDICT_MAX). The capability needs `MACHINE`.
///
/// # Errors
/// `NoCapability`, `NotDominated`.
pub fn exit(capability: u32, code: u64) -> Result<(), Error> {
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::MachineExit { capability, code }) }.map(|_| ())
}
