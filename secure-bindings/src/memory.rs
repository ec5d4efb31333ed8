//! The machine's memory and translation caches, as far as bindings need them.

use core::sync::atomic::AtomicU64;
use exo_abi::FrameNumber;

/// A frame's contents: 512 words. Programs may write to most frames at any time, so that every
/// access is atomic, and nothing read twice need be the same.
pub type Page = [AtomicU64; 512];

/// Access to physical memory.
pub trait FrameMemory {
    /// The contents of `frame`.
    ///
    /// The number must be that of a frame in the frame table, which the caller has checked.
    fn page(&self, frame: FrameNumber) -> &Page;

    /// Copies bytes out of `frame` from `offset` on, as many as fit in both.
    fn read(&self, frame: FrameNumber, offset: usize, into: &mut [u8]);

    /// Copies bytes into `frame` from `offset` on, as many as fit.
    fn write(&self, frame: FrameNumber, offset: usize, from: &[u8]);

    /// Fills `frame` with zeros.
    fn clear(&self, frame: FrameNumber);
}

/// The hardware's translation caches.
pub trait TranslationCache {
    /// Forgets the translation of the page at `address` in the address space whose top-level table
    /// is `root`, on every CPU, and returns when none can use it any more.
    fn flush(&self, root: FrameNumber, address: u64);

    /// Forgets every translation of the address space.
    fn flush_space(&self, root: FrameNumber);
}
