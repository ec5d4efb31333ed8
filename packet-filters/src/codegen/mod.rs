//! Machine code for a set of filters: x86-64, position independent.

pub(crate) mod assembler;
pub(crate) mod code;
pub(crate) mod encoding;
pub(crate) mod lowering;

use crate::atom::Atom;
use crate::shape::Shape;
use crate::table::Line;

/// The type of the emitted function: address and length of a packet, and
/// [the table](crate::FilterSet::table), to a number that [`verdict`] reads.
///
/// # Safety
///
/// To call it, the code must be unchanged since it was compiled, all `length` bytes at `packet`
/// must be readable, and the table must be that of the set that was compiled. The contents of the
/// packet may change during the call, and the set may be changed as
/// [`FilterSet::compile`](crate::FilterSet::compile) allows.
// SAFETY: the generator writes no store but to the stack, and one length check before each run of loads.
pub type Classifier =
    unsafe extern "sysv64" fn(packet: *const u8, length: u64, table: *const Line) -> u64;

/// The id in what a [`Classifier`] returned: it returns id + 1, or 0 if no filter matched.
pub fn verdict(returned: u64) -> Option<u32> {
    returned.checked_sub(1).map(|id| id as u32)
}

/// A buffer of this many bytes is large enough for the code of any set of so many shapes.
pub const fn code_for(shapes: usize) -> usize {
    64 + 1536 * shapes
}

/// Why no code came out: the buffer has less than the bytes that are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferTooSmall {
    /// How many bytes are needed.
    pub needed: usize,
}

/// What a part of emitted code does. Steps make a tree: what follows a [`Step::Test`], up to its
/// [`Step::End`], is only done if it held.
#[derive(Clone, Copy, Debug)]
pub enum Step<'s> {
    /// A compare or shift that all below have in common.
    Test(Atom),
    /// The filters of one shape, to be told apart.
    Shape(&'s Shape),
    /// The end of the last test that has not ended.
    End,
}
