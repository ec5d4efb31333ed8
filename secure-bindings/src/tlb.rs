//! The software TLB: the bindings of an environment, in frames that it donated.
//!
//! Two-choice hashing over buckets of eight. An entry has four words; the environment reads them
//! at [`layout::SOFTWARE_TLB`](exo_abi::layout::SOFTWARE_TLB):
//!
//! | word | bits |
//! |---|---|
//! | 0 | address of the page; rights in bits 0 to 9, unless the hardware entry says others; bit 10: valid; bit 11: the frame was lost |
//! | 1 | frame number in bits 0 to 31; its generation in bits 32 to 63 |
//! | 2 | next and previous binding of the same frame, 32 bits each: environment slot, TLB slot |
//! | 3 | rights when bound in bits 0 to 15; bit 16: accessed, bit 17: dirty, as far as the hardware entry was dropped since |
//!
//! A word 0 of zero is an empty entry: page 0 is never bound.
//!
//! Invariants:
//! - A page has at most one entry, in one of its two buckets.
//! - Every leaf entry of the hardware tables that is not 0, below the shared pages, has a valid entry
//!   here with the same frame and at least its rights granted.
//! - While there is such a leaf entry, it alone says what rights the page has now, and how it was
//!   used; those here are from before. A leaf entry that goes, with its binding staying, is written
//!   back.
//! - The chain of a frame holds exactly the valid entries for it, in all software TLBs.
//! - A valid entry's frame is held, in the generation that the entry names.
//! - A wired entry goes only by being unbound, bound anew, or with its frame.

use crate::frame::Link;
use crate::memory::FrameMemory;
use crate::tables;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use exo_abi::{FrameNumber, Rights};

/// Entries in each frame.
pub const ENTRIES_PER_FRAME: usize = 128;
/// Entries in a bucket. A page can be in two buckets.
pub const WAYS: u16 = 8;
/// The most frames of one software TLB.
pub const FRAMES_MAX: usize = 256;
/// The entry is a binding.
pub const VALID: u64 = 1 << 10;
/// The entry was a binding, and its frame was repossessed.
pub const LOST: u64 = 1 << 11;

const BUCKETS_PER_FRAME: u32 = ENTRIES_PER_FRAME as u32 / WAYS as u32;
const PAGE: u64 = !0xfff;
const RIGHTS: u64 = VALID - 1;
const GRANTED: u64 = 0xffff;
/// Bits of a hardware entry that are remembered, and how much further up they are then.
const USE: u64 = tables::ACCESSED | tables::DIRTY;
const USE_SHIFT: u32 = 11;
const _: () = assert!(USE << USE_SHIFT == 3 << 16);
/// A batch has claimed the entry for a wired page and has not yet bound it.
const CLAIMED: u64 = 1 << 18;

/// The rights in an entry's first word.
pub(crate) fn rights_in(head: u64) -> Rights {
    Rights::from_bits_truncate((head & RIGHTS) as u16)
}

/// An entry where it stands in memory.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'m>(&'m [AtomicU64; 4]);

