//! The software TLB: the bindings of an environment, in frames that it donated.
//!
//! Sixteen pages in a row are a group. A group has its entries in one frame, a column for each page
//! with eight rows, and a second frame for what finds no place in the first. Pages in a row are bound
//! side by side in a row that is empty there, if there is one. Each entry has a tag, some bits of its
//! group's hash: two words with the tags of a row tell where it is empty, and whether a group may be
//! there. The environment reads its frames at
//! [`layout::SOFTWARE_TLB`](exo_abi::layout::SOFTWARE_TLB):
//!
//! | word of a frame | bits |
//! |---|---|
//! | 0 to 15 | two for each row: the tags of its entries, 8 bits each; 0 is an empty entry |
//! | 16 | the first row from which on all are empty |
//! | 17 | for each column, a bit: a page of it is in its other frame |
//! | 128 on | the entries, row by row, three words each |
//!
//! | word of an entry | bits |
//! |---|---|
//! | 0 | address of the page; bit 10: valid; bit 11: the frame was lost |
//! | 1 | the page's entry in a hardware page table, as it was when that was dropped, or is to be |
//! | 2 | next and previous binding of the same frame, 32 bits each: environment slot, TLB slot |
//!
//! Invariants:
//! - A page has at most one entry, in one of its two columns.
//! - Every leaf entry of the hardware tables that is not 0, below the shared pages, has a valid entry
//!   here with the same frame and at least its rights granted.
//! - While there is such a leaf entry, it alone says what rights the page has now, and how it was
//!   used; what is here is from before. A leaf entry that goes, with its binding staying, is written
//!   back.
//! - The chain of a frame holds exactly the valid entries for it, in all software TLBs.
//! - A valid entry's frame is held, and was since it was bound.
//! - A wired entry goes only by being unbound, bound anew, or with its frame.

use crate::frame::Link;
use crate::memory::{FrameMemory, Page};
use crate::tables;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use exo_abi::FrameNumber;
use exo_abi::name::PAGE_SIZE;

/// Entries in each frame.
pub const ENTRIES_PER_FRAME: usize = 128;
/// The words of an entry.
pub const ENTRY_WORDS: usize = 3;
/// Where in a frame the entries begin, in words.
pub const ENTRIES_WORD: usize = 512 - ENTRIES_PER_FRAME * ENTRY_WORDS;
/// Entries in a column. A page can be in two columns.
const ROWS: u16 = 8;
/// Entries in a row.
const COLUMNS: u16 = 16;
/// The most frames of one software TLB.
pub const FRAMES_MAX: usize = 256;
/// The entry is a binding.
pub const VALID: u64 = 1 << 10;
/// The entry was a binding, and its frame was repossessed.
pub const LOST: u64 = 1 << 11;
/// A batch has claimed the entry for a wired page and has not yet bound it.
const CLAIMED: u64 = 1 << 9;
const PAGE: u64 = !0xfff;

/// What is left of a page's address is the number of its group: a page for each column of a frame.
const GROUP_SHIFT: u32 = 16;
/// The bytes of a group.
pub(crate) const GROUP_SPAN: u64 = 1 << GROUP_SHIFT;
const _: () = assert!(ENTRIES_PER_FRAME == (ROWS * COLUMNS) as usize && FRAMES_MAX <= 512);

/// An entry where it stands in memory.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'m>(pub(crate) &'m [AtomicU64; ENTRY_WORDS]);

