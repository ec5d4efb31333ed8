//! Donated frames that have no use yet: a stack, linked through their records.

use crate::frame::{END, FrameTable};
use exo_abi::FrameNumber;

/// The pool of one environment.
#[derive(Debug)]
pub(crate) struct Pool {
    head: FrameNumber,
    count: u32,
}

impl Pool {
    /// A pool without frames.
    pub(crate) const EMPTY: Self = Self { head: END, count: 0 };

    /// How many frames are in it.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Puts a donated frame into the pool, in which it must not be yet.
    pub(crate) fn push(&mut self, frames: &mut FrameTable<'_>, frame: FrameNumber) {
        frames.update(frame, |record| record.pooled = self.head);
        self.head = frame;
        self.count += 1;
    }

    /// Takes a frame out, with whatever is in it.
    pub(crate) fn pop(&mut self, frames: &mut FrameTable<'_>) -> Option<FrameNumber> {
        let frame = self.head;
        if frame == END {
            return None;
        }
        self.head = frames.record(frame).pooled;
        self.count = self.count.saturating_sub(1);
        Some(frame)
    }
}
