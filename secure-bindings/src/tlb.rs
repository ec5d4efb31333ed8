//! The software TLB: the bindings of an environment, in frames that it donated.
//!
//! Sixteen pages in a row share a frame, in which every one of them has another bucket of eight, and a
//! second frame for what finds no place in the first. An entry has four words; the environment reads them
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
use crate::memory::{FrameMemory, Page};
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

/// What is left of a page's address is the number of its group: a page for each bucket of a frame.
const GROUP_SHIFT: u32 = 16;
/// The bytes of a group.
pub(crate) const GROUP_SPAN: u64 = 1 << GROUP_SHIFT;
const _: () = assert!(ENTRIES_PER_FRAME == WAYS as usize * 16 && 2 * FRAMES_MAX <= 512);
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

    /// Makes it a binding, the first of its frame before `next`.
    #[inline]
    pub(crate) fn bind(
        self,
        page: u64,
        (frame, generation): (FrameNumber, u32),
        rights: Rights,
        next: Link,
    ) {
        let bits = u64::from(rights.bits());
        self.0[1].store(u64::from(frame.0) | u64::from(generation) << 32, Relaxed);
        self.set_links(next, Link::NONE);
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

    /// Gives a claim up; says whether it was all that there was.
    pub(crate) fn disclaim(self) -> bool {
        self.0[3].store(self.0[3].load(Relaxed) & !CLAIMED, Relaxed);
        self.head() & (VALID | LOST) == 0
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlb {
    /// A frame with a word for each of the others: its number, and from bit 32 on a bit for each bucket
    /// of which a page is in another frame. In its second half a word for each: how many entries of
    /// each bucket are not empty, four bits for one.
    pub(crate) directory: FrameNumber,
    /// How many others, 1 to [`FRAMES_MAX`].
    pub(crate) frames: u16,
}

/// Both multipliers are odd numbers without structure: the golden ratio, and a prime of xxHash.
const HASHES: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];

/// In a word of the directory: a page of the first bucket is in its other frame. The next bits say so
/// of the next buckets. They stay: what they cost is only a look there.
const OVERFLOW: u64 = 1 << 32;
/// In the words that count: one more in each bucket.
const EACH: u64 = 0x1111_1111_1111_1111;

/// A frame of the software TLB, for the pages of a group.
#[derive(Clone, Copy)]
struct Choice<'m> {
    entries: &'m Page,
    /// What the directory says of it: its number and more, and how full its buckets are.
    words: [&'m AtomicU64; 2],
    first: u16,
    mix: u64,
}

/// Where an entry is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'m> {
    pub(crate) slot: u16,
    pub(crate) entry: Entry<'m>,
    /// The word of the directory that counts what is not empty.
    used: &'m AtomicU64,
}

impl Place<'_> {
    /// Takes note that the entry is no longer empty. To be called before it is filled, so that nobody
    /// passes it over who could know of it.
    #[inline]
    pub(crate) fn note_filled(self) {
        add(self.used, 1 << (self.slot / WAYS % 16 * 4));
    }
}

impl<'m> Choice<'m> {
    /// The bucket of a page, 0 to 15.
    #[inline]
    fn bucket(&self, page: u64) -> usize {
        ((page >> 12 ^ self.mix) & 15) as usize
    }

    /// The entries of a bucket.
    #[inline]
    fn ways(&self, bucket: usize) -> &'m [[AtomicU64; 4]; WAYS as usize] {
        &self.entries.as_chunks::<4>().0.as_chunks().0[bucket]
    }

    /// How many of them are not empty.
    #[inline]
    fn used(&self, bucket: usize) -> u64 {
        self.words[1].load(Relaxed) >> (4 * bucket) & 15
    }

    #[inline]
    fn place(&self, bucket: usize, way: usize) -> Place<'m> {
        let slot = self.first + (bucket * usize::from(WAYS) + way) as u16;
        Place { slot, entry: Entry(&self.ways(bucket)[way]), used: self.words[1] }
    }

    /// A page's entry, binding or not. Without the lock: other entries may come and go meanwhile.
    #[inline]
    fn find(&self, page: u64) -> Option<Place<'m>> {
        let bucket = self.bucket(page);
        if self.used(bucket) == 0 {
            return None;
        }
        let way = self.ways(bucket).iter().position(|entry| entry[0].load(Relaxed) & PAGE == page);
        way.map(|way| self.place(bucket, way))
    }

    /// With the lock: whether a page has an entry in its bucket, and in which way; or else the first way
    /// that is empty, or [`WAYS`].
    #[inline(always)]
    fn search(&self, page: u64, bucket: usize) -> (bool, usize) {
        let (mut left, mut empty) = (self.used(bucket), usize::from(WAYS));
        for (way, entry) in self.ways(bucket).iter().enumerate() {
            if left == 0 {
                return (false, empty.min(way));
            }
            let head = entry[0].load(Relaxed);
            if head & PAGE == page {
                return (true, way);
            }
            if head == 0 {
                empty = empty.min(way);
            } else {
                left -= 1;
            }
        }
        (false, empty)
    }
}

/// What pages of a group have in common: 16 pages in a row have their entries in the same frame, each
/// in a bucket of its own, or else in another frame.
#[derive(Clone, Copy)]
pub(crate) struct Group<'m, M> {
    tlb: Tlb,
    memory: &'m M,
    number: u64,
    home: Choice<'m>,
}

