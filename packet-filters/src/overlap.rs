//! What two filters have to do with each other, decided by the bits they look at.
//!
//! Segments are comparable as long as the shifts before them are the same in both filters: then
//! both count from the same base, in any packet. Two filters without shifts have one segment each,
//! and the answers are exact. Behind shifts two segments of one filter may look at the same byte, and
//! where the shifts differ nothing is known; there [`overlaps`] says yes and [`contains`] says no.

use crate::atom::Atom;
use crate::filter::Filter;

/// Whether a packet may match both filters. False only if no packet can; without shifts, true only
/// if one can.
pub fn overlaps(a: &Filter, b: &Filter) -> bool {
    !comparable(a, b).any(|(a, b)| conflicts(a, b))
}

/// Whether every packet that matches `filter` is sure to match `pattern`: the rule by which the
/// holder of a reservation may install a filter. Never true wrongly.
pub fn contains(pattern: &Filter, filter: &Filter) -> bool {
    let segments = pattern.atoms().split(is_shift).count();
    let (mut seen, mut covered) = (0, true);
    for (want, have) in comparable(pattern, filter) {
        seen += 1;
        covered &= want.iter().flat_map(Atom::cells).all(|(offset, mask, value)| {
            let (have_mask, have_value) = cell_at(have, offset);
            mask & !have_mask == 0 && have_value & mask == value
        });
    }
    covered && seen == segments
}

/// Writes a packet that both filters match to the front of `packet`, and returns its length.
///
/// `None` if none was found: the filters do not overlap, the buffer is too small, or they have
/// shifts under which two conditions fall on one byte. Without shifts,
/// [`MAX_END`](crate::MAX_END) bytes always suffice.
///
/// A packet is laid out for each length that a shift byte can hold, the one that the compares
/// ask for first, then from the largest down; what it returns was checked by matching.
pub fn witness(a: &Filter, b: &Filter, packet: &mut [u8]) -> Option<usize> {
    if !overlaps(a, b) {
        return None;
    }
    let lengths = (0..=u8::MAX).rev().map(Some);
    for length in core::iter::once(None).chain(lengths) {
        let end = lay_both(a, b, packet, length);
        if let Some(laid) = end.and_then(|end| packet.get(..end))
            && a.matches(laid)
            && b.matches(laid)
        {
            return end;
        }
        if !a.atoms().iter().any(is_shift) && !b.atoms().iter().any(is_shift) {
            return None;
        }
    }
    None
}

fn is_shift(atom: &Atom) -> bool {
    matches!(atom, Atom::Shift { .. })
}

/// The pairs of segments that count from the same base.
fn comparable<'f>(a: &'f Filter, b: &'f Filter) -> impl Iterator<Item = (&'f [Atom], &'f [Atom])> {
    let shifts = |filter: &'f Filter| filter.atoms().iter().filter(|atom| is_shift(atom));
    let same = shifts(a).zip(shifts(b)).take_while(|(a, b)| a == b).count();
    a.atoms().split(is_shift).zip(b.atoms().split(is_shift)).take(same + 1)
}

/// Whether the two segments want some bit to be different.
fn conflicts(a: &[Atom], b: &[Atom]) -> bool {
    a.iter().flat_map(Atom::cells).any(|(offset, mask, value)| {
        let (other_mask, other_value) = cell_at(b, offset);
        (value ^ other_value) & mask & other_mask != 0
    })
}

/// The mask and value of a segment at one byte; canonical segments look at a byte once.
fn cell_at(segment: &[Atom], offset: u16) -> (u8, u8) {
    let mut cells = segment.iter().flat_map(Atom::cells);
    cells.find(|cell| cell.0 == offset).map_or((0, 0), |(_, mask, value)| (mask, value))
}

/// Lays out both filters, segment by segment, so that the compares before a shift in either filter
/// stand before the shift byte is read. Returns the length needed.
fn lay_both(a: &Filter, b: &Filter, packet: &mut [u8], length: Option<u8>) -> Option<usize> {
    packet.fill(0);
    let (mut rest_a, mut rest_b) = (Layer::new(a), Layer::new(b));
    let mut end = 0;
    while !rest_a.atoms.is_empty() || !rest_b.atoms.is_empty() {
        end = end.max(rest_a.compares(packet)?).max(rest_b.compares(packet)?);
        end = end.max(rest_a.shift(packet, length)?).max(rest_b.shift(packet, length)?);
    }
    Some(end)
}

/// One filter while it is laid out.
struct Layer<'f> {
    atoms: &'f [Atom],
    base: usize,
}

impl<'f> Layer<'f> {
    fn new(filter: &'f Filter) -> Self {
        Layer { atoms: filter.atoms(), base: 0 }
    }

    /// Writes the bits of the next segment; the end of what it looks at. `None` if that is outside
    /// the packet.
    fn compares(&mut self, packet: &mut [u8]) -> Option<usize> {
        let mut end = 0;
        while let Some((atom @ Atom::Compare { .. }, rest)) = self.atoms.split_first() {
            for (offset, mask, value) in atom.cells() {
                let byte = packet.get_mut(self.base + usize::from(offset))?;
                *byte = *byte & !mask | value;
                end = end.max(self.base + usize::from(offset) + 1);
            }
            self.atoms = rest;
        }
        Some(end)
    }

    /// Takes the shift, with `length` in the bits that count, or what stands there already.
    fn shift(&mut self, packet: &mut [u8], length: Option<u8>) -> Option<usize> {
        let Some((&Atom::Shift { offset, mask, shift }, rest)) = self.atoms.split_first() else {
            return Some(0);
        };
        let end = self.base + usize::from(offset) + 1;
        let byte = packet.get_mut(end - 1)?;
        if let Some(length) = length {
            *byte = *byte & !mask | length & mask;
        }
        self.base += usize::from(*byte & mask) << shift;
        self.atoms = rest;
        Some(end)
    }
}
