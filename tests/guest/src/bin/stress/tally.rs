//! What an environment has seen, in a page that its parent reads.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Count {
    Steps,
    /// Transfers that were made, and those that were refused.
    Transfers,
    Refused,
    /// Requests that came in by the gate, and answers that were right.
    Entered,
    Answered,
    Faults,
    /// Pages that were taken by force.
    Lost,
    Sleeps,
    /// Sleeps that ended without an event before their time.
    Early,
    /// Sleeps that ended late: by more than 10 ms, than 100 ms, than the bound.
    Late10,
    Late100,
    LateBound,
    /// The latest, in microseconds.
    Latest,
    Created,
    Revoked,
    Bound,
    Moved,
    Batches,
    /// How its owner is about to end, see `worker`.
    Intent,
}

/// How many words are added up.
const SUMS: usize = Count::Intent as usize;

/// A page of counters, at an address at which it stays bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    words: &'static [AtomicU64; 64],
}

impl Tally {
    /// The counters at an address.
    pub(crate) fn at(address: u64) -> Self {
        // SAFETY: the page is bound for this alone, for reading and writing, and wired.
        Self { words: unsafe { &*(address as *const [AtomicU64; 64]) } }
    }

    pub(crate) fn get(self, count: Count) -> u64 {
        self.words[count as usize].load(Relaxed)
    }

    pub(crate) fn set(self, count: Count, value: u64) {
        self.words[count as usize].store(value, Relaxed);
    }

    /// Only its owner counts.
    pub(crate) fn add(self, count: Count) {
        self.set(count, self.get(count) + 1);
    }

    /// Takes note of a sleep that ended this many nanoseconds after its time.
    pub(crate) fn late(self, nanoseconds: u64, bound: u64) {
        for (count, from) in
            [(Count::Late10, 10_000_000), (Count::Late100, 100_000_000), (Count::LateBound, bound)]
        {
            if nanoseconds > from {
                self.add(count);
            }
        }
        self.set(Count::Latest, self.get(Count::Latest).max(nanoseconds / 1000));
    }

    /// Takes over what another has counted, and empties it.
    pub(crate) fn absorb(self, other: Self) {
        for (word, value) in self.words.iter().zip(other.words).take(SUMS) {
            let value = value.swap(0, Relaxed);
            word.store(word.load(Relaxed) + value, Relaxed);
        }
    }

    /// As [`Tally::absorb`], but for the maximum.
    pub(crate) fn take(self, other: Self) {
        let latest = self.get(Count::Latest).max(other.get(Count::Latest));
        self.absorb(other);
        self.set(Count::Latest, latest);
        other.set(Count::Intent, 0);
    }
}