impl Entry<'_> {
    /// The first word.
    pub(crate) fn head(self) -> u64 {
        self.0[0].load(Acquire)
    }

    /// The page's address.
    pub(crate) fn page(self) -> u64 {
        self.head() & PAGE
    }

    /// Both words that say what the binding is, read after everything that was written before.
    pub(crate) fn again(self) -> (u64, u64) {
        (self.0[0].load(SeqCst), self.0[1].load(SeqCst))
    }

    /// Whether it is a binding.
    pub(crate) fn is_valid(self) -> bool {
        self.head() & VALID != 0
    }

    /// What the hardware's entry of the page was, or is to be.
    pub(crate) fn hardware(self) -> u64 {
        self.0[1].load(Relaxed)
    }

    /// Makes it a binding, the first of its frame before `next`.
    #[inline]
    pub(crate) fn bind(self, page: u64, hardware: u64, next: Link) {
        self.0[1].store(hardware, Relaxed);
        self.set_links(next, Link::NONE);
        self.0[0].store(page | VALID, Release);
    }

    /// Says what the hardware's entry is to be: with other rights, or as it was when it was dropped.
    pub(crate) fn set_hardware(self, hardware: u64) {
        self.0[1].store(hardware, SeqCst);
    }

    /// Makes it no binding any more; what it was stays in its other words.
    pub(crate) fn invalidate(self) {
        self.0[0].fetch_and(!VALID, SeqCst);
    }

    /// Leaves only that the page was lost.
    pub(crate) fn lose(self) {
        self.0[0].store(self.page() | LOST, SeqCst);
        self.0[1].store(0, Relaxed);
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
        self.hardware() & tables::WIRED == 0 && self.head() & CLAIMED == 0
    }

    /// Claims the entry, which is empty or the page's own, for a wired page.
    pub(crate) fn claim(self, page: u64) {
        self.0[0].store(self.head() | page | CLAIMED, Relaxed);
    }

    /// Gives a claim up; says whether it was all that there was.
    pub(crate) fn disclaim(self) -> bool {
        self.0[0].store(self.head() & !CLAIMED, Relaxed);
        self.head() & (VALID | LOST) == 0
    }
}

/// Where the software TLB of an environment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlb {
    /// A frame with the number of each of the others, a word each.
    pub(crate) directory: FrameNumber,
    /// How many others, 1 to [`FRAMES_MAX`].
    pub(crate) frames: u16,
}

/// Both multipliers are odd numbers without structure: the golden ratio, and a prime of xxHash.
const HASHES: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];

/// The highest bit of each tag in a row, which those of entries that are not empty have.
const HIGH: u128 = u128::from_ne_bytes([0x80; COLUMNS as usize]);
/// Where in a frame the word is that says where the empty rows begin, and the one that says whose pages
/// are elsewhere.
const END: usize = 16;
const OVERFLOW: usize = 17;

/// A frame of the software TLB, for the pages of a group.
#[derive(Clone, Copy)]
pub(crate) struct Bank<'m> {
    page: &'m Page,
    /// The slot of its first entry.
    first: u16,
    /// What is added to the number of a page to get its column.
    shift: u64,
    /// The tag of the group, with [`HIGH`].
    tag: u8,
}

/// Where an entry is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'m> {
    pub(crate) bank: Bank<'m>,
    pub(crate) row: u16,
    pub(crate) slot: u16,
    pub(crate) entry: Entry<'m>,
}

impl<'m> Bank<'m> {
    /// The column of a page.
    #[inline]
    pub(crate) fn column(&self, page: u64) -> u16 {
        ((page / PAGE_SIZE).wrapping_add(self.shift) % u64::from(COLUMNS)) as u16
    }

    /// The slot of the first entry of a row.
    #[inline]
    pub(crate) fn slot(&self, row: u16) -> u16 {
        self.first + row * COLUMNS
    }

