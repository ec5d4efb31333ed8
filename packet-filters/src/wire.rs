//! Filters as bytes: how a program hands one to the kernel.
//!
//! Numbers are in network order. A filter is a version, the number of atoms, then the atoms:
//!
//! | bytes | compare | shift |
//! |---|---|---|
//! | 1 | width: 1, 2 or 4 | 0x10 |
//! | 2 | offset | offset |
//! | | mask, as wide as the load | mask, 1 byte |
//! | | value, as wide as the load | shift, 1 byte |
//!
//! Each filter has exactly one encoding. Decoding refuses every other string of bytes, so that
//! equal filters can be found by comparing bytes.

use crate::atom::{Atom, Width};
use crate::filter::{Filter, FilterError, MAX_ATOMS};

/// The longest encoding, in bytes.
pub const MAX_ENCODED: usize = 2 + MAX_ATOMS * (1 + 2 + 4 + 4);

/// The first byte.
pub const VERSION: u8 = 1;
/// The first byte of a shift.
pub const SHIFT: u8 = 0x10;

/// Why bytes are not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the filter does.
    Truncated,
    /// Bytes follow the last atom.
    Trailing,
    /// The first byte is not the version this crate knows.
    UnknownVersion,
    /// The atom of this index starts with a byte that names no kind of atom.
    UnknownAtom(u8),
    /// The atoms do not make a filter.
    Invalid(FilterError),
}

impl Filter {
    /// The filter that these bytes, and no others, encode.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input(bytes);
        if input.number(1)? != u32::from(VERSION) {
            return Err(DecodeError::UnknownVersion);
        }
        let count = input.number(1)? as usize;
        let mut storage = [Atom::Shift { offset: 0, mask: 0, shift: 0 }; MAX_ATOMS];
        let atoms =
            storage.get_mut(..count).ok_or(DecodeError::Invalid(FilterError::TooManyAtoms))?;
        for (index, atom) in atoms.iter_mut().enumerate() {
            *atom = input.atom(index as u8)?;
        }
        if !input.0.is_empty() {
            return Err(DecodeError::Trailing);
        }
        Filter::new(atoms).map_err(DecodeError::Invalid)
    }
}

/// What is left to decode.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// The next `width` bytes (at most 4) as a number.
    fn number(&mut self, width: usize) -> Result<u32, DecodeError> {
        let (head, rest) = self.0.split_at_checked(width).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    }

    fn atom(&mut self, index: u8) -> Result<Atom, DecodeError> {
        let tag = self.number(1)?;
        if tag == u32::from(SHIFT) {
            let offset = self.number(2)? as u16;
            return Ok(Atom::Shift {
                offset,
                mask: self.number(1)? as u8,
                shift: self.number(1)? as u8,
            });
        }
        let width = Width::from_bytes(tag).ok_or(DecodeError::UnknownAtom(index))?;
        let bytes = usize::from(width.bytes());
        Ok(Atom::Compare {
            offset: self.number(2)? as u16,
            width,
            mask: self.number(bytes)?,
            value: self.number(bytes)?,
        })
    }
}
