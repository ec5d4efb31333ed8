//! Several calls with one entry to the kernel.

use crate::call::{address, call};
use exo_abi::batch::{BatchEntry, BatchFlags};
use exo_abi::layout::BATCH_MAX;
use exo_abi::{Call, Error};

/// A list of calls, at most `N` and at most [`BATCH_MAX`].
#[derive(Clone, Debug)]
pub struct Batch<const N: usize> {
    entries: [BatchEntry; N],
    count: usize,
    tried: usize,
}

impl<const N: usize> Batch<N> {
    /// A list without calls.
    pub fn new() -> Self {
        const { assert!(N as u64 <= BATCH_MAX) };
        Self { entries: [BatchEntry::default(); N], count: 0, tried: 0 }
    }

    /// A list of these calls.
    pub fn of(calls: [Call; N]) -> Self {
        Self { entries: calls.map(BatchEntry::new), count: N, ..Self::new() }
    }

    /// Appends a call.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn push(&mut self, call: Call) -> Result<(), Error> {
        *self.entries.get_mut(self.count).ok_or(Error::TooLong)? = BatchEntry::new(call);
        self.count += 1;
        Ok(())
    }

    /// Makes the calls, one after the other up to the first that is refused, and returns how many
    /// were made. The list can be run again.
    ///
    /// # Errors
    /// What is wrong with the list; never what is wrong with one of its calls: see
    /// [`results`](Self::results).
    ///
    /// # Safety
    /// As [`call`], for each of the calls.
    pub unsafe fn run(&mut self) -> Result<usize, Error> {
        // SAFETY: the caller answers for the calls.
        let made = unsafe { self.make(BatchFlags::empty()) };
        self.tried = made.map_or(0, |made| (made + 1).min(self.count));
        made
    }

    /// Makes all of the calls or none: at the first that is refused, those before it are undone.
    ///
    /// # Errors
    /// The error of the call that was refused, or `NotInBatch` for one that cannot be undone.
    ///
    /// # Safety
    /// As [`call`], for each of the calls, and for their undoing.
    pub unsafe fn run_all(&mut self) -> Result<(), Error> {
        // SAFETY: the caller answers for the calls.
        let made = unsafe { self.make(BatchFlags::ROLL_BACK) };
        self.tried = if made.is_ok() { self.count } else { 0 };
        made.map(|_| ())
    }

    unsafe fn make(&mut self, flags: BatchFlags) -> Result<usize, Error> {
        let entries = &mut self.entries[..self.count];
        let (list, count) = (address(entries), entries.len() as u64);
        // SAFETY: the kernel writes only into the entries, which are borrowed; the caller answers
        // for the calls.
        unsafe { call(Call::Batch { list, count, flags }) }.map(|made| made as usize)
    }

    /// What each call has got that was tried in the last run: its value, or why it was refused.
    pub fn results(&self) -> impl Iterator<Item = Result<u64, Error>> + '_ {
        self.entries[..self.tried].iter().map(BatchEntry::result)
    }
}

impl<const N: usize> Default for Batch<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_appended_until_it_is_full() {
        let mut batch = Batch::<2>::new();
        assert_eq!(batch.push(Call::Null {}), Ok(()));
        assert_eq!(batch.push(Call::Null {}), Ok(()));
        assert_eq!(batch.push(Call::Null {}), Err(Error::TooLong));
        assert_eq!(batch.results().count(), 0, "nothing was tried");
        assert_eq!(address(&batch.entries) % 64, 0);
    }
}