impl Entry<'_> {
    /// The first word.
    pub(crate) fn head(self) -> u64 {
        self.0[0].load(Acquire)
    }

    /// The page's address.
    pub(crate) fn page(self) -> u64 {
        self.head() & PAGE
    }

    /// The first word, read after everything that was written before.
    pub(crate) fn head_again(self) -> u64 {
        self.0[0].load(SeqCst)
    }

    /// Whether it is a binding.
    pub(crate) fn is_valid(self) -> bool {
        self.head() & VALID != 0
    }

    /// The rights that the page has now.
    pub(crate) fn rights(self) -> Rights {
        rights_in(self.head())
    }

    /// The rights that the page was bound with.
    pub(crate) fn granted(self) -> Rights {
        Rights::from_bits_truncate((self.0[3].load(Relaxed) & GRANTED) as u16)
    }

    /// The frame and its generation.
    pub(crate) fn target(self) -> (FrameNumber, u32) {
        let word = self.0[1].load(Relaxed);
        (FrameNumber(word as u32), (word >> 32) as u32)
    }

    /// Makes it a binding. The links are set apart.
    pub(crate) fn bind(self, page: u64, frame: FrameNumber, generation: u32, rights: Rights) {
        let bits = u64::from(rights.bits());
        self.0[1].store(u64::from(frame.0) | u64::from(generation) << 32, Relaxed);
        self.0[3].store(bits, Relaxed);
        self.0[0].store(page | VALID | bits, Release);
    }

    /// Gives a binding other rights.
    pub(crate) fn set_rights(self, rights: Rights) {
        self.0[0].store(self.head() & !RIGHTS | u64::from(rights.bits()), SeqCst);
    }

    /// Makes it no binding any more; what it was stays in its other words.
    pub(crate) fn invalidate(self) {
        self.0[0].fetch_and(!VALID, SeqCst);
    }

    /// Empties it.
    pub(crate) fn clear(self) {
        for word in self.0 {
            word.store(0, SeqCst);
        }
    }

    /// Leaves only that the page was lost.
    pub(crate) fn lose(self) {
        let page = self.page();
        self.0[0].store(page | LOST, SeqCst);
        self.0[3].store(0, Relaxed);
        self.0[2].store(0, Relaxed);
    }

    /// The next and the previous binding of the frame.
    pub(crate) fn links(self) -> (Link, Link) {
        let word = self.0[2].load(Relaxed);
        (Link(word as u32), Link((word >> 32) as u32))
    }

    /// Sets the next and the previous binding of the frame.
    pub(crate) fn set_links(self, next: Link, previous: Link) {
        self.0[2].store(u64::from(next.0) | u64::from(previous.0) << 32, Relaxed);
    }

    /// Whether the entry may go to make place.
    fn is_evictable(self) -> bool {
        !self.rights().contains(Rights::WIRED) && self.0[3].load(Relaxed) & CLAIMED == 0
    }

    /// Claims the entry for a wired page; `page` is given if it is nobody's yet.
    pub(crate) fn claim(self, page: Option<u64>) {
        if let Some(page) = page {
            self.0[0].store(page, Relaxed);
        }
        self.0[3].store(self.0[3].load(Relaxed) | CLAIMED, Relaxed);
    }

    /// Gives a claim up.
    pub(crate) fn disclaim(self) {
        if self.head() & (VALID | LOST) == 0 {
            self.clear();
        } else {
            self.0[3].store(self.0[3].load(Relaxed) & !CLAIMED, Relaxed);
        }
    }

    /// Remembers what a hardware entry that is dropped says of the page: its rights, and its use.
    pub(crate) fn remember(self, hardware: u64) {
        self.set_rights(tables::rights_now(hardware));
        self.note_use(hardware);
    }

    /// Remembers the use of the page that a hardware entry's bits say.
    pub(crate) fn note_use(self, hardware: u64) {
        self.0[3].store(self.0[3].load(Relaxed) | (hardware & USE) << USE_SHIFT, Relaxed);
    }

    /// What was remembered, as bits of a hardware entry.
    pub(crate) fn remembered(self) -> u64 {
        self.0[3].load(Relaxed) >> USE_SHIFT & USE
    }
}

/// Where the software TLB of an environment is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tlb {
    /// A frame with the numbers of the others, a word each.
    pub(crate) directory: FrameNumber,
    /// How many others, 1 to [`FRAMES_MAX`].
    pub(crate) frames: u16,
}

/// A software TLB, for those who look things up in it without the lock of its space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbPlace {
    directory: FrameNumber,
    frames: u16,
}

impl TlbPlace {
    /// The place as one word.
    pub fn to_word(self) -> u64 {
        u64::from(self.directory.0) | u64::from(self.frames) << 32
    }

    /// The place from its word.
    pub fn from_word(word: u64) -> Self {
        Self { directory: FrameNumber(word as u32), frames: (word >> 32) as u16 }
    }
}