    /// The entries, row by row.
    #[inline]
    fn rows(&self) -> &'m [[[AtomicU64; ENTRY_WORDS]; COLUMNS as usize]] {
        self.page[ENTRIES_WORD..].as_chunks().0.as_chunks().0
    }

    /// The entries of a row.
    #[inline]
    pub(crate) fn row(&self, row: u16) -> &'m [[AtomicU64; ENTRY_WORDS]; COLUMNS as usize] {
        &self.rows()[usize::from(row % ROWS)]
    }

    /// The words with the tags of a row.
    #[inline]
    fn tags(&self, row: u16) -> &'m [AtomicU64; 2] {
        &self.page.as_chunks().0[usize::from(row % ROWS)]
    }

    #[inline]
    fn place(&self, row: u16, column: u16) -> Place<'m> {
        let slot = self.slot(row) + column;
        Place { bank: *self, row, slot, entry: entry(self.page, slot) }
    }

    /// The first row from which on all are empty.
    #[inline]
    fn end(&self) -> u16 {
        self.page[END].load(Acquire) as u16
    }

    /// A page's entry, binding or not. Without the lock: other entries may come and go meanwhile.
    #[inline(always)]
    fn find(&self, page: u64) -> Option<Place<'m>> {
        let (column, end) = (self.column(page), self.end());
        for (row, entries) in (0..ROWS).zip(self.rows()) {
            let entry = Entry(&entries[usize::from(column)]);
            if row == end {
                break;
            }
            if entry.page() == page {
                return Some(Place { bank: *self, row, slot: self.slot(row) + column, entry });
            }
        }
        None
    }

    /// The first entry that is empty in a page's column.
    fn empty(&self, page: u64) -> Option<Place<'m>> {
        let column = self.column(page);
        (0..ROWS).map(|row| self.place(row, column)).find(|place| place.entry.head() == 0)
    }

    /// The first row that is empty in a page's column, if the page certainly has no entry.
    #[inline]
    pub(crate) fn empty_place(&self, page: u64) -> Option<u16> {
        let (column, end) = (self.column(page), self.end());
        let mut found = end;
        for (row, entries) in (0..ROWS).zip(self.rows()).take(end.into()) {
            match Entry(&entries[usize::from(column)]).head() {
                0 => found = found.min(row),
                head if head & PAGE == page => return None,
                _ => {}
            }
        }
        let is_further = self.overflow().load(Relaxed) >> column & 1 != 0;
        Some(found).filter(|&row| row < ROWS && !is_further)
    }

    /// A row that is empty at the places of `count` pages from `page` on, if none of them has an entry.
    #[inline]
    pub(crate) fn empty_row(&self, page: u64, count: u64) -> Option<u16> {
        let (end, group) = (self.end(), self.tags_of_group(page, count));
        let (columns, mut found) = (group & HIGH, None);
        for row in 0..end {
            let [low, high] = self.tags(row);
            let tags = u128::from(low.load(Relaxed)) | u128::from(high.load(Relaxed)) << 64;
            if tags & columns == 0 {
                found = found.or(Some(row));
                continue;
            }
            // The high bit of a tag stays where both are the same.
            let differing = tags ^ group;
            if !(((differing & !HIGH) + !HIGH) | differing) & columns != 0 {
                return None;
            }
        }
        let found = found.or(Some(end).filter(|&end| end < ROWS));
        found.filter(|_| self.overflow().load(Relaxed) == 0)
    }

    /// Whether pages of the group certainly find places, even after pages of `more` groups were wired: if
    /// there are so many empty rows.
    pub(crate) fn has_room(&self, more: u64) -> bool {
        u64::from(self.end()) + more < ROWS.into()
    }

    /// The columns of which a page is in the other frame, a bit for each. They stay: what they cost is
    /// only a look there.
    fn overflow(&self) -> &'m AtomicU64 {
        &self.page[OVERFLOW]
    }

    /// Takes note that `count` entries of a row, one behind the other from that of a page on, are no
    /// longer empty, once they are filled.
    #[inline]
    pub(crate) fn note_filled(&self, row: u16, page: u64, count: u64) {
        let tags = self.tags_of_group(page, count);
        let [low, high] = self.tags(row);
        low.store(low.load(Relaxed) | tags as u64, Release);
        high.store(high.load(Relaxed) | (tags >> 64) as u64, Release);
        if row >= self.end() {
            self.page[END].store(u64::from(row) + 1, Release);
        }
    }

    /// The tags of the group in `count` columns, at least one, from that of a page on.
    #[inline]
    fn tags_of_group(&self, page: u64, count: u64) -> u128 {
        let tags = u128::from_ne_bytes([self.tag; 16]);
        if count == COLUMNS.into() {
            return tags;
        }
        (tags >> (128 - 8 * count)).rotate_left(8 * u32::from(self.column(page)))
    }
}

