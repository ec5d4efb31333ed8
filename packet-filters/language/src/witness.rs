//! Packets that show that two filters overlap.

use core::fmt;

use packet_filters::{Atom, Filter, MAX_END, overlaps};

use crate::text::show;

/// Bytes of a line of hexadecimal numbers.
const LINE: usize = 16;

/// Two filters that overlap, for people: both as text, and a packet that both match, if one is found.
#[derive(Clone, Copy, Debug)]
pub struct Overlapping<'f>(pub &'f Filter, pub &'f Filter);

impl fmt::Display for Overlapping<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}\n  {}", show(self.0), show(self.1))?;
        let mut packet = [0; 2 * MAX_END as usize];
        let Some(length) = witness(self.0, self.1, &mut packet) else {
            return write!(f, "no packet was found that matches both, but there may be one");
        };
        write!(f, "this packet matches both:")?;
        for (at, bytes) in (0..).step_by(LINE).zip(packet.get(..length).unwrap_or(&[]).chunks(LINE))
        {
            write!(f, "\n  {at:04x} ")?;
            bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
        }
        Ok(())
    }
}

/// Writes a packet that both filters match to the front of `packet`, and returns its length.
///
/// `None` if none was found: the filters do not overlap, the buffer is too small, or they have
/// shifts under which two conditions fall on one byte. Without shifts,
/// [`MAX_END`](packet_filters::MAX_END) bytes always suffice.
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
