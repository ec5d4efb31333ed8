//! Several calls with one entry to the kernel.

use crate::error::Error;
use crate::layout::BATCH_MAX;
use bitflags::bitflags;

/// One call of a batch: the registers that the call would have, and afterwards what it got. All
/// fields are words; the list is aligned to the size of an entry, so that none goes over the end of
/// a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(64))]
pub struct BatchEntry {
    /// The call's number.
    pub number: u32,
    /// Written by the kernel: 0 or the number of the [`Error`], for each call that was tried.
    pub error: u32,
    /// The call's arguments.
    pub arguments: [u64; 6],
    /// Written by the kernel: the call's value.
    pub value: u64,
}

/// The words of a [`BatchEntry`].
pub const BATCH_WORDS: usize = 8;

impl BatchEntry {
    /// An entry that makes `call`.
    pub fn new(call: crate::Call) -> Self {
        let registers = call.pack();
        Self { number: registers.number as u32, arguments: registers.arguments, ..Self::default() }
    }

    /// What the call got, if it was tried.
    ///
    /// # Errors
    /// The call's own.
    pub fn result(&self) -> Result<u64, Error> {
        Error::from_number(self.error.into()).map_or(Ok(self.value), Err)
    }
}

bitflags! {
    /// How a batch is made.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct BatchFlags: u64 {
        /// Either every call of the batch is made or none.
        const ROLL_BACK = 1;
    }
}

const _: () = {
    assert!(size_of::<BatchEntry>() == BATCH_WORDS * 8);
    assert!(BATCH_MAX > 0);
};