/// The entry in a slot of a frame.
#[inline]
fn entry(page: &Page, slot: u16) -> Entry<'_> {
    Entry(&page[ENTRIES_WORD..].as_chunks().0[usize::from(slot) % ENTRIES_PER_FRAME])
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
        entry(self.page(memory, slot), slot)
    }

    /// The frame in which a slot is.
    #[inline(always)]
    fn page<M: FrameMemory>(self, memory: &M, slot: u16) -> &Page {
        let directory = memory.page(self.directory);
        let number = directory[usize::from(slot) / ENTRIES_PER_FRAME].load(Relaxed);
        memory.page(FrameNumber(number as u32))
    }

    /// The frame that a hash picks for a group.
    #[inline]
    fn choose<M: FrameMemory>(self, memory: &M, page: u64, factor: u64) -> Bank<'_> {
        let hash = (page >> GROUP_SHIFT).wrapping_mul(factor) >> 32;
        let first = ((hash * u64::from(self.frames)) >> 32) as u16 * ENTRIES_PER_FRAME as u16;
        let tag = (hash >> 4) as u8 | HIGH as u8;
        Bank { page: self.page(memory, first), first, shift: hash, tag }
    }

    /// The frame in which a group's pages are, if there is place.
    #[inline]
    pub(crate) fn bank<M: FrameMemory>(self, memory: &M, page: u64) -> Bank<'_> {
        self.choose(memory, page, HASHES[0])
    }

    /// Where a page's entry is or can go: its own slot, an empty one, one that was lost, or from `hand`
    /// on one that may go. `None` if all others are wired.
    pub(crate) fn place<M: FrameMemory>(
        self,
        memory: &M,
        page: u64,
        hand: u16,
    ) -> Option<Place<'_>> {
        let [home, other] = HASHES.map(|factor| self.choose(memory, page, factor));
        if let Some(place) = self.find(memory, page).or_else(|| home.empty(page)) {
            return Some(place);
        }
        home.overflow().fetch_or(1 << home.column(page), Release);
        let turns = (0..2 * ROWS).map(|step| hand.wrapping_add(step) % (2 * ROWS));
        let places = turns.map(|turn| {
            let bank = if turn < ROWS { home } else { other };
            bank.place(turn % ROWS, bank.column(page))
        });
        let evictable = places.filter(|place| place.entry.is_evictable());
        let evicted = || evictable.min_by_key(|place| place.entry.head() & LOST == 0);
        other.empty(page).or_else(evicted)
    }

    /// A page's entry, binding or not.
    #[inline(always)]
    pub(crate) fn find<M: FrameMemory>(self, memory: &M, page: u64) -> Option<Place<'_>> {
        let further = |is_there: bool| is_there.then(|| self.find_further(memory, page)).flatten();
        self.find_soon(memory, page).map_or_else(further, Some)
    }

    /// A page's entry in the first of its frames; if there is none, whether it may be in the other.
    #[inline(always)]
    pub(crate) fn find_soon<M: FrameMemory>(
        self,
        memory: &M,
        page: u64,
    ) -> Result<Place<'_>, bool> {
        let home = self.bank(memory, page);
        home.find(page).ok_or_else(|| home.overflow().load(Acquire) >> home.column(page) & 1 != 0)
    }

    /// A page's entry in its other frame.
    #[inline(never)]
    fn find_further<M: FrameMemory>(self, memory: &M, page: u64) -> Option<Place<'_>> {
        self.choose(memory, page, HASHES[1]).find(page)
    }

    /// Empties an entry, if it is not empty.
    pub(crate) fn empty(self, memory: &impl FrameMemory, slot: u16) {
        let page = self.page(memory, slot);
        let tags = &page[usize::from(slot / 8) % (ENTRIES_PER_FRAME / 8)];
        let tag = 0xff << (slot % 8 * 8);
        if tags.load(Relaxed) & tag != 0 {
            entry(page, slot).0.iter().for_each(|word| word.store(0, SeqCst));
            tags.fetch_and(!tag, Release);
            let rows = page[..END].as_chunks::<2>().0.iter();
            let is_empty = |row: &&[AtomicU64; 2]| row.iter().all(|tags| tags.load(Relaxed) == 0);
            let empty = rows.rev().take_while(is_empty).count();
            page[END].store((usize::from(ROWS) - empty) as u64, Release);
        }
    }
}
