//! The reference reading of a filter: what the tables and the emitted code have to agree with.

use crate::atom::{Atom, Width};
use crate::filter::Words;

/// Whether every atom holds for the packet, in order.
pub(crate) fn matches(atoms: &[Atom], packet: &[u8]) -> bool {
    let mut words = Words::default();
    gather(atoms, packet, &mut words) && atoms.iter().zip(words).all(|(atom, w)| atom.key() == w)
}

/// Reads what the atoms look at, masked and in memory order. False if the packet is too short.
pub(crate) fn gather(atoms: &[Atom], packet: &[u8], words: &mut Words) -> bool {
    let mut base = 0;
    for (atom, word) in atoms.iter().zip(words) {
        match *atom {
            Atom::Compare { offset, width, mask, .. } => match load(packet, base, offset, width) {
                Some(loaded) => *word = width.memory_order(loaded & mask),
                None => return false,
            },
            Atom::Shift { offset, mask, shift } => match advance(packet, base, offset, mask, shift)
            {
                Some(moved) => base = moved,
                None => return false,
            },
        }
    }
    true
}

/// The load at `base + offset` in network order; `None` unless all of it lies in the packet.
fn load(packet: &[u8], base: usize, offset: u16, width: Width) -> Option<u32> {
    let start = base.checked_add(usize::from(offset))?;
    let end = start.checked_add(usize::from(width.bytes()))?;
    let bytes = packet.get(start..end)?;
    Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
}

/// The base after a shift; `None` if the byte that holds the length is not in the packet.
fn advance(packet: &[u8], base: usize, offset: u16, mask: u8, shift: u8) -> Option<usize> {
    let byte = load(packet, base, offset, Width::One)? & u32::from(mask);
    let step = byte.checked_shl(u32::from(shift))?;
    base.checked_add(usize::try_from(step).ok()?)
}
