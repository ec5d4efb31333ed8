//! A measurement: how often, and how long it took.

use crate::mark;
use core::fmt;
use exo_user::time;

/// What one bench has measured.
#[derive(Debug, Default)]
pub(crate) struct Measurement {
    operations: u64,
    nanoseconds: u64,
}

impl Measurement {
    /// Does `operation` an eighth as often as asked, so that everything is where it will be, and
    /// then `operations` times between the marks. The loop around it counts: two or three
    /// instructions.
    #[inline(always)]
    pub(crate) fn repeat(&mut self, operations: u64, mut operation: impl FnMut()) {
        (0..operations / 8 + 1).for_each(|_| operation());
        let start = time::now();
        mark::begin();
        (0..operations).for_each(|_| operation());
        mark::end();
        self.nanoseconds = time::now() - start;
        self.operations = operations;
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
        write!(f, "operations={} nanoseconds={}", self.operations, self.nanoseconds)
    }
}
