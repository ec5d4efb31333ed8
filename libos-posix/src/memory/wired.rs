//! Where the pager's memory is, and how its own tables get theirs.

use core::ops::Range;
use exo_user::abi::request::BindRequest;
use exo_user::{Error, FrameNumber, Rights, binding, capability, frame, layout};

use crate::memory::store::PAGE_SIZE;

const GIB: u64 = 1 << 30;
const BASE: u64 = layout::FREE.start;

/// The pager's own tables, wired.
const TABLES: Range<u64> = BASE..BASE + GIB;
/// The page through which the pager reaches a frame.
pub(crate) const WINDOW: u64 = BASE + GIB;
/// The blocks of the backing store, wired.
pub(crate) const STORE: Range<u64> = BASE + 2 * GIB..BASE + 4 * GIB;
/// The boot archive, bound as it is read.
pub(crate) const ARCHIVE: Range<u64> = BASE + 4 * GIB..BASE + 8 * GIB;
/// The paged area: the heap.
pub(crate) const PAGED: Range<u64> = BASE + 64 * GIB..BASE + 1088 * GIB;

/// The pages of the whole paged area.
pub(crate) const AREA_PAGES: u32 = ((PAGED.end - PAGED.start) / PAGE_SIZE as u64) as u32;

/// The rights of memory that handlers stand on.
pub(crate) const WIRED: Rights = Rights::READ.union(Rights::WRITE).union(Rights::WIRED);

/// Frames that are taken with one call.
const BATCH: usize = 64;

/// Hands out wired memory that is never given back: what handlers stand on.
#[derive(Debug)]
pub struct WiredMemory {
    /// The first address that was not handed out.
    next: u64,
    /// The address behind the last page that is bound.
    end: u64,
}

impl WiredMemory {
    /// The tables' memory. There must be one of it only.
    pub(crate) const fn new() -> Self {
        Self { next: TABLES.start, end: TABLES.start }
    }

    /// Memory for `count` values, each as `value` makes it.
    ///
    /// # Errors
    /// What the kernel says to taking frames and binding them; `TooLong` for more than there can
    /// be.
    pub fn slice<T>(
        &mut self,
        count: usize,
        value: impl Fn() -> T,
    ) -> Result<&'static mut [T], Error> {
        let size = size_of::<T>().checked_mul(count).ok_or(Error::TooLong)? as u64;
        let start = self.next.next_multiple_of(align_of::<T>() as u64);
        let end = start.checked_add(size).filter(|&end| end <= TABLES.end).ok_or(Error::TooLong)?;
        while self.end < end {
            self.grow((end - self.end).div_ceil(PAGE_SIZE as u64) as usize)?;
        }
        self.next = end;
        let pointer = start as *mut T;
        for index in 0..count {
            // SAFETY: the range is bound, aligned, and handed out to nobody else.
            unsafe { pointer.add(index).write(value()) };
        }
        // SAFETY: every value was written just now, and the memory stays bound.
        Ok(unsafe { core::slice::from_raw_parts_mut(pointer, count) })
    }

    /// Memory for one value.
    ///
    /// # Errors
    /// As [`WiredMemory::slice`].
    pub fn place<T>(&mut self, value: T) -> Result<&'static mut T, Error> {
        let value = core::cell::Cell::new(Some(value));
        let slice = self.slice(1, || value.take())?;
        slice.first_mut().and_then(Option::as_mut).ok_or(Error::TooLong)
    }

    fn grow(&mut self, pages: usize) -> Result<(), Error> {
        let mut frames = [FrameNumber::ANY; BATCH];
        let frames = &mut frames[..pages.min(BATCH)];
        frame::allocate(frames, capability::OWN)?;
        let mut requests = [BindRequest::new(0, FrameNumber(0), WIRED, capability::OWN); BATCH];
        let pages = (self.end..).step_by(PAGE_SIZE);
        for ((request, frame), page) in requests.iter_mut().zip(&*frames).zip(pages) {
            *request = BindRequest::new(page, *frame, WIRED, capability::OWN);
        }
        // SAFETY: the pages are behind everything that was handed out.
        unsafe { binding::bind(&requests[..frames.len()])? };
        self.end += (frames.len() * PAGE_SIZE) as u64;
        Ok(())
    }
}
