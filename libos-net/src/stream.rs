//! TCP as programs see it.

use core::fmt;

use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use crate::tcp::Slot;

/// What a listener sets aside when it opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backlog {
    /// How many connections there can be at once.
    pub connections: usize,
    /// The bytes of each connection's receive buffer.
    pub receive: usize,
    /// The bytes of each connection's send buffer.
    pub send: usize,
}

/// The name of a listener.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListenerId(pub(crate) usize);

/// The name of a connection. It is never used twice for different ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId {
    pub(crate) index: usize,
    pub(crate) generation: u32,
}

/// Why there is nothing to read and never will be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReadError {
    /// The other side has closed its half and everything before that has been read.
    Finished,
    /// The connection was reset, or the other side stopped answering.
    Broken,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "the other side has closed",
            Self::Broken => "the connection broke",
        })
    }
}

impl core::error::Error for ReadError {}

/// Why nothing can be written any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WriteError {
    /// The connection was reset, or the other side stopped answering.
    Broken,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection broke")
    }
}

impl core::error::Error for WriteError {}

/// A connection, borrowed for one turn.
///
/// Nothing here waits: a read without data and a write without room return 0, and the next turn
/// comes when that has changed.
pub struct Stream<'a> {
    pub(crate) slot: &'a mut Slot,
    pub(crate) now: Instant,
}

impl Stream<'_> {
    /// The other end.
    pub fn remote(&self) -> Option<(Ipv4Address, u16)> {
        self.slot.flow().map(|flow| flow.remote)
    }

    /// Whether the handshake is done. Accepted connections are open from the start.
    pub fn is_open(&self) -> bool {
        !matches!(self.slot.socket().state(), State::SynSent | State::SynReceived | State::Closed)
    }

    /// Moves what has arrived to `bytes` and returns how much that was; 0: nothing yet.
    ///
    /// # Errors
    /// [`ReadError`]: nothing will come any more.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ReadError> {
        let socket = self.slot.socket_mut();
        if socket.can_recv() {
            // The window that opens is to be announced.
            self.slot.dirty = true;
            return self.slot.socket_mut().recv_slice(bytes).map_err(|_| ReadError::Broken);
        }
        match socket.state() {
            State::Closed => Err(ReadError::Broken),
            State::SynSent | State::SynReceived => Ok(0),
            _ if socket.may_recv() => Ok(0),
            _ => Err(ReadError::Finished),
        }
    }

    /// Queues the beginning of `bytes` and returns how much that was; 0: no room yet.
    ///
    /// # Errors
    /// [`WriteError`]: nothing can be sent any more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, WriteError> {
        let socket = self.slot.socket_mut();
        if socket.state() == State::SynSent {
            return Ok(0);
        }
        let written = socket.send_slice(bytes).map_err(|_| WriteError::Broken)?;
        self.slot.dirty |= written > 0;
        Ok(written)
    }

    /// How many bytes were written that the other side has not acknowledged.
    pub fn unsent(&self) -> usize {
        self.slot.socket().send_queue()
    }

    /// Ends the connection once everything written has arrived. Its name is over now.
    pub fn close(self) {
        self.slot.finish(self.now);
    }

    /// Ends the connection with a reset. Its name is over now.
    pub fn abort(self) {
        self.slot.socket_mut().abort();
        self.slot.finish(self.now);
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("remote", &self.remote())
            .field("state", &self.slot.socket().state())
            .finish_non_exhaustive()
    }
}
