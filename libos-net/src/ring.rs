//! The consumer's side of a receive ring.
//!
//! The layout is the one of `exo_abi::ring`: a header page with the counters and a descriptor for
//! each slot, then the slots. The producer is the kernel. It is trusted with more than a ring, yet
//! nothing here depends on it: counters that make no sense are caught up with, and a length is
//! believed up to the size of a slot.

use core::sync::atomic::{AtomicU64, Ordering};

use exo_user::abi::ring::{CONSUMED, DROPPED, Descriptor, HEADER_WORDS, PRODUCED, SLOT_SIZE};

use crate::link::{Arrival, FilterId};

/// The consumer's side of a receive ring.
#[derive(Debug)]
pub struct Ring {
    header: &'static [AtomicU64],
    packets: *const u8,
    slots: u64,
    /// The owner's own count. The word in the header is only a message to the producer.
    consumed: u64,
    skipped: u64,
}

impl Ring {
    /// A ring over its two parts. The number of slots is what both parts have room for.
    ///
    /// # Safety
    /// `packets` must be readable for `slots * SLOT_SIZE` bytes for as long as the ring lives, and
    /// only a producer that keeps to the protocol may write there: slot `n % slots` between the
    /// moment in which packet `n - slots` was released and the one in which `produced` passes `n`.
    pub unsafe fn new(header: &'static [AtomicU64], packets: *const u8, slots: u64) -> Self {
        let descriptors = header.len().saturating_sub(HEADER_WORDS) as u64;
        let slots = slots.min(descriptors);
        let consumed = header.get(PRODUCED).map_or(0, |word| word.load(Ordering::Acquire));
        let ring = Self { header, packets, slots, consumed, skipped: 0 };
        ring.publish();
        ring
    }

    /// The oldest packet. Descriptors that make no sense are passed over and counted.
    pub fn peek(&mut self) -> Option<Arrival<'_>> {
        let produced = self.header.get(PRODUCED)?.load(Ordering::Acquire);
        loop {
            let waiting = produced.wrapping_sub(self.consumed);
            if waiting == 0 {
                return None;
            }
            if waiting > self.slots {
                // The producer went around: what the slots hold now, nobody knows.
                self.skipped = self.skipped.saturating_add(1);
                self.consumed = produced;
                self.publish();
                return None;
            }
            let slot = self.consumed % self.slots;
            let word = self.header.get(HEADER_WORDS + slot as usize)?.load(Ordering::Relaxed);
            let descriptor = Descriptor::from_word(word);
            if u64::from(descriptor.length) <= SLOT_SIZE && descriptor.length > 0 {
                // SAFETY: `slot` is below `slots` and the length within a slot, so the bytes are
                // inside what `new` was promised; the producer leaves the slot alone until the
                // packet is released, which takes `&mut self` and so ends this borrow.
                let frame = unsafe {
                    let first = self.packets.add((slot * SLOT_SIZE) as usize);
                    core::slice::from_raw_parts(first, usize::from(descriptor.length))
                };
                return Some(Arrival { filter: FilterId(descriptor.filter), frame });
            }
            self.skipped = self.skipped.saturating_add(1);
            self.release_one();
        }
    }

    /// Gives the oldest packet's slot back to the producer. Without a packet it does nothing.
    pub fn release(&mut self) {
        let produced = self.header.get(PRODUCED).map_or(0, |word| word.load(Ordering::Acquire));
        if produced != self.consumed {
            self.release_one();
        }
    }

    /// How many packets the producer dropped because the ring was full.
    pub fn dropped(&self) -> u64 {
        self.header.get(DROPPED).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// How often counters or descriptors made no sense. Not zero: the producer is broken.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn release_one(&mut self) {
        self.consumed = self.consumed.wrapping_add(1);
        self.publish();
    }

    fn publish(&self) {
        if let Some(word) = self.header.get(CONSUMED) {
            word.store(self.consumed, Ordering::Release);
        }
    }
}
