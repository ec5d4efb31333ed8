//! UDP as programs see it.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, SendError, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, Ipv4Address};

use crate::link::FilterId;

/// The name of a UDP socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DatagramId(pub(crate) usize);

/// Why a datagram was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SendToError {
    /// The buffer is full: the next turn may find room.
    Full,
    /// The receiver's address or port is nobody's.
    NoReceiver,
}

impl fmt::Display for SendToError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the buffer is full",
            Self::NoReceiver => "the receiver's address or port is nobody's",
        })
    }
}

impl core::error::Error for SendToError {}

/// One UDP socket in a set of its own.
pub(crate) struct Port {
    pub(crate) filter: FilterId,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    pub(crate) dirty: bool,
    pub(crate) due: Option<Instant>,
}

impl Port {
    /// A socket for `port`, which is not 0, with room for `datagrams` of `bytes` in total each way.
    pub(crate) fn new(port: u16, datagrams: usize, bytes: usize, filter: FilterId) -> Self {
        let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; datagrams], vec![0; bytes]);
        let mut socket = Socket::new(buffer(), buffer());
        let bound = socket.bind(port);
        debug_assert!(bound.is_ok(), "a fresh socket takes every port but 0");
        let mut sockets = SocketSet::new(Vec::from([SocketStorage::EMPTY]));
        let handle = sockets.add(socket);
        Self { filter, sockets, handle, dirty: false, due: None }
    }

    /// The set with this socket alone, for smoltcp to poll.
    pub(crate) fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

/// A UDP socket, borrowed for one turn.
pub struct Datagram<'a> {
    pub(crate) port: &'a mut Port,
}

impl Datagram<'_> {
    /// Moves the oldest datagram to `bytes`, cut off at its end. Returns its length there and where
    /// it came from.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Option<(usize, Ipv4Address, u16)> {
        let (payload, from) = self.port.socket().recv().ok()?;
        let length = payload.len().min(bytes.len());
        bytes[..length].copy_from_slice(&payload[..length]);
        let IpAddress::Ipv4(address) = from.endpoint.addr;
        Some((length, address, from.endpoint.port))
    }

    /// Queues a datagram.
    ///
    /// # Errors
    /// [`SendToError::Full`], also for one longer than the whole buffer;
    /// [`SendToError::NoReceiver`].
    pub fn send(&mut self, bytes: &[u8], to: Ipv4Address, port: u16) -> Result<(), SendToError> {
        let sent = self.port.socket().send_slice(bytes, (IpAddress::Ipv4(to), port));
        self.port.dirty |= sent.is_ok();
        sent.map_err(|error| match error {
            SendError::BufferFull => SendToError::Full,
            SendError::Unaddressable => SendToError::NoReceiver,
        })
    }
}

impl fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram").field("filter", &self.port.filter).finish_non_exhaustive()
    }
}
