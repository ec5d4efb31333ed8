//! Capabilities, and the slots in which `init` puts them.

use crate::call::call;
use exo_abi::{Call, Capability, CapabilityName, EnvName, Error, Rights};

/// The program's own name, with `READ`, `WRITE`, `EXECUTE`, `GRANT` and `CONTROL`.
pub const OWN: u32 = 0;
/// [`programs`] with `REVOKE`, if the contract has the right `revoke`.
pub const REVOKE: u32 = 1;
/// The program's own name with `NETWORK`, if the contract has the right `network`.
pub const NETWORK: u32 = 2;
/// The program's own name with `CONSOLE`, if the contract has the right `console`.
pub const CONSOLE: u32 = 3;
/// The name of the boot archive's frames, with `READ`.
pub const ARCHIVE: u32 = 4;

/// The root name with `NETWORK`, if the contract has the right `filters`.
pub const FILTERS: u32 = 5;

/// The part with which the names of all programs begin.
const PROGRAMS_PART: u8 = 1;

/// The name above those of all programs that `init` starts, and not above that of `init`.
pub fn programs() -> CapabilityName {
    CapabilityName::ROOT.child(PROGRAMS_PART).unwrap_or_default()
}

/// Puts a capability in slot `destination` of an environment (none: the caller), for which the
/// capability in slot `authority` has `GRANT`. The caller's slot `source` must dominate it.
///
/// # Errors
/// `NoEnvironment`, `StaleEnvironment`, `WrongState`, `NoCapability`, `NotDominated`, `BadArgument`.
pub fn grant(
    environment: EnvName,
    authority: u32,
    destination: u32,
    source: u32,
    capability: Capability,
) -> Result<(), Error> {
    let [low, high] = capability.to_words();
    // SAFETY: capabilities are the kernel's; no memory is touched.
    unsafe {
        call(Call::CapabilityGrant { environment, authority, destination, source, low, high })
    }
    .map(|_| ())
}

/// Empties one of the caller's slots.
///
/// # Errors
/// `NoCapability`.
pub fn drop(slot: u32) -> Result<(), Error> {
    let nothing = Capability { name: exo_abi::CapabilityName::ROOT, rights: Rights::empty() };
    grant(EnvName::NONE, slot, slot, slot, nothing)
}

/// Takes a name back: from all others, what the capability dominates and what they have bound by it. The
/// caller's slot `source` must dominate it with `GRANT`. When this returns, only the caller reaches the
/// frames that the name guards, until it grants something anew.
///
/// # Errors
/// `NoCapability`, `NotDominated`.
pub fn revoke(source: u32, capability: Capability) -> Result<(), Error> {
    let ([low, high], mut frame) = (capability.to_words(), 0);
    loop {
        // SAFETY: capabilities are the kernel's, and the bindings are other environments'.
        frame = unsafe { call(Call::CapabilityRevoke { source, low, high, frame }) }?;
        if frame == 0 {
            return Ok(());
        }
    }
}
