//! Receive rings. [`exo_abi::ring`] says what they look like.

use crate::call::{address, call};
use exo_abi::{Call, Error, FrameNumber};

/// Makes a ring of frames that the caller holds, the header page first, and returns its id. The
/// frames are pinned until the ring is destroyed.
///
/// # Errors
/// `TooLong`, `BadArgument`, `NoFrame`, `NotOwner`, `FramePinned`, `OverLimit`, `NoFreeRings`.
///
/// # Safety
/// From now on the kernel writes to the frames at any time: no reference to plain data may be
/// there, and what is there is read as atomics or not at all.
pub unsafe fn create(frames: &[FrameNumber]) -> Result<u32, Error> {
    let (list, count) = (address(frames), frames.len() as u64);
    // SAFETY: the list is read only; for the frames the caller answers.
    unsafe { call(Call::RingCreate { list, count }) }.map(|id| id as u32)
}

/// Destroys a ring and the filters that lead to it. Its frames are no longer written.
///
/// # Errors
/// `NoRing`.
pub fn destroy(ring: u32) -> Result<(), Error> {
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::RingDestroy { ring }) }.map(|_| ())
}
