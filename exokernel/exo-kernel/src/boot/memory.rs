//! Physical memory at boot: what is usable, and what the kernel takes of it for its tables before
//! there is a frame table.

use super::pvh::{BootInformation, Range};
use crate::x86_64::layout::{KERNEL_BASE, physical};
use core::slice;
use core::sync::atomic::AtomicU64;
use exo_abi::FrameNumber;
use exo_abi::name::PAGE_SIZE;

// SAFETY: the linker script defines both. Only their addresses are taken.
unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
}

/// Memory below this is never handed out: it belongs to firmware and boot loader, and to the
/// processors that start in real mode.
const LOWEST: u64 = 0x10_0000;

/// The kernel's image in physical memory.
pub(crate) fn image() -> Range {
    Range {
        start: (&raw const image_start).addr() as u64 - KERNEL_BASE,
        end: (&raw const image_end).addr() as u64 - KERNEL_BASE,
    }
}

/// The kernel's own memory begins at such a boundary behind the image if there is enough: what is
/// before it is mapped in small pages, for the image's sake.
const LARGE_PAGE: u64 = 0x20_0000;

/// Takes memory for ever, from the largest usable piece upwards. All of it is zero.
///
/// What is small lies together: a processor that goes from one program to another, and has to
/// forget all translations for it, then looks up fewer pages.
pub(crate) struct EarlyMemory {
    next: u64,
    end: u64,
    start: u64,
    /// What is left of the last piece that was begun for small things.
    rest: Range,
}

/// The bytes of a piece for small things: room for what a switch touches of every environment.
const PIECE: u64 = 32 * PAGE_SIZE;

/// The part of a region that neither the image nor the module occupies, if it is one piece: the
/// image is at the region's start and the module at its end.
fn usable(region: Range, module: Option<Range>) -> Range {
    let mut start = region.start.max(LOWEST).next_multiple_of(PAGE_SIZE);
    let mut end = region.end / PAGE_SIZE * PAGE_SIZE;
    for taken in [Some(image()), module].into_iter().flatten() {
        if taken.start < end && taken.end > start {
            let below = taken.start.saturating_sub(start);
            let above = end.saturating_sub(taken.end);
            if below >= above {
                end = taken.start / PAGE_SIZE * PAGE_SIZE;
            } else {
                start = taken.end.next_multiple_of(PAGE_SIZE);
            }
        }
    }
    Range { start, end: end.max(start) }
}

impl EarlyMemory {
    /// The largest usable piece below 4 GiB, which the boot tables map.
    pub(crate) fn new(boot: &BootInformation) -> Option<Self> {
        let low = boot.regions().iter().filter(|region| region.end <= 1 << 32);
        let largest = low
            .map(|&region| usable(region, boot.module()))
            .max_by_key(|piece| piece.end - piece.start)?;
        let behind = image().end.next_multiple_of(LARGE_PAGE);
        let enough = behind * 2..largest.end;
        let start = if enough.is_empty() { largest.start } else { largest.start.max(behind) };
        let rest = Range { start: 0, end: 0 };
        Some(Self { next: start, end: largest.end, start, rest })
    }

    /// Takes `count` frames, cleared, one behind the other; `None` if there are not as many.
    pub(crate) fn frames(&mut self, count: u64) -> Option<FrameNumber> {
        let first = self.next;
        let next = first.checked_add(count * PAGE_SIZE).filter(|&next| next <= self.end)?;
        self.next = next;
        // SAFETY: the range is usable memory that nothing else has been given, and it is in the
        // direct map, since it ends below 4 GiB.
        unsafe { physical::<u8>(first).write_bytes(0, (count * PAGE_SIZE) as usize) };
        Some(FrameNumber((first / PAGE_SIZE) as u32))
    }

    /// Takes room for `count` values and fills it.
    pub(crate) fn slice<T>(
        &mut self,
        count: usize,
        fill: impl Fn() -> T,
    ) -> Option<&'static mut [T]> {
        self.collect((0..count).map(|_| fill()))
    }

    /// Takes room for the values and puts them there. A piece of them and more begins on a page.
    pub(crate) fn collect<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
    ) -> Option<&'static mut [T]> {
        let count = values.len();
        const { assert!(align_of::<T>() <= PAGE_SIZE as usize) };
        let bytes = size_of::<T>().checked_mul(count)? as u64;
        let first = self.room(bytes, align_of::<T>() as u64)?;
        let pointer = physical::<T>(first);
        let mut written = 0;
        for value in values.take(count) {
            // SAFETY: `room` returned room for `count` values, aligned for them, to nobody else.
            unsafe { pointer.add(written).write(value) };
            written += 1;
        }
        // SAFETY: so many values have just been written, and the memory is never given back.
        Some(unsafe { slice::from_raw_parts_mut(pointer, written) })
    }

    fn room(&mut self, bytes: u64, align: u64) -> Option<u64> {
        if bytes >= PIECE {
            return Some(self.frames(bytes.div_ceil(PAGE_SIZE))?.address());
        }
        let mut first = self.rest.start.next_multiple_of(align);
        if first + bytes > self.rest.end {
            first = self.frames(PIECE / PAGE_SIZE)?.address();
            self.rest.end = first + PIECE;
        }
        self.rest.start = first + bytes;
        Some(first)
    }

    /// Takes room for `count` words, a piece of them or more, on pages of their own, and says where it
    /// is for programs to read.
    pub(crate) fn words(&mut self, count: usize) -> Option<(&'static [AtomicU64], Range)> {
        let words = self.slice(count.max(PIECE as usize / 8), || AtomicU64::new(0))?;
        let start = words.as_ptr().addr() as u64 - physical::<u8>(0).addr() as u64;
        let end = start + (count as u64 * 8).next_multiple_of(PAGE_SIZE);
        Some((words, Range { start, end }))
    }

    /// Calls `free` with each usable frame that has not been taken.
    pub(crate) fn for_each_free(&self, boot: &BootInformation, mut free: impl FnMut(FrameNumber)) {
        let taken =
            [Some(image()), boot.module(), Some(Range { start: self.start, end: self.next })];
        for region in boot.regions() {
            let first = region.start.max(LOWEST).div_ceil(PAGE_SIZE);
            for number in first..region.end / PAGE_SIZE {
                let (start, end) = (number * PAGE_SIZE, (number + 1) * PAGE_SIZE);
                let used = |taken: &Range| taken.start < end && taken.end > start;
                if !taken.iter().flatten().any(used) {
                    free(FrameNumber(number as u32));
                }
            }
        }
    }
}
