//! Physical frames, by number.

use crate::call::{address, call};
use exo_abi::{Call, EnvName, Error, FrameNumber};

/// Takes the frames in the list; [`FrameNumber::ANY`] is replaced by the number of a free one. Their
/// guard is the name of the capability in slot `capability`. All or none.
///
/// # Errors
/// `TooLong`, `NoCapability`, `NoFrame`, `FrameTaken`, `NoFreeFrames`, `OverLimit`.
pub fn allocate(frames: &mut [FrameNumber], capability: u32) -> Result<(), Error> {
    let (list, count) = (frames.as_mut_ptr() as u64, frames.len() as u64);
    // SAFETY: the kernel writes only the list, which is borrowed for it. Numbers are plain data.
    unsafe { call(Call::FrameAllocate { list, count, capability }) }.map(|_| ())
}

/// Takes one free frame, any.
///
/// # Errors
/// As [`allocate`].
pub fn allocate_any(capability: u32) -> Result<FrameNumber, Error> {
    let mut frame = [FrameNumber::ANY];
    allocate(&mut frame, capability)?;
    Ok(frame[0])
}

/// Gives frames back and breaks every binding to them. All or none.
///
/// # Errors
/// `TooLong`, `NoFrame`, `NotOwner`, `FramePinned`, `BadArgument`.
///
/// # Safety
/// Nothing refers to memory that is bound to one of the frames.
pub unsafe fn free(frames: &[FrameNumber]) -> Result<(), Error> {
    let (list, count) = (address(frames), frames.len() as u64);
    // SAFETY: the list is read only; for the frames the caller answers.
    unsafe { call(Call::FrameFree { list, count }) }.map(|_| ())
}

/// Makes frames another environment's. The caller's bindings to them stay. All or none.
///
/// # Errors
/// `NoEnvironment`, `StaleEnvironment`, `WrongState`, `NoCapability`, `NotDominated`, `TooLong`,
/// `NoFrame`, `NotOwner`, `FramePinned`, `OverLimit` (the receiver's), `BadArgument`.
pub fn transfer(
    frames: &[FrameNumber],
    environment: EnvName,
    capability: u32,
) -> Result<(), Error> {
    let (list, count) = (address(frames), frames.len() as u64);
    // SAFETY: the list is read only, and bindings stay as they are.
    unsafe { call(Call::FrameTransfer { environment, capability, list, count }) }.map(|_| ())
}

/// Donates frames to the kernel for the caller's own tables. All or none.
///
/// # Errors
/// `TooLong`, `NoFrame`, `NotOwner`, `FramePinned`, `BadArgument`.
///
/// # Safety
/// As [`free`]: the kernel breaks every binding to them.
pub unsafe fn donate(frames: &[FrameNumber]) -> Result<(), Error> {
    let (list, count) = (address(frames), frames.len() as u64);
    // SAFETY: the list is read only; for the frames the caller answers.
    unsafe { call(Call::Donate { list, count }) }.map(|_| ())
}
