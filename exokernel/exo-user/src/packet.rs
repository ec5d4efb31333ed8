//! Sending packets.

use crate::call::{address, call};
use core::marker::PhantomData;
use exo_abi::request::SendRequest;
use exo_abi::{Call, Error};

/// A packet to send, link header first, borrowed until it is sent.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Packet<'a>(SendRequest, PhantomData<&'a [u8]>);

impl<'a> Packet<'a> {
    /// A packet of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        let request = SendRequest { address: address(bytes), length: bytes.len() as u64 };
        Self(request, PhantomData)
    }
}

/// Sends packets in one call and returns how many of them, from the first on, were sent. The
/// capability needs `NETWORK`.
///
/// # Errors
/// For the first packet: `NoCapability`, `NotDominated`, `BadAddress`, `NotBound`, `TooLong`,
/// `BadPacket`, `NoDevice`, `QueueFull`.
pub fn send(packets: &[Packet<'_>], capability: u32) -> Result<usize, Error> {
    let (list, count) = (address(packets), packets.len() as u64);
    // SAFETY: list and packets are read only and borrowed; the kernel has copied them when it
    // returns.
    unsafe { call(Call::Send { capability, list, count }) }.map(|sent| sent as usize)
}
