//! The resident set: the pages that are in frames now, in the order in which they came.

use crate::memory::kernel::Access;
use crate::memory::page_table::{CopyName, PageIndex, Protection, Seat};
use core::fmt;
use exo_user::FrameNumber;

/// A frame that the program holds, in the life that it had when it was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeldFrame {
    /// The frame's number.
    pub number: FrameNumber,
    /// The frame's generation in the kernel's table. If it differs there, the frame was taken away,
    /// even if its number is ours again by now.
    pub generation: u32,
}

/// What a resident page's contents can be had from without its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Original {
    /// Nothing: the page was written to.
    #[default]
    None,
    /// The page is still all zeros.
    Zero,
    /// The page is still what this copy says.
    Copy(CopyName),
}

/// A page in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resident {
    /// Which page.
    pub page: PageIndex,
    /// Where it is.
    pub frame: HeldFrame,
    /// Whether there is another copy. A page that has one is bound without the right to write, so
    /// that the first write is noticed.
    pub original: Original,
    /// What the program lets itself do with it.
    pub protection: Protection,
    /// Whether a snapshot needs the page as it is. The first write makes a copy for it.
    pub shared: bool,
}

impl Resident {
    /// The rights with which the page is bound, if it is.
    pub fn access(&self) -> Option<Access> {
        match self.protection {
            Protection::None => None,
            Protection::ReadWrite if self.original == Original::None && !self.shared => {
                Some(Access::Write)
            }
            Protection::ReadWrite | Protection::Read => Some(Access::Read),
        }
    }
}

/// A place for one resident page. What it holds is the set's own affair.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResidentPlace {
    resident: Option<Resident>,
    stamp: u64,
    older: u32,
    newer: u32,
}

const NOBODY: u32 = u32::MAX;

/// The pages that are in frames, in a queue from the one that came first to the one that came
/// last. Every step in the queue is a load; seats keep their names while their page is resident.
pub struct ResidentSet<'a> {
    places: &'a mut [ResidentPlace],
    oldest: u32,
    newest: u32,
    /// Head of the list of empty seats, linked through `newer`.
    empty: u32,
    count: usize,
}

impl<'a> ResidentSet<'a> {
    /// An empty set for at most as many pages as there are places.
    pub fn new(places: &'a mut [ResidentPlace]) -> Self {
        let count = places.len() as u32;
        for (index, place) in (0..).zip(places.iter_mut()) {
            let next = if index + 1 < count { index + 1 } else { NOBODY };
            *place = ResidentPlace { older: NOBODY, newer: next, ..ResidentPlace::default() };
        }
        let empty = if count == 0 { NOBODY } else { 0 };
        Self { places, oldest: NOBODY, newest: NOBODY, empty, count: 0 }
    }

    /// How many pages are resident.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no page is resident.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there is no place for another page.
    pub fn is_full(&self) -> bool {
        self.empty == NOBODY
    }

    /// The page that came first.
    pub fn oldest(&self) -> Option<Seat> {
        seat(self.oldest)
    }

    /// The page that came last.
    pub fn newest(&self) -> Option<Seat> {
        seat(self.newest)
    }

    /// The page that came just before this one.
    pub fn older(&self, of: Seat) -> Option<Seat> {
        self.place(of).and_then(|place| seat(place.older))
    }

    /// The page that came just after this one.
    pub fn newer(&self, of: Seat) -> Option<Seat> {
        self.place(of).and_then(|place| seat(place.newer))
    }

    /// The resident page in this seat.
    pub fn get(&self, seat: Seat) -> Option<Resident> {
        self.place(seat).and_then(|place| place.resident)
    }

    /// The most pages that can be resident.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// What the policy has last noted about the page; 0 when it came.
    pub fn stamp(&self, seat: Seat) -> u64 {
        self.place(seat).map_or(0, |place| place.stamp)
    }

    /// Notes something about a page, for the policy alone.
    pub fn set_stamp(&mut self, seat: Seat, stamp: u64) {
        if let Some(place) = self.places.get_mut(seat.0 as usize) {
            place.stamp = stamp;
        }
    }

