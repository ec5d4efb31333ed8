//! A measurement: how often, and how long it took.

use crate::mark;
use core::fmt;
use core::sync::atomic::AtomicU64;
use libos_posix::exo_user::abi::tables::StatisticsWord;
use libos_posix::exo_user::{tables, time};

/// How often everything is done; once is counted.
const BATCHES: u32 = 5;

/// What one bench has measured.
#[derive(Debug, Default)]
pub(crate) struct Measurement {
    operations: u64,
    nanoseconds: u64,
    ratio: Option<f64>,
    longest: Option<u64>,
}

impl Measurement {
    /// Does `operation` [`BATCHES`] times `operations` times, the last of them between the marks,
    /// and keeps the time of the fastest: whatever else the host does only ever adds. The first
    /// also bring everything to where it will be. The loop counts: two or three instructions.
    #[inline(always)]
    pub(crate) fn repeat(&mut self, operations: u64, mut operation: impl FnMut()) {
        (self.operations, self.nanoseconds) = (operations, u64::MAX);
        for batch in 1..=BATCHES {
            let start = time::now();
            if batch == BATCHES {
                mark::begin();
                (0..operations).for_each(|_| operation());
                mark::end();
            } else {
                (0..operations).for_each(|_| operation());
            }
            self.nanoseconds = self.nanoseconds.min(time::now() - start);
        }
    }

    /// Does something once between the marks: that is `operations`.
    #[inline(always)]
    pub(crate) fn once(&mut self, operations: u64, operation: impl FnOnce()) {
        let start = time::now();
        mark::begin();
        operation();
        mark::end();
        (self.operations, self.nanoseconds) = (operations, time::now() - start);
    }

    /// Says that what was done was so many operations.
    pub(crate) fn correct(&mut self, operations: u64) {
        self.operations = operations;
    }

    /// Says what came of it, where that is not an operation's cost.
    pub(crate) fn ratio(&mut self, ratio: f64) {
        self.ratio = Some(ratio);
    }

    /// Says how many instructions the longest of what was done took.
    pub(crate) fn longest(&mut self, instructions: u64) {
        self.longest = Some(instructions);
    }

    /// Does something that sets the marks itself; `operation` returns how often it has done what is
    /// measured. The time is not told: it is for what mostly waits.
    pub(crate) fn marked(&mut self, operation: impl FnOnce() -> u64) {
        self.operations = operation();
        self.nanoseconds = 0;
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ratio, self.longest) {
            (Some(ratio), _) => write!(f, "ratio={ratio:.3}"),
            (None, Some(longest)) => write!(f, "longest={longest}"),
            (None, None) => {
                write!(f, "operations={} nanoseconds={}", self.operations, self.nanoseconds)
            }
        }
    }
}

/// A counter of the kernel, as it goes on.
pub(crate) fn counter(word: StatisticsWord) -> &'static AtomicU64 {
    let statistics = tables::system().statistics.address as *const AtomicU64;
    // SAFETY: the kernel maps its counters there, for as long as the program runs.
    unsafe { &*statistics.add(word as usize) }
}
