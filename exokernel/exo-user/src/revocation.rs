//! The abort protocol, from both sides.

use crate::call::call;
use crate::shared;
use core::sync::atomic::Ordering;
pub use exo_abi::control::{SURRENDER_SLOTS, Surrender};
use exo_abi::{Call, EnvName, Error, Kind};

/// Asks an environment for `count` resources of a kind back. They are due when `wall` nanoseconds
/// have passed or it has run for `own` nanoseconds, but not before the notice in its contract.
/// Returns its debt. The capability needs `REVOKE`.
///
/// # Errors
/// `NoEnvironment`, `StaleEnvironment`, `WrongState`, `NoCapability`, `NotDominated`,
/// `BadArgument`, `BelowFloor`, `BadKind`.
pub fn revoke(
    environment: EnvName,
    capability: u32,
    kind: Kind,
    count: u64,
    own: u64,
    wall: u64,
) -> Result<u64, Error> {
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::Revoke { environment, capability, kind, count, own, wall }) }
}

/// Gives `count` of the caller's limit of a kind to an environment.
///
/// # Errors
/// `NoEnvironment`, `StaleEnvironment`, `WrongState`, `BadArgument`, `OverLimit`, `BelowFloor`.
pub fn grant(environment: EnvName, kind: Kind, count: u64) -> Result<(), Error> {
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::Grant { environment, kind, count }) }.map(|_| ())
}

/// Publishes what the kernel is to take first, in this order, from who is late with a debt; what
/// does not fit behind [`SURRENDER_SLOTS`] entries is left out. In place of an older list, of which
/// something may be taken meanwhile.
pub fn publish(list: &[Surrender]) {
    let (count, words) = shared::surrender_list();
    count.store(0, Ordering::Relaxed);
    for (place, surrender) in words.chunks_exact(2).zip(list) {
        let [name, save] = surrender.to_words();
        place[0].store(0, Ordering::Relaxed);
        place[1].store(save, Ordering::Relaxed);
        place[0].store(name, Ordering::Release);
    }
    count.store(list.len() as u64, Ordering::Release);
}

/// Puts an entry into a place of the list, or nothing, and leaves the others as they are. Before this
/// returns, the kernel may still take what stood there.
pub fn publish_at(place: usize, surrender: Option<Surrender>) {
    let (count, words) = shared::surrender_list();
    let Some([name, save]) = words.as_chunks().0.get(place) else { return };
    // The kernel strikes out what it takes, so that nothing is put back that it has read.
    name.store(0, Ordering::Relaxed);
    if let Some([named, place]) = surrender.map(|surrender| surrender.to_words()) {
        save.store(place, Ordering::Relaxed);
        name.store(named, Ordering::Release);
    }
    count.fetch_max(place as u64 + 1, Ordering::Release);
}

/// Says that the record of losses of a kind has been read up to `epoch`.
///
/// # Errors
/// `BadArgument`, `StaleEpoch` (there are newer losses), `BadKind`.
pub fn acknowledge(kind: Kind, epoch: u64) -> Result<(), Error> {
    // SAFETY: the kernel writes only its own record.
    unsafe { call(Call::Acknowledge { kind, epoch }) }.map(|_| ())
}
