//! Many filters as one decision.

use core::fmt;

use crate::branch::{Branch, Entry, order, ranked_id};
use crate::codegen::{self, CompileError};
use crate::filter::Filter;
use crate::overlap::overlaps;

/// Up to `N` filters, merged: shared prefixes are tested once, and filters that differ in one
/// value are told apart by a search.
///
/// Where several filters match a packet, the one that pins the most bits gets it, among equals the
/// one with the lowest id. A filter therefore always wins over one that contains it.
///
/// Storage is in place, about `200 * N` bytes. Inserting and removing cost `N` steps.
pub struct FilterSet<const N: usize> {
    entries: [Entry; N],
    /// A permutation of the indices of `entries`: first those in use, in tree order, then the free.
    slots: [u32; N],
    length: usize,
}

/// Why a filter was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// All places are taken.
    Full,
    /// The id is in use.
    IdInUse,
    /// An equal filter is in the set; the new one would never see a packet, or take all of them.
    Duplicate {
        /// The id of the equal filter.
        of: u32,
    },
}

impl<const N: usize> FilterSet<N> {
    /// The empty set.
    pub const fn new() -> Self {
        let mut slots = [0; N];
        let mut i = 0;
        while i < N {
            slots[i] = i as u32;
            i += 1;
        }
        FilterSet { entries: [Entry { id: 0, filter: Filter::ANY }; N], slots, length: 0 }
    }

    /// How many filters the set has.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the set has no filter.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The filters with their ids, in tree order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Filter)> {
        self.used().iter().filter_map(|slot| self.entry(*slot)).map(|e| (e.id, &e.filter))
    }

    /// The filter with this id.
    pub fn get(&self, id: u32) -> Option<&Filter> {
        self.iter().find(|(other, _)| *other == id).map(|(_, filter)| filter)
    }

    /// The filters of the set that may match a packet that `filter` matches: whoever installs it
    /// needs the right to all of them.
    pub fn overlapping(&self, filter: &Filter) -> impl Iterator<Item = (u32, &Filter)> {
        self.iter().filter(move |(_, other)| overlaps(filter, other))
    }

    /// Adds a filter under an id that the set does not use.
    pub fn insert(&mut self, id: u32, filter: &Filter) -> Result<(), InsertError> {
        if self.get(id).is_some() {
            return Err(InsertError::IdInUse);
        }
        let before = |slot: &u32| {
            self.entry(*slot).is_some_and(|entry| order(&entry.filter, filter).is_lt())
        };
        let place = self.used().partition_point(before);
        let next = self.used().get(place).and_then(|slot| self.entry(*slot));
        if let Some(next) = next.filter(|next| next.filter == *filter) {
            return Err(InsertError::Duplicate { of: next.id });
        }
        let tail = self.slots.get_mut(place..=self.length).ok_or(InsertError::Full)?;
        let free = tail.last().map_or(N, |slot| *slot as usize);
        *self.entries.get_mut(free).ok_or(InsertError::Full)? = Entry { id, filter: *filter };
        tail.rotate_right(1);
        self.length += 1;
        Ok(())
    }

    /// Takes the filter with this id out of the set.
    pub fn remove(&mut self, id: u32) -> Option<Filter> {
        let place = self.iter().position(|(other, _)| other == id)?;
        let tail = self.slots.get_mut(place..self.length)?;
        let slot = *tail.first()?;
        tail.rotate_left(1);
        self.length -= 1;
        self.entry(slot).map(|entry| entry.filter)
    }

    /// The id of the filter that gets this packet, by interpreting the tree.
    pub fn classify(&self, packet: &[u8]) -> Option<u32> {
        ranked_id(self.root().classify(packet, 0, 0))
    }

    /// Writes a function that does what [`FilterSet::classify`] does, as x86-64 machine code, to the
    /// front of `buffer`. Returns its length in bytes.
    ///
    /// The code has the type [`Classifier`](crate::Classifier) and can run at any address. It
    /// reads the packet and nothing else, writes no memory, uses no stack but its return
    /// address, and changes only rax, rcx, rdx, r8 to r11 and the flags. After an error the
    /// contents of the buffer have no meaning.
    pub fn compile(&self, buffer: &mut [u8]) -> Result<usize, CompileError> {
        codegen::compile(&self.root(), buffer)
    }

    fn root(&self) -> Branch<'_> {
        Branch::root(&self.entries, self.used())
    }

    fn used(&self) -> &[u32] {
        self.slots.get(..self.length).unwrap_or(&self.slots)
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)
    }
}

impl<const N: usize> Default for FilterSet<N> {
    fn default() -> Self {
        FilterSet::new()
    }
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InsertError::Full => write!(f, "no room for another filter"),
            InsertError::IdInUse => write!(f, "the id is in use"),
            InsertError::Duplicate { of } => write!(f, "the same filter is installed as {of}"),
        }
    }
}

impl core::error::Error for InsertError {}