impl<'m, M: FrameMemory> Group<'m, M> {
    /// Whether a page of a bucket may be in the other frame.
    #[inline]
    fn overflows(&self, bucket: usize) -> bool {
        self.home.words[0].load(Relaxed) >> bucket & OVERFLOW != 0
    }

    fn other(&self) -> Choice<'m> {
        self.tlb.choice(self.memory, self.number, HASHES[1])
    }

    /// Where a page's entry is or can go: its own slot, an empty one, one that was lost, or from `hand`
    /// on one that may go. `None` if all others are wired.
    #[inline(always)]
    pub(crate) fn place(&self, page: u64, hand: u16) -> Option<Place<'m>> {
        let bucket = self.home.bucket(page);
        let (found, way) = self.home.search(page, bucket);
        if found || way < WAYS.into() && !self.overflows(bucket) {
            return Some(self.home.place(bucket, way));
        }
        self.place_further(page, hand, way)
    }

    #[inline(never)]
    fn place_further(&self, page: u64, hand: u16, empty: usize) -> Option<Place<'m>> {
        let (home, other, ways) = (&self.home, self.other(), usize::from(WAYS));
        let [near, far] = [home, &other].map(|choice| choice.bucket(page));
        let (found, way) = other.search(page, far);
        if !found && empty < ways {
            return Some(home.place(near, empty));
        }
        home.words[0].store(home.words[0].load(Relaxed) | OVERFLOW << near, Release);
        if way < ways {
            return Some(other.place(far, way));
        }
        let turns = (0..2 * WAYS).map(|step| usize::from(hand.wrapping_add(step) % (2 * WAYS)));
        let places = turns.map(|turn| match turn.checked_sub(ways) {
            None => home.place(near, turn),
            Some(turn) => other.place(far, turn),
        });
        let evictable = places.filter(|place| place.entry.is_evictable());
        evictable.min_by_key(|place| place.entry.head() & LOST == 0)
    }

    /// Whether every page of the group certainly finds a place, even after pages of `more` groups were
    /// wired: if no bucket of the frame is so full.
    pub(crate) fn has_room(&self, more: u64) -> bool {
        let used = self.home.words[1].load(Relaxed).wrapping_add(more.wrapping_mul(EACH));
        more < WAYS.into() && used & (EACH * u64::from(WAYS)) == 0
    }
}

impl Tlb {
    /// The place as one word.
    pub fn to_word(self) -> u64 {
        u64::from(self.directory.0) | u64::from(self.frames) << 32
    }

    /// The place from its word.
    pub fn from_word(word: u64) -> Self {
        Self { directory: FrameNumber(word as u32), frames: (word >> 32) as u16 }
    }

    /// How many entries there are.
    pub(crate) fn slots(self) -> u16 {
        self.frames * ENTRIES_PER_FRAME as u16
    }

    /// The entry in a slot.
    pub(crate) fn entry<M: FrameMemory>(self, memory: &M, slot: u16) -> Entry<'_> {
        let [word, _] = self.words(memory, slot);
        let page = memory.page(FrameNumber(word.load(Relaxed) as u32));
        Entry(&page.as_chunks::<4>().0[usize::from(slot) % ENTRIES_PER_FRAME])
    }

    /// What the directory says of the frame in which a slot is.
    fn words<M: FrameMemory>(self, memory: &M, slot: u16) -> [&AtomicU64; 2] {
        let (directory, frame) =
            (memory.page(self.directory), usize::from(slot) / ENTRIES_PER_FRAME);
        [&directory[frame], &directory[FRAMES_MAX + frame]]
    }

    /// The frame that a hash picks for a group.
    #[inline]
    fn choice<M: FrameMemory>(self, memory: &M, number: u64, factor: u64) -> Choice<'_> {
        let hash = number.wrapping_mul(factor) >> 32;
        let first = ((hash * u64::from(self.frames)) >> 32) as u16 * ENTRIES_PER_FRAME as u16;
        let words = self.words(memory, first);
        let entries = memory.page(FrameNumber(words[0].load(Relaxed) as u32));
        Choice { entries, words, first, mix: hash }
    }

    /// The group of a page.
    #[inline]
    pub(crate) fn group<M: FrameMemory>(self, memory: &M, page: u64) -> Group<'_, M> {
        let number = page >> GROUP_SHIFT;
        Group { tlb: self, memory, number, home: self.choice(memory, number, HASHES[0]) }
    }

    /// A page's entry, binding or not.
    #[inline(always)]
    pub(crate) fn find<M: FrameMemory>(self, memory: &M, page: u64) -> Option<Place<'_>> {
        let group = self.group(memory, page);
        let found = group.home.find(page);
        let further = found.is_none() && group.overflows(group.home.bucket(page));
        if further { group.other().find(page) } else { found }
    }

    /// Empties an entry, if it is not empty.
    pub(crate) fn empty(self, memory: &impl FrameMemory, slot: u16) {
        let entry = self.entry(memory, slot);
        if entry.head() != 0 {
            entry.clear();
            add(self.words(memory, slot)[1], (1_u64 << (slot / WAYS % 16 * 4)).wrapping_neg());
        }
    }
}

/// Adds to a word that changes under the lock.
fn add(word: &AtomicU64, by: u64) {
    word.store(word.load(Relaxed).wrapping_add(by), Release);
}
