//! smoltcp's view of a link: at most one frame that came in, and a batch of frames to send.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::link::{FRAME_MAX, Link, LinkError};

/// How many frames one send call carries at most.
pub(crate) const BATCH: usize = 64;

/// A frame to send.
struct Frame {
    length: usize,
    bytes: [u8; FRAME_MAX],
}

impl Frame {
    const EMPTY: Self = Self { length: 0, bytes: [0; FRAME_MAX] };
}

/// The frames of one turn, in order. Those that the link did not take stay for the next.
pub(crate) struct Outbox {
    frames: Box<[Frame]>,
    head: usize,
    count: usize,
    /// Where a frame is built that has no place: smoltcp cannot be told in the middle of a reply.
    spill: Box<Frame>,
    refused: u64,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        let frames = (0..BATCH).map(|_| Frame::EMPTY).collect::<Vec<_>>().into_boxed_slice();
        Self { frames, head: 0, count: 0, spill: Box::new(Frame::EMPTY), refused: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// How many frames had no place or were refused for good.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds a frame of `length` bytes that `fill` writes.
    pub(crate) fn push<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let length = length.min(FRAME_MAX);
        let frame = if self.is_full() {
            self.refused = self.refused.saturating_add(1);
            &mut *self.spill
        } else {
            let index = (self.head + self.count) % BATCH;
            self.count += 1;
            &mut self.frames[index]
        };
        frame.length = length;
        fill(&mut frame.bytes[..length])
    }

    /// Hands the frames to the link, in one call unless it stops midway. False: some are left.
    pub(crate) fn flush(&mut self, link: &mut impl Link) -> bool {
        while self.count > 0 {
            let mut batch: [&[u8]; BATCH] = [&[]; BATCH];
            for (offset, place) in batch.iter_mut().take(self.count).enumerate() {
                let frame = &self.frames[(self.head + offset) % BATCH];
                *place = &frame.bytes[..frame.length];
            }
            let taken = match link.send(&batch[..self.count]) {
                Ok(0) | Err(LinkError::Busy) => return false,
                Ok(taken) => taken.min(self.count),
                // The first frame will never go: without dropping it, none behind it would.
                Err(_) => {
                    self.refused = self.refused.saturating_add(1);
                    1
                }
            };
            self.head = (self.head + taken) % BATCH;
            self.count -= taken;
        }
        true
    }
}

/// One frame that came in, and where frames go out: what smoltcp polls.
pub(crate) struct Port<'a> {
    pub(crate) incoming: Option<&'a [u8]>,
    pub(crate) outbox: &'a mut Outbox,
}

impl phy::Device for Port<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t>
    where
        Self: 't;

    fn receive(&mut self, _timestamp: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let frame = self.incoming.take()?;
        Some((Incoming(frame), Outgoing(self.outbox)))
    }

    fn transmit(&mut self, _timestamp: Instant) -> Option<Outgoing<'_>> {
        (!self.outbox.is_full()).then_some(Outgoing(self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_MAX;
        capabilities.max_burst_size = Some(BATCH);
        capabilities
    }
}

/// The frame that came in, where it lies in the ring.
pub(crate) struct Incoming<'a>(&'a [u8]);

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// The place of a frame to send.
pub(crate) struct Outgoing<'a>(&'a mut Outbox);

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.0.push(length, f)
    }
}
