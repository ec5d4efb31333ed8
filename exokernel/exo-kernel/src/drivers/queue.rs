//! A split virtqueue of the virtio standard (1.2, section 2.7), with a buffer for each descriptor.
//!
//! Descriptors are never chained, and each leads to the buffer of its number for ever. So what goes
//! to the device and comes back is a number, the ring of those that came back is also the list of
//! those that can be used, and giving a buffer away is one store.

use crate::boot::memory::EarlyMemory;
use crate::x86_64::layout::{DIRECT_MAP, physical};
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};
use exo_abi::name::PAGE_SIZE;
use virtio_drivers::transport::{SomeTransport, Transport};

/// The entries of each queue.
const ENTRIES: usize = 128;
/// The bytes of each buffer.
const BUFFER: usize = 2048;
/// Where in a buffer the packet begins, so that it is aligned. The device's header is before it.
const PACKET: usize = 16;
/// The bytes that there are for a packet.
pub(crate) const ROOM: usize = BUFFER - PACKET;
/// The flag of a descriptor whose buffer the device writes.
const WRITE: u16 = 2;
/// In the flags of either ring: its reader need not be told of what is put in.
const QUIET: u16 = 1;

/// What the device reads and writes beside buffers. The used ring is where drafts of the standard
/// want it, on the next page.
#[repr(C, align(4096))]
struct Rings {
    descriptors: [Descriptor; ENTRIES],
    available: Available,
    used: Used,
}

#[repr(C)]
struct Descriptor {
    address: AtomicU64,
    length: AtomicU32,
    flags: AtomicU16,
    next: AtomicU16,
}

/// What the driver has given to the device.
#[repr(C)]
struct Available {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [AtomicU16; ENTRIES],
}

/// What the device has given back.
#[repr(C, align(4096))]
struct Used {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [(AtomicU32, AtomicU32); ENTRIES],
}

/// A buffer. The device may write it while it is offered.
#[repr(align(16))]
struct Buffer(UnsafeCell<[u8; BUFFER]>);

/// The number of a buffer that is not the device's now.
pub(crate) struct Taken(u16);

/// A queue.
pub(crate) struct Queue {
    rings: &'static Rings,
    buffers: &'static [Buffer],
    /// The bytes before each packet.
    header: usize,
    /// How many buffers were never used.
    fresh: u16,
    /// How many were given to the device, and taken back from it; both wrap.
    offered: u16,
    taken: u16,
}

// SAFETY: only who has the queue for itself gets at the bytes of its buffers.
unsafe impl Send for Queue {}

/// Where the device finds a value of early memory.
fn address<T>(value: &T) -> u64 {
    core::ptr::from_ref(value).addr() as u64 - DIRECT_MAP
}

impl Queue {
    /// The queue of this number, whose buffers the device fills, or reads, with a header of so many
    /// bytes before each packet.
    pub(crate) fn new(
        transport: &mut SomeTransport<'static>,
        (number, header): (u16, usize),
        fills: bool,
        early: &mut EarlyMemory,
    ) -> Option<Self> {
        let buffers = early.slice(ENTRIES, || Buffer(UnsafeCell::new([0; BUFFER])))?;
        let frame = early.frames((size_of::<Rings>() as u64).div_ceil(PAGE_SIZE))?;
        // SAFETY: the frames are nobody else's for ever and in the direct map, and all is 0 there, which
        // every atomic may be.
        let rings: &Rings = unsafe { &*physical(frame.address()) };
        for (descriptor, buffer) in rings.descriptors.iter().zip(&*buffers) {
            let start = address(buffer) + (PACKET - header) as u64;
            descriptor.address.store(start, Relaxed);
            descriptor.flags.store(if fills { WRITE } else { 0 }, Relaxed);
        }
        // Only packets that arrive are worth an interrupt.
        rings.available.flags.store(if fills { 0 } else { QUIET }, Relaxed);
        if transport.queue_used(number) || transport.max_queue_size(number) < ENTRIES as u32 {
            return None;
        }
        let [first, second, third] =
            [address(&rings.descriptors), address(&rings.available), address(&rings.used)];
        transport.queue_set(number, ENTRIES as u32, first, second, third);
        Some(Self { rings, buffers, header, fresh: ENTRIES as u16, offered: 0, taken: 0 })
    }

    /// Takes a buffer that the device has given back, with the length of the packet that it has put
    /// in, or one that was never used.
    pub(crate) fn take(&mut self) -> Option<(Taken, usize)> {
        if let Some(rest) = self.fresh.checked_sub(1) {
            self.fresh = rest;
            return Some((Taken(rest), 0));
        }
        let used = &self.rings.used;
        if used.index.load(Acquire) == self.taken {
            return None;
        }
        let (buffer, length) = &used.ring[usize::from(self.taken) % ENTRIES];
        self.taken = self.taken.wrapping_add(1);
        let number = buffer.load(Relaxed) as u16 % ENTRIES as u16;
        Some((Taken(number), (length.load(Relaxed) as usize).saturating_sub(self.header)))
    }

    /// The bytes of a buffer, from the beginning of the packet on.
    pub(crate) fn bytes(&mut self, buffer: &Taken) -> &mut [u8] {
        // SAFETY: a buffer that was taken is not the device's before `offer`, which wants it back. The
        // reference borrows the queue, so that there is one at a time.
        let bytes = unsafe { &mut *self.buffers[usize::from(buffer.0)].0.get() };
        &mut bytes[PACKET..]
    }

    /// Gives a buffer to the device: with a packet of so many bytes, or room for one.
    pub(crate) fn offer(&mut self, Taken(buffer): Taken, length: usize) {
        let Rings { descriptors, available, .. } = self.rings;
        descriptors[usize::from(buffer)].length.store((self.header + length) as u32, Relaxed);
        available.ring[usize::from(self.offered) % ENTRIES].store(buffer, Relaxed);
        self.offered = self.offered.wrapping_add(1);
        available.index.store(self.offered, Release);
    }

    /// Whether the device wants to be told of what was offered.
    pub(crate) fn wants_notice(&self) -> bool {
        // It first says that it stops looking, and then looks for the last time.
        fence(SeqCst);
        self.rings.used.flags.load(Relaxed) & QUIET == 0
    }
}
