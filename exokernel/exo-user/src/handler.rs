//! Handlers of packets at their arrival: eBPF programs that the kernel verifies, compiles, and runs
//! before a packet is put into a ring. `packet_filters::ebpf::HANDLER` says what they are given, and
//! `packet_filters::ebpf::verify` why one is refused.

use crate::call::{address, call};
use exo_abi::{Call, Error, FrameNumber};

/// Gives a ring of the caller's a handler, in the place of the one before. It reads and writes the
/// frame `state`, which is the caller's and stays pinned; it sends with the capability in the slot
/// `capability`, if that has `NETWORK`.
///
/// # Errors
/// `NoRing`, `TooLong`, `NoFrame`, `NotOwner`, `FramePinned`, `BadProgram`.
///
/// # Safety
/// From now on the frame is written whenever a packet arrives: no reference to plain data may be
/// there, and what is there is read as atomics or not at all.
pub unsafe fn install(
    ring: u32,
    capability: u32,
    program: &[u8],
    state: FrameNumber,
) -> Result<(), Error> {
    let (address, length) = (address(program), program.len() as u64);
    let state = state.0;
    // SAFETY: the program is read only; for the frame the caller answers.
    unsafe { call(Call::HandlerInstall { ring, capability, address, length, state }) }.map(|_| ())
}

/// Takes the handler of a ring away, and unpins its frame.
///
/// # Errors
/// `NoRing`.
pub fn remove(ring: u32) -> Result<(), Error> {
    let (capability, address, length, state) = (0, 0, 0, 0);
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::HandlerInstall { ring, capability, address, length, state }) }.map(|_| ())
}
