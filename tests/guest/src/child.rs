//! Environments that a hostile program makes of its own contract.

use crate::{ground, rule};
use core::ops::RangeInclusive;
use exo_user::abi::contract::KINDS;
use exo_user::abi::layout::LABEL;
use exo_user::abi::request::EnvironmentRequest;
use exo_user::{
    Capability, CapabilityName, EnvName, Error, FrameNumber, Kind, Rights, capability, environment,
    frame, tables,
};

/// More frames than an environment needs at least, on any machine that the tests boot.
pub const DONATION_MAX: usize = 64;
/// A capability slot that nothing else uses.
pub const SPARE_SLOT: u32 = 12;
/// What a name's part can be.
const PARTS: RangeInclusive<u8> = 0..=u8::MAX;

/// The program's own name. It is not told, but only a name that slot 0 dominates can be derived.
pub fn own_name() -> CapabilityName {
    let fits = |name: &CapabilityName| {
        let capability = Capability { name: *name, rights: Rights::READ };
        capability::grant(EnvName::NONE, 0, SPARE_SLOT, capability::OWN, capability).is_ok()
    };
    let name = PARTS.filter_map(|part| capability::programs().child(part)).find(fits);
    rule::granted("to empty a slot", capability::drop(SPARE_SLOT));
    rule::holds("the program has a name", name.is_some());
    name.unwrap_or_default()
}

/// A request for a child with the least that there can be, called `label`. It may hold `spare`
/// frames beside those that are donated. Returns the frames to donate too.
pub fn request(
    label: &str,
    spare: u64,
) -> (EnvironmentRequest, [FrameNumber; DONATION_MAX], usize) {
    request_named(own_name(), label, spare)
}

/// As [`request`], for a program that knows its name.
pub fn request_named(
    own: CapabilityName,
    label: &str,
    spare: u64,
) -> (EnvironmentRequest, [FrameNumber; DONATION_MAX], usize) {
    let count = tables::system().donation_minimum as usize + 1;
    rule::holds("the least donation is small", count <= DONATION_MAX);
    let mut frames = [FrameNumber::ANY; DONATION_MAX];
    rule::granted("frames for a child", frame::allocate(&mut frames[..count], capability::OWN));
    let mut limits = [0; KINDS];
    limits[Kind::Frames as usize] = count as u64 + spare;
    let mut bytes = [0; LABEL];
    for (place, byte) in bytes.iter_mut().zip(label.bytes()) {
        *place = byte;
    }
    let name = own.child(1).unwrap_or_default();
    let rights = Rights::READ | Rights::WRITE | Rights::EXECUTE | Rights::GRANT | Rights::CONTROL;
    let request = EnvironmentRequest {
        donation: 0,
        donation_count: count as u64,
        tlb_frames: 1,
        capability: capability::OWN.into(),
        guard: Capability { name, rights }.to_words(),
        limits,
        label: bytes,
        ..EnvironmentRequest::default()
    };
    (request, frames, count)
}

/// Makes a child as in [`request`].
///
/// # Errors
/// What the kernel says; the frames are free again then.
pub fn create(label: &str, spare: u64) -> Result<EnvName, Error> {
    let (request, frames, count) = request(label, spare);
    // SAFETY: the frames are new, and nothing is bound to them.
    let child = unsafe { environment::create(&request, &frames[..count]) };
    child.inspect_err(|_| ground::free(&frames[..count]))
}

/// Ends a child and frees its slot.
pub fn remove(child: EnvName) {
    rule::granted("to end a child", environment::destroy(child, capability::OWN, 0));
    rule::granted("to free its slot", environment::destroy(child, capability::OWN, 0));
}
