//! The network as a library: rings, TCP/IP by smoltcp, sockets.
//!
//! The crate owns everything between the kernel's receive ring and a program's sockets: the filters
//! that claim packets, the ring in the program's own frames, the TCP/IP stack, the batch of frames
//! to send, and the loop that sleeps when there is nothing to do. The kernel knows none of this. A
//! program that wants another stack links another library.
//!
//! | module | what it holds |
//! |---|---|
//! | [`link`] | what carries frames: a trait, so that tests bring their own wire |
//! | [`cable`] | a link in memory, for tests |
//! | [`ring`] | the consumer's side of a receive ring |
//! | [`nic`] | the link that the kernel offers: a ring, filters, the send call |
//! | [`stack`] | one interface with its sockets |
//! | [`stream`], [`datagram`] | what programs do with TCP and UDP sockets |
//! | [`settings`] | the addresses: static or by DHCP, read from the program's arguments |
//! | [`service`] | the loop: drain, handle, flush, sleep |
//! | [`reserve`] | spare frames, which are the first to go when somebody asks for some back |
//!
//! # Principles
//!
//! 1. *Run to completion.* One turn drains a batch from the ring, lets the program answer, and sends
//!    everything in one call. Nothing waits inside a turn.
//! 2. *The filter names the socket.* The id in a packet's descriptor leads to a listener or a socket
//!    without looking at the packet; only the connections of one listener are told apart by their
//!    remote end. A packet costs the same with one connection as with many.
//! 3. *Time is an argument.* Nothing but [`service`] reads a clock, so that tests own the time.
//! 4. *Memory is bounded when a socket opens.* What strangers send can fill what was set aside and
//!    nothing else. A listener without a free connection drops the packet that would open one more,
//!    which makes the other side try again.
//! 5. *No lost wakeup.* The pending bit is cleared before the ring is looked at; whatever arrives
//!    later sets it again and ends the next sleep at once.
#![no_std]

extern crate alloc;

pub mod cable;
pub mod datagram;
mod device;
mod entropy;
pub mod link;
pub mod nic;
pub mod reserve;
pub mod ring;
mod segment;
pub mod service;
pub mod settings;
pub mod stack;
pub mod stream;
mod tcp;
mod time_wait;

pub use exo_user;
pub use filter_language;

pub use datagram::{Datagram, DatagramId};
pub use link::{Arrival, FilterId, Link, LinkError};
pub use nic::Nic;
pub use reserve::Reserve;
pub use service::Service;
pub use settings::{Address, Settings};
pub use smoltcp::time::{Duration, Instant};
pub use smoltcp::wire::{IpEndpoint, Ipv4Address, Ipv4Cidr};
pub use stack::{OpenError, Stack};
pub use stream::{Backlog, ListenerId, Stream, StreamId};
