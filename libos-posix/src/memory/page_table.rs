//! The program's own page table: where the contents of each page are.
//!
//! The hardware's tables are a cache that the kernel may empty at any time. This one is the truth,
//! and it is nobody's but the program's, so it can have any structure.

use core::fmt;

/// A page of the paged area, counted from its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PageIndex(pub u32);

/// A copy in the backing store. The store gives these names; they are less than 2^30.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CopyName(pub u32);

/// A place in the [`ResidentSet`](crate::memory::ResidentSet), less than 2^30.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seat(pub u32);

/// Where the contents of a page are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nowhere: nothing was ever written to it, and it reads as zeros.
    Zero,
    /// In the backing store alone.
    Stored(CopyName),
    /// In a frame.
    Resident(Seat),
    /// Nowhere: the frame was repossessed, and there was no copy.
    Lost,
}

/// A page table: a map from pages to places.
///
/// It is changed inside the handler of a page fault, so an implementation must not allocate from
/// the paged heap. What memory it needs it takes when it is made.
pub trait PageTable {
    /// The number of pages that it can describe.
    fn pages(&self) -> u32;

    /// Where a page is. A page behind the last is [`Place::Zero`].
    fn get(&self, page: PageIndex) -> Place;

    /// Says where a page is from now on. Nothing happens for a page behind the last.
    fn set(&mut self, page: PageIndex, place: Place);
}

/// The tag is in the two low bits of an entry, the name in the others.
const TAG_BITS: u32 = 2;

/// The simplest page table: an array with one entry of four bytes for each page.
///
/// A load and a mask find a page, and the array costs a thousandth of the area that it describes,
/// used or not.
pub struct Linear<'a> {
    entries: &'a mut [u32],
}

impl<'a> Linear<'a> {
    /// A table for as many pages as there are entries. All pages are [`Place::Zero`] afterwards.
    pub fn new(entries: &'a mut [u32]) -> Self {
        entries.fill(encode(Place::Zero));
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

    fn get(&self, page: PageIndex) -> Place {
        self.entries.get(page.0 as usize).map_or(Place::Zero, |&entry| decode(entry))
    }

    fn set(&mut self, page: PageIndex, place: Place) {
        if let Some(entry) = self.entries.get_mut(page.0 as usize) {
            *entry = encode(place);
        }
    }
}

fn encode(place: Place) -> u32 {
    match place {
        Place::Zero => 0,
        Place::Stored(copy) => copy.0 << TAG_BITS | 1,
        Place::Resident(seat) => seat.0 << TAG_BITS | 2,
        Place::Lost => 3,
    }
}

fn decode(entry: u32) -> Place {
    let name = entry >> TAG_BITS;
    match entry & 3 {
        1 => Place::Stored(CopyName(name)),
        2 => Place::Resident(Seat(name)),
        3 => Place::Lost,
        _ => Place::Zero,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_got() {
        let mut entries = [7; 3];
        let mut table = Linear::new(&mut entries);
        assert_eq!(table.pages(), 3);
        assert_eq!(table.get(PageIndex(2)), Place::Zero, "old contents are gone");
        let name = (1 << 30) - 1;
        let places =
            [Place::Stored(CopyName(name)), Place::Resident(Seat(name)), Place::Lost, Place::Zero];
        for place in places {
            table.set(PageIndex(1), place);
            assert_eq!(table.get(PageIndex(1)), place);
            assert_eq!(table.get(PageIndex(0)), Place::Zero);
        }
    }

    #[test]
    fn pages_behind_the_last_are_not_there() {
        let mut entries = [0; 2];
        let mut table = Linear::new(&mut entries);
        table.set(PageIndex(2), Place::Lost);
        assert_eq!(table.get(PageIndex(2)), Place::Zero);
        assert_eq!(table.get(PageIndex(u32::MAX)), Place::Zero);
    }
}
