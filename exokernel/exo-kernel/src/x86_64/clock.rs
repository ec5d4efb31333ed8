//! Time: the time stamp counter, measured against the 8254 at boot.

use core::arch::x86_64::_rdtsc;
use x86_64::instructions::port::Port;

/// The 8254's frequency in Hz.
const PIT: u64 = 1_193_182;
/// How long the measurement takes, in ticks of the 8254: about 4 ms.
const TICKS: u16 = 4772;

/// Time since boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The counter at boot.
    pub(crate) start: u64,
    /// The counter's ticks per second.
    pub(crate) frequency: u64,
    /// Nanoseconds for each tick, with 32 binary places.
    scale: u64,
}

/// The counter.
fn counter() -> u64 {
    // SAFETY: reading it has no effect, and every 64-bit processor has it.
    unsafe { _rdtsc() }
}

impl Clock {
    /// Measures the time stamp counter, and beside it the timer that `other` reads, which counts
    /// down. Returns the clock and the other's ticks per second.
    pub(crate) fn measure(mut other: impl FnMut() -> u32) -> (Self, u64) {
        let mut gate = Port::<u8>::new(0x61);
        let mut command = Port::<u8>::new(0x43);
        let mut channel = Port::<u8>::new(0x42);
        // SAFETY: these ports are the 8254's second channel, which drives the speaker that nobody
        // uses. It counts down once, and the gate port shows when it has reached zero.
        unsafe {
            let off = gate.read() & !3;
            gate.write(off | 1);
            command.write(0xb0);
            channel.write(TICKS as u8);
            channel.write((TICKS >> 8) as u8);
            let (start, other_start) = (counter(), other());
            while gate.read() & 0x20 == 0 {}
            let (end, other_end) = (counter(), other());
            gate.write(off);
            let per_second = |ticks: u64| ticks * PIT / u64::from(TICKS);
            let frequency = per_second(end - start).max(1);
            let scale = ((1_000_000_000u128 << 32) / u128::from(frequency)) as u64;
            let clock = Self { start, frequency, scale };
            (clock, per_second(u64::from(other_start.wrapping_sub(other_end))).max(1))
        }
    }

    /// Nanoseconds since boot.
    pub(crate) fn now(&self) -> u64 {
        let ticks = counter().wrapping_sub(self.start);
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }
}
