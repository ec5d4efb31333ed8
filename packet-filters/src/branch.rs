//! The decision tree, seen through a sorted list of filters.
//!
//! Filters sorted by their atoms, shape before value, *are* a tree: those that share a prefix are
//! neighbours (a [`Branch`]), within a branch those whose next atom has one shape are neighbours (a
//! [`Group`], told apart by one load), and in a group the values are sorted, so a search by value
//! is a binary search. Nothing but the order is stored, so inserting and removing cannot leave the
//! tree inconsistent.

use core::cmp::Ordering;

use crate::atom::{Atom, Shape};
use crate::filter::Filter;
use crate::interpreter::{advance, load};

/// A filter with the name that its owner gave it.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) id: u32,
    pub(crate) filter: Filter,
}

impl Entry {
    /// Ranks this entry among those that match a packet: the larger number wins. More bits beat
    /// fewer, then the lower id beats the higher. Never zero, which means "none matched".
    pub(crate) fn rank(&self) -> u64 {
        u64::from(self.filter.bits() + 1) << 32 | u64::from(!self.id)
    }
}

/// The id of the entry with this rank; `None` for zero.
pub(crate) fn ranked_id(rank: u64) -> Option<u32> {
    (rank != 0).then_some(!(rank as u32))
}

/// The order that makes neighbours of filters with a common prefix.
pub(crate) fn order(a: &Filter, b: &Filter) -> Ordering {
    let keys = |filter| Filter::atoms(filter).iter().map(|atom| (atom.shape(), atom.key()));
    keys(a).cmp(keys(b))
}

/// The filters that agree on their first `depth` atoms: a node of the tree.
#[derive(Clone, Copy)]
pub(crate) struct Branch<'a> {
    entries: &'a [Entry],
    /// Indices into `entries`, sorted by [`order`].
    slots: &'a [u32],
    depth: usize,
}

impl<'a> Branch<'a> {
    /// The root: all filters whose slots are listed.
    pub(crate) fn root(entries: &'a [Entry], slots: &'a [u32]) -> Self {
        Branch { entries, slots, depth: 0 }
    }

    /// The entry that ends here. At most one does, since no two filters of a set are equal, and it
    /// stands first, since a prefix sorts before what it begins.
    pub(crate) fn end(&self) -> Option<&'a Entry> {
        let entry = entry(self.entries, *self.slots.first()?)?;
        (entry.filter.atoms().len() == self.depth).then_some(entry)
    }

    /// The groups of those that go on, one for each shape.
    pub(crate) fn groups(&self) -> Groups<'a> {
        let ended = usize::from(self.end().is_some());
        Groups { rest: Branch { slots: self.slots.get(ended..).unwrap_or(&[]), ..*self } }
    }

    /// The highest rank of the entries here that match the packet, or `best` if that is higher.
    ///
    /// Calls itself once for each atom of a filter, so at most [`MAX_ATOMS`](crate::MAX_ATOMS) deep.
    pub(crate) fn classify(&self, packet: &[u8], base: usize, best: u64) -> u64 {
        let mut best = self.end().map_or(best, |entry| best.max(entry.rank()));
        for group in self.groups() {
            match group.shape {
                Shape::Compare { offset, width, mask } => {
                    if let Some(value) = load(packet, base, offset, width)
                        && let Some(child) = group.find(width.memory_order(value & mask))
                    {
                        best = child.classify(packet, base, best);
                    }
                }
                Shape::Shift { offset, mask, shift } => {
                    if let Some(base) = advance(packet, base, offset, mask, shift) {
                        best = group.all().classify(packet, base, best);
                    }
                }
            }
        }
        best
    }

    fn atom(&self, slot: u32) -> Option<&'a Atom> {
        entry(self.entries, slot)?.filter.atoms().get(self.depth)
    }

    /// Cuts off the front for which `belongs` holds; the list has to be sorted by it.
    fn cut(&self, belongs: impl Fn(&Atom) -> bool) -> (Branch<'a>, Branch<'a>) {
        let at = self.slots.partition_point(|slot| self.atom(*slot).is_some_and(&belongs));
        let (front, back) = self.slots.split_at_checked(at).unwrap_or((self.slots, &[]));
        (Branch { slots: front, ..*self }, Branch { slots: back, ..*self })
    }
}

/// The groups of a branch, in the order of their shapes.
pub(crate) struct Groups<'a> {
    rest: Branch<'a>,
}

impl<'a> Iterator for Groups<'a> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        let shape = self.rest.atom(*self.rest.slots.first()?)?.shape();
        let (members, rest) = self.rest.cut(|atom| atom.shape() == shape);
        self.rest = rest;
        Some(Group { shape, members })
    }
}

/// The filters of a branch whose next atom has one shape.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) shape: Shape,
    /// At the depth of the branch that the group belongs to.
    members: Branch<'a>,
}

impl<'a> Group<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.slots.is_empty()
    }

    /// The members behind their atom, for a shift, which all of them share.
    pub(crate) fn all(&self) -> Branch<'a> {
        Branch { depth: self.members.depth + 1, ..self.members }
    }

    /// The members whose atom wants this value, in memory order.
    fn find(&self, key: u32) -> Option<Branch<'a>> {
        let (_, rest) = self.members.cut(|atom| atom.key() < key);
        let (found, _) = rest.cut(|atom| atom.key() == key);
        (!found.slots.is_empty()).then_some(Branch { depth: found.depth + 1, ..found })
    }

    /// Splits at the value of the middle member, so that a search halves what is left.
    pub(crate) fn split(&self) -> Option<Split<'a>> {
        let slots = self.members.slots;
        let key = self.members.atom(*slots.get(slots.len() / 2)?)?.key();
        let (below, rest) = self.members.cut(|atom| atom.key() < key);
        let (equal, above) = rest.cut(|atom| atom.key() == key);
        Some(Split {
            below: Group { members: below, ..*self },
            key,
            equal: Branch { depth: equal.depth + 1, ..equal },
            above: Group { members: above, ..*self },
        })
    }

    /// How many bytes from the base every member needs before it can match: one length check for
    /// the whole run of loads, of whichever member looks least far. Offsets behind a shift count
    /// too, since a base never moves back.
    pub(crate) fn reach(&self) -> u32 {
        let depth = self.members.depth;
        let need = |slot: &u32| {
            let atoms = entry(self.members.entries, *slot)?.filter.atoms();
            atoms.iter().skip(depth).map(Atom::end).max()
        };
        let needs = self.members.slots.iter().filter_map(need);
        needs.min().unwrap_or(0)
    }
}

/// A group split at one of its values.
pub(crate) struct Split<'a> {
    /// The members with smaller values.
    pub(crate) below: Group<'a>,
    /// The value, in memory order.
    pub(crate) key: u32,
    /// The members with this value, behind their atom.
    pub(crate) equal: Branch<'a>,
    /// The members with larger values.
    pub(crate) above: Group<'a>,
}

fn entry(entries: &[Entry], slot: u32) -> Option<&Entry> {
    entries.get(usize::try_from(slot).ok()?)
}
