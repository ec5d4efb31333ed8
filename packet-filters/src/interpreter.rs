//! The reference reading of a filter: what the emitted code has to agree with.

use crate::atom::{Atom, Width};
use crate::filter::Filter;

impl Filter {
    /// Whether the packet (from the link header on) matches.
    pub fn matches(&self, packet: &[u8]) -> bool {
        let mut base = 0;
        self.atoms().iter().all(|atom| match *atom {
            Atom::Compare { offset, width, mask, value } => {
                load(packet, base + usize::from(offset), width)
                    .is_some_and(|loaded| loaded & mask == value)
            }
            Atom::Shift { offset, mask, shift } => {
                let byte = packet.get(base + usize::from(offset)).copied();
                base += (byte.unwrap_or(0) as usize & usize::from(mask)) << shift;
                byte.is_some()
            }
        })
    }
}

/// The load at a place in network order; `None` unless all of it lies in the packet. A base is at most
/// four shifts of 15 bits.
fn load(packet: &[u8], at: usize, width: Width) -> Option<u32> {
    let bytes = packet.get(at..)?;
    Some(match width {
        Width::One => u32::from(*bytes.first()?),
        Width::Two => u32::from(u16::from_be_bytes(*bytes.first_chunk()?)),
        Width::Four => u32::from_be_bytes(*bytes.first_chunk()?),
    })
}
