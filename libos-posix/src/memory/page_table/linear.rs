//! An array of entries.

use super::{Entry, InWired, PageIndex, PageTable, TableFull};
use crate::memory::wired::WiredMemory;
use core::fmt;
use exo_user::Error;

/// How many times larger than the contract the area is that a table in wired memory describes. No
/// store holds more: what compresses better than this is zero.
const AREA_FACTOR: usize = 32;

/// The simplest page table: an array with one entry of four bytes for each page.
///
/// A load and a mask find a page, and the array costs a thousandth of the area that it describes,
/// used or not.
pub struct Linear<'a> {
    entries: &'a mut [u32],
}

impl<'a> Linear<'a> {
    /// A table for as many pages as there are entries. All pages have the default entry afterwards.
    pub fn new(entries: &'a mut [u32]) -> Self {
        entries.fill(Entry::default().to_word());
        Self { entries }
    }

    /// A table in memory that is all zeros, which is not touched: it may have no frames yet.
    pub fn zeroed(entries: &'a mut [u32]) -> Self {
        Self { entries }
    }
}

impl fmt::Debug for Linear<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linear").field("pages", &self.entries.len()).finish()
    }
}

impl PageTable for Linear<'_> {
    fn pages(&self) -> u32 {
        self.entries.len() as u32
    }

    fn get(&self, page: PageIndex) -> Entry {
        self.entries.get(page.0 as usize).map_or(Entry::default(), |&entry| Entry::from_word(entry))
    }

    fn set(&mut self, page: PageIndex, entry: Entry) -> Result<(), TableFull> {
        if let Some(place) = self.entries.get_mut(page.0 as usize) {
            *place = entry.to_word();
        }
        Ok(())
    }
}

impl InWired for Linear<'static> {
    fn in_wired(memory: &mut WiredMemory, frames: usize) -> Result<Self, Error> {
        Ok(Self::new(memory.slice(frames * AREA_FACTOR, || 0)?))
    }
}
