//! What two filters have to do with each other, decided by the bits they look at.
//!
//! Segments are comparable as long as the shifts before them are the same in both filters: then
//! both count from the same base, in any packet. Two filters without shifts have one segment each,
//! and the answers are exact. Behind shifts two segments of one filter may look at the same byte, and
//! where the shifts differ nothing is known; there [`overlaps`] says yes and [`contains`] says no.

use crate::atom::Atom;
use crate::filter::{Filter, Words};

/// Whether a packet may match both filters. False only if no packet can; without shifts, true only
/// if one can.
pub fn overlaps(a: &Filter, b: &Filter) -> bool {
    !comparable(a, b).any(|(a, b)| conflicts(a, b))
}

/// Whether every packet that matches `filter` is sure to match `pattern`: the rule by which the
/// holder of a reservation may install a filter. Never true wrongly.
pub fn contains(pattern: &Filter, filter: &Filter) -> bool {
    project(pattern, filter) == Some(pattern.words())
}

/// What every packet that matches `filter` has where `pattern` looks; `None` unless that is sure, for
/// every bit. A filter of the pattern's shape then overlaps `filter` if and only if it wants this.
pub(crate) fn project(pattern: &Filter, filter: &Filter) -> Option<Words> {
    let mut words = Words::default();
    let (mut place, mut open) = (0, pattern.atoms().split(is_shift).count());
    for (want, have) in comparable(pattern, filter) {
        for (atom, word) in want.iter().zip(words.iter_mut().skip(place)) {
            *word = key_in(atom, have)?;
        }
        (place, open) = (place + want.len() + 1, open - 1);
    }
    (open == 0).then_some(words)
}

/// The key of what a segment makes sure that this compare sees.
fn key_in(atom: &Atom, segment: &[Atom]) -> Option<u32> {
    if let Some(same) = segment.iter().find(|other| other.field() == atom.field()) {
        return Some(same.key());
    }
    let Atom::Compare { width, .. } = *atom else { return None };
    let mut value = 0;
    for (offset, mask, _) in atom.cells() {
        let (have_mask, have_value) = cell_at(segment, offset);
        if mask & !have_mask != 0 {
            return None;
        }
        value = value << 8 | u32::from(have_value & mask);
    }
    Some(width.memory_order(value))
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
pub(crate) fn conflicts(a: &[Atom], b: &[Atom]) -> bool {
    a.iter().flat_map(Atom::cells).any(|(offset, mask, value)| {
        let (other_mask, other_value) = cell_at(b, offset);
        (value ^ other_value) & mask & other_mask != 0
    })
}

/// The mask and value of a segment at one byte; canonical segments look at a byte once.
fn cell_at(segment: &[Atom], offset: u16) -> (u8, u8) {
    let near = segment.iter().filter(|atom| u32::from(offset) < atom.end());
    let mut cells = near.flat_map(Atom::cells);
    cells.find(|cell| cell.0 == offset).map_or((0, 0), |(_, mask, value)| (mask, value))
}
