//! Packet filters and reservations.

use crate::call::{address, call};
use crate::{control, tables};
use core::fmt;
use exo_abi::control::ControlWord;
use exo_abi::layout::LABEL;
use exo_abi::tables::{NO_RING, SEND_TEMPLATE, SEND_TEMPLATES};
use exo_abi::{Call, EnvName, Error};

/// A filter or reservation that is in the way of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Overlapped {
    /// Its id.
    pub id: u32,
    /// The label of who holds it.
    pub holder: [u8; LABEL],
}

impl fmt::Display for Overlapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter {} of {}", self.id, tables::text(&self.holder))
    }
}

/// What the caller's last filter that was refused with `FilterOverlaps` overlaps.
pub fn overlapped() -> Overlapped {
    let id =
        control::word(ControlWord::Overlaps).load(core::sync::atomic::Ordering::Relaxed) as u32;
    let entry = tables::filters().get(id as usize).unwrap_or_default();
    let holder = tables::environment_named(EnvName(entry.holder)).unwrap_or_default();
    Overlapped { id, holder: holder.label }
}

/// Installs an encoded filter that leads to one of the caller's rings, within one of the caller's
/// reservations. Returns its id.
///
/// # Errors
/// `TooLong`, `BadFilter`, `NoRing`, `NotReserved`, `FilterOverlaps`, `OverLimit`,
/// `NoFreeFilters`.
pub fn install(encoded: &[u8], ring: u32) -> Result<u32, Error> {
    put(EnvName::NONE, 0, encoded, ring.into())
}

/// Installs an encoded filter that leads to another environment's ring, reserved or not; it is that
/// environment's. The capability needs `NETWORK` with the root name. Returns its id.
///
/// # Errors
/// As [`reserve`], and `NoRing`.
pub fn lead(
    environment: EnvName,
    capability: u32,
    encoded: &[u8],
    ring: u32,
) -> Result<u32, Error> {
    put(environment, capability, encoded, ring.into())
}

/// Reserves the packets of an encoded filter for an environment (none: the caller). The capability
/// needs `NETWORK` with the root name. Returns the reservation's id.
///
/// # Errors
/// As [`install`], and `NoEnvironment`, `StaleEnvironment`, `WrongState`, `NoCapability`,
/// `NotDominated`.
pub fn reserve(environment: EnvName, capability: u32, encoded: &[u8]) -> Result<u32, Error> {
    put(environment, capability, encoded, NO_RING)
}

/// Lets an environment (none: the caller) send what an encoded filter matches: its template number
/// `place`, of 8, in the place of the one before. The capability needs `NETWORK` with the root name.
///
/// # Errors
/// As [`reserve`], and `BadArgument` if there is no such template.
pub fn permit(
    environment: EnvName,
    capability: u32,
    place: u64,
    encoded: &[u8],
) -> Result<(), Error> {
    if place >= SEND_TEMPLATES {
        return Err(Error::BadArgument);
    }
    put(environment, capability, encoded, SEND_TEMPLATE + place).map(|_| ())
}

fn put(environment: EnvName, capability: u32, encoded: &[u8], ring: u64) -> Result<u32, Error> {
    let (address, length) = (address(encoded), encoded.len() as u64);
    // SAFETY: the bytes are read only.
    unsafe { call(Call::FilterInstall { environment, capability, address, length, ring }) }
        .map(|id| id as u32)
}

/// Removes a filter or reservation of the caller's.
///
/// # Errors
/// `NoFilter`.
pub fn remove(filter: u32) -> Result<(), Error> {
    remove_by(0, filter)
}

/// Removes anybody's filter or reservation. The capability needs `NETWORK` with the root name.
///
/// # Errors
/// `NoFilter`.
pub fn remove_by(capability: u32, filter: u32) -> Result<(), Error> {
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::FilterRemove { filter, capability }) }.map(|_| ())
}
