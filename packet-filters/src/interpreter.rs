//! The reference reading of a filter: what the tree and the emitted code have to agree with.

use crate::atom::{Atom, Width};

/// Whether every atom holds for the packet, in order.
pub(crate) fn matches(atoms: &[Atom], packet: &[u8]) -> bool {
    let mut base = 0;
    for atom in atoms {
        match *atom {
            Atom::Compare { offset, width, mask, value } => match load(packet, base, offset, width)
            {
                Some(loaded) if loaded & mask == value => {}
                _ => return false,
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
pub(crate) fn load(packet: &[u8], base: usize, offset: u16, width: Width) -> Option<u32> {
    let start = base.checked_add(usize::from(offset))?;
    let end = start.checked_add(usize::from(width.bytes()))?;
    let bytes = packet.get(start..end)?;
    Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
}

/// The base after a shift; `None` if the byte that holds the length is not in the packet.
pub(crate) fn advance(
    packet: &[u8],
    base: usize,
    offset: u16,
    mask: u8,
    shift: u8,
) -> Option<usize> {
    let byte = load(packet, base, offset, Width::One)? & u32::from(mask);
    let step = byte.checked_shl(u32::from(shift))?;
    base.checked_add(usize::try_from(step).ok()?)
}