impl From<Tlb> for TlbPlace {
    fn from(Tlb { directory, frames }: Tlb) -> Self {
        Self { directory, frames }
    }
}

impl From<TlbPlace> for Tlb {
    fn from(TlbPlace { directory, frames }: TlbPlace) -> Self {
        Self { directory, frames }
    }
}

/// Both multipliers are odd numbers without structure: the golden ratio, and a prime of xxHash.
const HASHES: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];

impl Tlb {
    /// How many entries there are.
    pub(crate) fn slots(self) -> u16 {
        self.frames * ENTRIES_PER_FRAME as u16
    }

    /// The entry in a slot.
    pub(crate) fn entry<M: FrameMemory>(self, memory: &M, slot: u16) -> Entry<'_> {
        let (entries, _) = self.frame(memory, slot).as_chunks::<4>();
        Entry(&entries[usize::from(slot) % ENTRIES_PER_FRAME])
    }

    fn frame<M: FrameMemory>(self, memory: &M, slot: u16) -> &crate::Page {
        let place = usize::from(slot) / ENTRIES_PER_FRAME;
        let frame = memory.page(self.directory)[place].load(Relaxed);
        memory.page(FrameNumber(frame as u32))
    }

    /// The first slots of the two buckets of a page.
    fn buckets(self, page: u64) -> [u16; 2] {
        let buckets = u64::from(u32::from(self.frames) * BUCKETS_PER_FRAME);
        HASHES.map(|factor| {
            let hash = (page >> 12).wrapping_mul(factor) >> 32;
            ((hash * buckets) >> 32) as u16 * WAYS
        })
    }

    /// The slot of a page's entry, binding or not.
    #[inline]
    pub(crate) fn find(self, memory: &impl FrameMemory, page: u64) -> Option<u16> {
        for bucket in self.buckets(page) {
            let (entries, _) = self.frame(memory, bucket).as_chunks::<4>();
            let first = usize::from(bucket) % ENTRIES_PER_FRAME;
            for (way, entry) in entries.iter().skip(first).take(WAYS.into()).enumerate() {
                if entry[0].load(Relaxed) & PAGE == page {
                    return Some(bucket + way as u16);
                }
            }
        }
        None
    }

    /// Where a page's entry is or can go: its own slot, an empty one in the emptier bucket, one
    /// that was lost, or from `hand` on one that may go. `None` if all others are wired.
    #[inline]
    pub(crate) fn place(self, memory: &impl FrameMemory, page: u64, hand: u16) -> Option<u16> {
        let mut best = (0, 0);
        for bucket in self.buckets(page) {
            let (entries, _) = self.frame(memory, bucket).as_chunks::<4>();
            let first = usize::from(bucket) % ENTRIES_PER_FRAME;
            let (mut empty, mut slot) = (0, 0);
            for (way, entry) in entries.iter().skip(first).take(WAYS.into()).enumerate() {
                let head = entry[0].load(Relaxed);
                if head & PAGE == page {
                    return Some(bucket + way as u16);
                }
                if head == 0 {
                    empty += 1;
                    slot = bucket + way as u16;
                }
            }
            if empty > best.0 {
                best = (empty, slot);
            }
        }
        if best.0 > 0 { Some(best.1) } else { self.victim(memory, page, hand) }
    }

    fn victim(self, memory: &impl FrameMemory, page: u64, hand: u16) -> Option<u16> {
        let [first, second] = self.buckets(page);
        let slots = (0..2 * WAYS).map(|step| {
            let way = hand.wrapping_add(step) % (2 * WAYS);
            if way < WAYS { first + way } else { second + way - WAYS }
        });
        let evictable = |slot: &u16| self.entry(memory, *slot).is_evictable();
        let lost = |slot: &u16| self.entry(memory, *slot).head() & LOST != 0;
        let mut candidates = slots.filter(evictable);
        candidates.clone().find(lost).or_else(|| candidates.next())
    }
}
