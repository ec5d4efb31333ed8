//! The reference reading of a filter: what the emitted code has to agree with.

use crate::atom::{Atom, Width};
use crate::filter::Filter;

impl Filter {
    /// Whether the packet (from the link header on) matches.
    pub fn matches(&self, packet: &[u8]) -> bool {
        let mut base = 0;
        self.atoms().iter().all(|atom| match *atom {
            Atom::Compare { offset, width, mask, value } => {
                load(packet, base, offset, width).is_some_and(|loaded| loaded & mask == value)
            }
            Atom::Shift { offset, mask, shift } => {
                let byte = load(packet, base, offset, Width::One);
                base += (byte.unwrap_or(0) as usize & usize::from(mask)) << shift;
                byte.is_some()
            }
        })
    }
}

/// The load at `base + offset` in network order; `None` unless all of it lies in the packet. A base
/// is at most four shifts of 15 bits.
fn load(packet: &[u8], base: usize, offset: u16, width: Width) -> Option<u32> {
    let bytes = packet.get(base + usize::from(offset)..)?.get(..usize::from(width.bytes()))?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}
