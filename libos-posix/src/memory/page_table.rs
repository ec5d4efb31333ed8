//! The program's own page table: where the contents of each page are, and what the program lets
//! itself do with it.
//!
//! The hardware's tables are a cache that the kernel may empty at any time. This one is the truth,
//! and it is nobody's but the program's, so it can have any structure. There are three:
//!
//! | | a page is found by | memory | for |
//! |---|---|---|---|
//! | [`Linear`] | a load | 4 bytes for each page of the area, used or not | small areas |
//! | [`Hashed`] | a hash, and a few loads | 8 bytes for each page that is in use, twice over | pages that are scattered over a large area |
//! | [`Extents`] | a walk down a tree | 20 bytes for each run of pages that follow one another | long runs, reserved ranges, guard areas |

mod extents;
mod hashed;
mod linear;
#[cfg(test)]
mod tests;

pub use extents::{Extent, Extents};
pub use hashed::{Hashed, Slot};
pub use linear::Linear;

use crate::memory::wired::WiredMemory;
use core::ops::Range;
use exo_user::Error;

/// A page of the paged area, counted from its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PageIndex(pub u32);

/// A copy in the backing store. The store gives these names; they are less than 2^[`NAME_BITS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CopyName(pub u32);

/// A place in the [`ResidentSet`](crate::memory::ResidentSet), less than 2^[`NAME_BITS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seat(pub u32);

/// Where the contents of a page are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// Nowhere: nothing was ever written to it, and it reads as zeros.
    #[default]
    Zero,
    /// In the backing store alone.
    Stored(CopyName),
    /// In a frame.
    Resident(Seat),
    /// Nowhere: the frame was repossessed, and there was no copy.
    Lost,
}

/// What the program lets itself do with a page. More than this is a fault that the program handles:
/// see [`on_barrier`](crate::memory::on_barrier).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protection {
    /// Everything.
    #[default]
    ReadWrite,
    /// To read. The first write is noticed: a write barrier.
    Read,
    /// Nothing: a guard page.
    None,
}

/// What a page table says of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Where the page is.
    pub place: Place,
    /// What may be done with it.
    pub protection: Protection,
}

/// Below the name in an entry's word: two bits of [`Protection`] above two that tell the places
/// apart.
const TAG_BITS: u32 = 4;
/// The bits of the name of a copy or of a seat.
pub const NAME_BITS: u32 = u32::BITS - TAG_BITS;

impl Entry {
    /// The entry in four bytes. The default entry is 0, so a table of zeros is empty.
    pub const fn to_word(self) -> u32 {
        let place = match self.place {
            Place::Zero => 0,
            Place::Stored(copy) => copy.0 << TAG_BITS | 1,
            Place::Resident(seat) => seat.0 << TAG_BITS | 2,
            Place::Lost => 3,
        };
        place | (self.protection as u32) << 2
    }

    /// The entry that [`Entry::to_word`] has packed.
    pub const fn from_word(word: u32) -> Self {
        let name = word >> TAG_BITS;
        let place = match word & 3 {
            1 => Place::Stored(CopyName(name)),
            2 => Place::Resident(Seat(name)),
            3 => Place::Lost,
            _ => Place::Zero,
        };
        let protection = match word >> 2 & 3 {
            0 => Protection::ReadWrite,
            1 => Protection::Read,
            _ => Protection::None,
        };
        Self { place, protection }
    }

    /// The entry `pages` further in a run: names count up, everything else stays.
    const fn advanced(self, pages: u32) -> Self {
        let place = match self.place {
            Place::Stored(copy) => Place::Stored(CopyName(copy.0.wrapping_add(pages))),
            Place::Resident(seat) => Place::Resident(Seat(seat.0.wrapping_add(pages))),
            other => other,
        };
        Self { place, ..self }
    }

    fn is_populated(self) -> bool {
        self.place != Place::Zero
    }
}

/// The table has no room for what it should describe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableFull;

/// A page table: a map from pages to entries. What was never set is the default.
///
/// It is changed inside the handler of a page fault, so an implementation must not allocate from
/// the paged heap. What memory it needs it takes when it is made ([`InWired`]).
///
/// # What an implementation promises
/// [`PageTable::set`] fails only where a page that is [`Place::Zero`] gets another place or another
/// protection. Whoever throws a page out need not ask whether that can be noted.
pub trait PageTable {
    /// The number of pages that it can describe.
    fn pages(&self) -> u32;

    /// The entry of a page; the default for a page behind the last.
    fn get(&self, page: PageIndex) -> Entry;

    /// Changes the entry of a page. Nothing happens for a page behind the last.
    ///
    /// # Errors
    /// [`TableFull`]; the entry is as it was.
    fn set(&mut self, page: PageIndex, entry: Entry) -> Result<(), TableFull>;

    /// The first page of a range whose entry is not the default.
    fn next(&self, pages: Range<u32>) -> Option<PageIndex> {
        let end = pages.end.min(self.pages());
        (pages.start..end).map(PageIndex).find(|&page| self.get(page) != Entry::default())
    }

    /// Protects all pages of a range alike.
    ///
    /// # Errors
    /// [`TableFull`]; the pages before some page are changed, the others are not.
    fn protect(&mut self, pages: Range<u32>, protection: Protection) -> Result<(), TableFull> {
        for page in (pages.start..pages.end.min(self.pages())).map(PageIndex) {
            let entry = self.get(page);
            self.set(page, Entry { protection, ..entry })?;
        }
        Ok(())
    }
}

/// A table that a program can name as its own: it is made in wired memory, when the program starts.
pub trait InWired: PageTable + Sized {
    /// An empty table for a program that holds at most `frames` frames.
    ///
    /// # Errors
    /// What [`WiredMemory::slice`] says.
    fn in_wired(memory: &mut WiredMemory, frames: usize) -> Result<Self, Error>;
}

/// How many pages may be in use for each frame of the contract, in tables whose memory follows the
/// pages in use. A store of compressed memory rarely holds more.
const USED_FACTOR: usize = 8;
