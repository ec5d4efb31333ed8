//! Filters as bytes; the form is in [`packet_filters::Filter::decode`].

use packet_filters::{Atom, Filter, MAX_ENCODED, SHIFT, VERSION, Width};

/// The one encoding of a filter.
pub fn encode(filter: &Filter) -> Encoded {
    let mut encoded = Encoded { bytes: [0; MAX_ENCODED], length: 0 };
    encoded.push(&[VERSION, filter.atoms().len() as u8]);
    for atom in filter.atoms() {
        match *atom {
            Atom::Compare { offset, width, mask, value } => {
                encoded.push(&[width.bytes() as u8]);
                encoded.push(&offset.to_be_bytes());
                encoded.push_number(width, mask);
                encoded.push_number(width, value);
            }
            Atom::Shift { offset, mask, shift } => {
                encoded.push(&[SHIFT]);
                encoded.push(&offset.to_be_bytes());
                encoded.push(&[mask, shift]);
            }
        }
    }
    encoded
}

/// An encoded filter; `as_ref()` gives its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    bytes: [u8; MAX_ENCODED],
    length: usize,
}

impl Encoded {
    /// Appends bytes; [`MAX_ENCODED`] leaves room for every filter.
    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *place = *byte;
            self.length += 1;
        }
    }

    fn push_number(&mut self, width: Width, number: u32) {
        let bytes = number.to_be_bytes();
        let unused = bytes.len() - usize::from(width.bytes());
        self.push(bytes.get(unused..).unwrap_or_default());
    }
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}