    /// Moves a page to the newest end of the queue, as if it had just come.
    pub fn renew(&mut self, seat: Seat) {
        if self.get(seat).is_some() {
            self.unlink(seat.0);
            self.link(seat.0);
        }
    }

    /// Every resident page, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Seat, Resident)> + '_ {
        let mut next = self.oldest();
        core::iter::from_fn(move || {
            let seat = next?;
            next = self.newer(seat);
            Some((seat, self.get(seat)?))
        })
    }

    /// Adds a page at the newest end. `None` when the set is full.
    pub(crate) fn insert(&mut self, resident: Resident) -> Option<Seat> {
        let index = self.empty;
        let place = self.places.get_mut(index as usize)?;
        self.empty = place.newer;
        place.resident = Some(resident);
        self.link(index);
        self.count += 1;
        Some(Seat(index))
    }

    /// Takes a page out. `None` when the seat was empty.
    pub(crate) fn remove(&mut self, seat: Seat) -> Option<Resident> {
        let resident = self.get(seat)?;
        self.unlink(seat.0);
        let place = self.places.get_mut(seat.0 as usize)?;
        *place = ResidentPlace { older: NOBODY, newer: self.empty, ..ResidentPlace::default() };
        self.empty = seat.0;
        self.count -= 1;
        Some(resident)
    }

    /// What is known of the page in this seat, to be changed.
    pub(crate) fn get_mut(&mut self, seat: Seat) -> Option<&mut Resident> {
        self.places.get_mut(seat.0 as usize)?.resident.as_mut()
    }

    fn place(&self, seat: Seat) -> Option<&ResidentPlace> {
        self.places.get(seat.0 as usize).filter(|place| place.resident.is_some())
    }

    fn link(&mut self, index: u32) {
        let before = self.newest;
        if let Some(place) = self.places.get_mut(index as usize) {
            (place.older, place.newer) = (before, NOBODY);
        }
        match self.places.get_mut(before as usize) {
            Some(place) => place.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let Some(&ResidentPlace { older, newer, .. }) = self.places.get(index as usize) else {
            return;
        };
        match self.places.get_mut(older as usize) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer as usize) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
    }
}

impl fmt::Debug for ResidentSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn seat(index: u32) -> Option<Seat> {
    (index != NOBODY).then_some(Seat(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn resident(page: u32) -> Resident {
        Resident { page: PageIndex(page), ..Resident::default() }
    }

    fn order(set: &ResidentSet<'_>) -> Vec<u32> {
        let forth: Vec<_> = set.iter().map(|(_, resident)| resident.page.0).collect();
        let mut back = Vec::new();
        let mut next = set.newest();
        while let Some(seat) = next {
            back.push(set.get(seat).unwrap().page.0);
            next = set.older(seat);
        }
        back.reverse();
        assert_eq!(forth, back, "the links agree in both directions");
        assert_eq!(forth.len(), set.len());
        forth
    }

    #[test]
    fn pages_stay_in_the_order_in_which_they_came() {
        let mut places = [ResidentPlace::default(); 3];
        let mut set = ResidentSet::new(&mut places);
        assert!(set.is_empty() && set.oldest().is_none());
        let seats: Vec<_> = (10..13).map(|page| set.insert(resident(page)).unwrap()).collect();
        assert!(set.is_full() && set.insert(resident(13)).is_none());
        assert_eq!(order(&set), [10, 11, 12]);
        set.renew(seats[1]);
        assert_eq!(order(&set), [10, 12, 11]);
        assert_eq!(set.remove(seats[0]), Some(resident(10)));
        assert_eq!(set.remove(seats[0]), None);
        assert_eq!(order(&set), [12, 11]);
        set.insert(resident(14)).unwrap();
        assert_eq!(order(&set), [12, 11, 14]);
        set.renew(seats[0]);
        assert_eq!(order(&set), [12, 11, 14]);
    }

    #[test]
    fn a_set_without_places_is_full_and_empty() {
        let mut set = ResidentSet::new(&mut []);
        assert!(set.is_full() && set.is_empty());
        assert!(set.insert(resident(1)).is_none());
        assert!(set.remove(Seat(0)).is_none() && set.newer(Seat(7)).is_none());
    }
}
