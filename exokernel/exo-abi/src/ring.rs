//! Receive rings, which live in frames of their owner.
//!
//! The first frame of a ring is the header page: [`HEADER_WORDS`] words, then a descriptor word for
//! each slot. The other frames hold the packets, [`SLOTS_PER_FRAME`] slots of [`SLOT_SIZE`] bytes
//! each. Packet number `n` is in slot `n % slots`. The kernel fills slots while `produced -
//! consumed < slots`, and drops what finds the ring full. It keeps its own copy of `produced`, and
//! takes `consumed` as a claim that can only harm the ring's owner.

/// The bytes of a packet slot.
pub const SLOT_SIZE: u64 = 2048;
/// Slots in each frame behind the header page.
pub const SLOTS_PER_FRAME: u64 = 2;
/// The words before the descriptors: produced, consumed, slots, dropped, and four reserved.
pub const HEADER_WORDS: usize = 8;
/// The word of the count of packets put in, written by the kernel.
pub const PRODUCED: usize = 0;
/// The word of the count of packets taken out, written by the owner.
pub const CONSUMED: usize = 1;
/// The word of the number of slots, written by the kernel.
pub const SLOTS: usize = 2;
/// The word of the count of packets dropped, written by the kernel.
pub const DROPPED: usize = 3;
/// The most frames behind the header page.
pub const FRAMES_MAX: u64 = 128;

/// What a descriptor word says of the packet in its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// The packet's length in bytes.
    pub length: u16,
    /// The filter that matched: it names the socket.
    pub filter: u32,
}

impl Descriptor {
    /// The descriptor as a word.
    pub const fn to_word(self) -> u64 {
        self.length as u64 | (self.filter as u64) << 32
    }

    /// The descriptor from its word.
    pub const fn from_word(word: u64) -> Self {
        Self { length: word as u16, filter: (word >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_ring_has_a_descriptor_for_each_slot() {
        let words = HEADER_WORDS as u64 + FRAMES_MAX * SLOTS_PER_FRAME;
        assert!(words * 8 <= 4096);
        const { assert!(crate::layout::PACKET_MAX <= SLOT_SIZE) };
        let descriptor = Descriptor { length: 1514, filter: 70_000 };
        assert_eq!(Descriptor::from_word(descriptor.to_word()), descriptor);
    }
}
