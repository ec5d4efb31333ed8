//! A hash table of the pages that are in use.

use super::{Entry, InWired, PageIndex, PageTable, TableFull, USED_FACTOR};
use crate::memory::wired::{AREA_PAGES, WiredMemory};
use core::fmt;
use core::ops::Range;
use exo_user::Error;

/// A place for one page. What it holds is the table's own affair.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    page: u32,
    /// [`EMPTY`], or the entry of the page.
    entry: u32,
}

/// The default entry, which no slot holds.
const EMPTY: u32 = 0;
/// 2^32 divided by the golden ratio: Knuth, *The Art of Computer Programming*, volume 3, 6.4.
const GOLDEN: u32 = 0x9e37_79b9;

/// An inverted page table: its size follows the pages in use, wherever in the area they are.
///
/// Open addressing with linear probing; a page that is taken out is followed up by those behind it,
/// so that no slot is ever marked as deleted (Knuth, volume 3, 6.4, algorithms L and R). A range is
/// protected page by page, and each page of it takes a slot: for large guard areas there are
/// [`Extents`](super::Extents).
pub struct Hashed<'a> {
    slots: &'a mut [Slot],
    pages: u32,
    used: usize,
}

impl<'a> Hashed<'a> {
    /// An empty table for the first `pages` pages. The number of slots is rounded down to a power
    /// of two; three quarters of them can be used.
    pub fn new(slots: &'a mut [Slot], pages: u32) -> Self {
        let count = if slots.is_empty() { 0 } else { 1 << slots.len().ilog2() };
        let slots = &mut slots[..count];
        slots.fill(Slot::default());
        Self { slots, pages, used: 0 }
    }

    fn home(&self, page: u32) -> usize {
        // The upper bits are the well mixed ones.
        let hash = u64::from(page.wrapping_mul(GOLDEN));
        ((hash * self.slots.len() as u64) >> 32) as usize
    }

    fn after(&self, index: usize) -> usize {
        (index + 1) & (self.slots.len() - 1)
    }

    /// The slot of a page, or the empty one where it would go. A quarter of the slots is empty.
    fn find(&self, page: u32) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut index = self.home(page);
        while self.slots[index].entry != EMPTY && self.slots[index].page != page {
            index = self.after(index);
        }
        Some(index)
    }

    /// Empties a slot. Whoever stands behind it and was kept from it follows up.
    fn remove(&mut self, mut hole: usize) {
        let mask = self.slots.len() - 1;
        let mut next = self.after(hole);
        while self.slots[next].entry != EMPTY {
            let home = self.home(self.slots[next].page);
            // It may stand in the hole if that is not before its home.
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = Slot::default();
        self.used -= 1;
    }
}

impl fmt::Debug for Hashed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.slots.len();
        f.debug_struct("Hashed").field("slots", &slots).field("used", &self.used).finish()
    }
}

impl PageTable for Hashed<'_> {
    fn pages(&self) -> u32 {
        self.pages
    }

    fn get(&self, page: PageIndex) -> Entry {
        self.find(page.0)
            .map_or(Entry::default(), |index| Entry::from_word(self.slots[index].entry))
    }

    fn set(&mut self, page: PageIndex, entry: Entry) -> Result<(), TableFull> {
        if page.0 >= self.pages {
            return Ok(());
        }
        let index = self.find(page.0).ok_or(TableFull)?;
        let entry = entry.to_word();
        match (self.slots[index].entry, entry) {
            (EMPTY, EMPTY) => {}
            (_, EMPTY) => self.remove(index),
            (EMPTY, _) if (self.used + 1) * 4 > self.slots.len() * 3 => return Err(TableFull),
            (before, _) => {
                self.used += usize::from(before == EMPTY);
                self.slots[index] = Slot { page: page.0, entry };
            }
        }
        Ok(())
    }

    fn next(&self, pages: Range<u32>) -> Option<PageIndex> {
        let pages = pages.start..pages.end.min(self.pages);
        if pages.len() < self.slots.len() {
            let used = |&page: &PageIndex| self.get(page) != Entry::default();
            return pages.map(PageIndex).find(used);
        }
        let used = self.slots.iter().filter(|slot| slot.entry != EMPTY).map(|slot| slot.page);
        used.filter(|page| pages.contains(page)).min().map(PageIndex)
    }
}

impl InWired for Hashed<'static> {
    fn in_wired(memory: &mut WiredMemory, frames: usize) -> Result<Self, Error> {
        let slots = (frames * USED_FACTOR * 4 / 3).next_power_of_two();
        Ok(Self::new(memory.slice(slots, Slot::default)?, AREA_PAGES))
    }
}
