//! Time: the time stamp counter, measured against the 8254 at boot.

use core::arch::x86_64::_rdtsc;
use x86_64::instructions::port::Port;

/// The 8254's frequency in Hz.
const PIT: u64 = 1_193_182;
/// How long the measurement takes at least, in ticks of the 8254: about 4 ms.
const TICKS: u16 = 4772;
/// How often the 8254 is read at most: without one, its port always reads the same.
const PATIENCE: u32 = 1 << 20;

/// Time since boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The counter at boot.
    pub(crate) start: u64,
    /// The counter's ticks per second.
    pub(crate) frequency: u64,
    /// Nanoseconds for each tick, with 32 binary places.
    pub(crate) scale: u64,
}

/// The counter.
fn counter() -> u64 {
    // SAFETY: reading it has no effect, and every 64-bit processor has it.
    unsafe { _rdtsc() }
}

/// The 8254's first channel. Nobody uses its interrupt, which is masked. (The second channel could
/// be waited for through the speaker's port, but not every machine has a speaker.)
struct Pit {
    command: Port<u8>,
    channel: Port<u8>,
}

impl Pit {
    /// Starts counting down from the highest count.
    fn start() -> Self {
        let mut pit = Self { command: Port::new(0x43), channel: Port::new(0x40) };
        // SAFETY: the ports are the 8254's; the mode is that which counts down once.
        unsafe {
            pit.command.write(0x30);
            pit.channel.write(0xff);
            pit.channel.write(0xff);
        }
        pit
    }

    fn count(&mut self) -> u16 {
        // SAFETY: as above; the command holds the count for the two reads.
        unsafe {
            self.command.write(0);
            u16::from_le_bytes([self.channel.read(), self.channel.read()])
        }
    }
}

impl Clock {
    /// Measures the time stamp counter, and beside it the timer that `other` reads, which counts
    /// down. Returns the clock and the other's ticks per second.
    pub(crate) fn measure(mut other: impl FnMut() -> u32) -> (Self, u64) {
        let mut pit = Pit::start();
        let first = pit.count();
        let (start, other_start) = (counter(), other());
        let mut passed = 0;
        for _ in 0..PATIENCE {
            passed = first.wrapping_sub(pit.count());
            if passed >= TICKS {
                break;
            }
        }
        let (end, other_end) = (counter(), other());
        assert!(passed >= TICKS, "no 8254 to measure time with");
        let per_second = |ticks: u64| (ticks * PIT / u64::from(passed)).max(1);
        let frequency = per_second(end - start);
        let scale = ((1_000_000_000u128 << 32) / u128::from(frequency)) as u64;
        let clock = Self { start, frequency, scale };
        (clock, per_second(u64::from(other_start.wrapping_sub(other_end))))
    }

    /// Nanoseconds since boot.
    pub(crate) fn now(&self) -> u64 {
        let ticks = counter().wrapping_sub(self.start);
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }
}
