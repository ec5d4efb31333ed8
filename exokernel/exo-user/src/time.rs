//! The time: two loads and a read of the CPU's counter.

use crate::shared;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::Ordering;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// A time that doesn't come: for a sleep that only an event ends.
pub const NEVER: u64 = u64::MAX;

/// Nanoseconds since boot.
pub fn now() -> u64 {
    let page = shared::system();
    let frequency = page[3].load(Ordering::Relaxed);
    let boot = page[4].load(Ordering::Relaxed);
    // SAFETY: the kernel lets programs read the counter.
    nanoseconds(unsafe { _rdtsc() }.saturating_sub(boot), frequency)
}

/// Ticks of a counter with this many per second, in nanoseconds; 0 for a counter that stands.
/// Whole seconds are taken apart first: below 18 GHz nothing overflows.
fn nanoseconds(ticks: u64, frequency: u64) -> u64 {
    let (Some(seconds), Some(rest)) = (ticks.checked_div(frequency), ticks.checked_rem(frequency))
    else {
        return 0;
    };
    seconds.saturating_mul(SECOND).saturating_add(rest.saturating_mul(SECOND) / frequency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_without_overflow() {
        assert_eq!(nanoseconds(5, 0), 0);
        assert_eq!(nanoseconds(1, 1_000_000_000), 1);
        assert_eq!(nanoseconds(3_000_000_001, 3_000_000_000), SECOND);
        let year = 365 * 86_400 * 5_000_000_000;
        assert_eq!(nanoseconds(year + 5, 5_000_000_000), 365 * 86_400 * SECOND + 1);
    }
}
