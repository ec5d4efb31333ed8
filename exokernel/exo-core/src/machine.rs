//! What the kernel's mechanism needs of the hardware.

use crate::handler::{Arrival, Handled};
use exo_abi::{Error, FrameNumber};
use packet_filters::FilterSet;
use secure_bindings::{FrameMemory, TranslationCache};

/// The most filters that the machine holds, reservations included.
pub const FILTERS: usize = 16_384;
/// The most of these that are reservations. They have the highest ids.
pub const RESERVATIONS: usize = 256;
/// The most shapes that filters have: combinations of bits that they look at.
pub const SHAPES: usize = 64;
/// The most of these that one environment has brought.
pub const SHAPES_EACH: usize = 8;

/// The hardware, as the kernel's mechanism sees it. `exo-kernel` implements it for the machine,
/// the tests for plain memory.
///
/// None of these waits for anything but other CPUs' translation caches and vector registers, and
/// none calls back. What concerns a CPU concerns the one that asks.
pub trait Machine: FrameMemory + TranslationCache {
    /// What the kernel alone uses.
    type Devices: Devices;

    /// The number of the CPU that asks.
    fn cpu(&self) -> usize;

    /// Makes another CPU enter the kernel soon, to look at what has changed.
    fn kick(&self, cpu: usize);

    /// Waits a moment for another CPU, doing meanwhile what other CPUs wait for.
    fn pause(&self);

    /// Nanoseconds since boot.
    fn now(&self) -> u64;

    /// Makes the address space whose top-level table is `root` the current one.
    fn activate(&self, root: FrameNumber);

    /// Makes every CPU forget the translation of a page, or all, of the address space whose top-level
    /// table is `root`, where they allow more than they did; which frames they lead to, and which
    /// tables there are, has not changed.
    fn forget(&self, root: FrameNumber, page: Option<u64>);

    /// Makes the kernel's own address space current, so that the last one can be torn down.
    fn deactivate(&self);

    /// Returns when every other CPU has been outside of code that runs without the kernel's lock. Who
    /// was on the way from one address space to another has then arrived.
    fn quiesce(&self);

    /// The top-level table's entries for the kernel's half and for the common read-only tables:
    /// they are the same in every address space. Index is 0 to 511; 0 means that the entry is the
    /// environment's own.
    fn common_entry(&self, index: usize) -> u64;

    /// Asks for a tick at the time `at` (nanoseconds since boot) or as soon as possible after it; it
    /// is `now`. The last request counts.
    fn set_alarm(&self, now: u64, at: u64);

    /// Says whose vector registers are wanted from now on. Saving and loading is lazy; see
    /// [`EnvCell::vectors`](crate::EnvCell::vectors).
    fn switch_vectors(&self, slot: u16);

    /// Forgets the vector state of an environment that ends, on every CPU.
    fn forget_vectors(&self, slot: u16);

    /// Reads the bases of the FS and GS segments of the environment that runs.
    fn segment_bases(&self) -> [u64; 2];

    /// Sets the bases of the FS and GS segments of the environment that will run. The caller has
    /// checked that they are canonical.
    fn set_segment_bases(&self, bases: [u64; 2]);

    /// Ends the machine with a code. On hardware this does not return.
    fn exit(&self, code: u64);
}

/// The console, the network device, and the machine code that looks at packets. The kernel has them
/// for itself, so that its lock is the only one.
pub trait Devices {
    /// Writes bytes to the console.
    fn console_write(&mut self, bytes: &[u8]);

    /// The next byte typed at the console.
    fn console_read(&mut self) -> Option<u8>;

    /// The network device's link address.
    fn link_address(&self) -> Option<[u8; 6]>;

    /// Queues a packet of so many bytes for sending, if `write` puts one into memory where no program
    /// can change it; `doorbell` tells the device.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::QueueFull`], and those of `write`.
    fn transmit(
        &mut self,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error>;

    /// Tells the network device of the packets that were queued since the last time. Returns how many.
    fn doorbell(&mut self) -> u64;

    /// Replaces the machine code that classifies packets by that of `filters`.
    fn load_classifier(&mut self, filters: &mut FilterSet<'_>);

    /// The filter that a packet matches, by the code last loaded and the table of `filters`, which
    /// it was loaded for.
    fn classify(&self, filters: &FilterSet<'_>, packet: &[u8]) -> Option<u32>;

    /// Verifies a program against [`HANDLER`](packet_filters::ebpf::HANDLER) and compiles it as the
    /// handler of a ring. Returns whether it could; if not, the ring's handler is the one before.
    fn load_handler(&mut self, ring: usize, program: &[u8]) -> bool;

    /// Runs the handler of a ring.
    fn run_handler(&mut self, ring: usize, arrival: &Arrival<'_>) -> Handled;
}
