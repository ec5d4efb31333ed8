//! The log: the checkpoints of a region, in memory that outlives the environment that writes it.
//!
//! Each page has two places. One may hold what the last complete checkpoint says of the page; a new
//! checkpoint writes to the other. Which place counts is in one of two maps, and which map counts
//! follows from the number of the last checkpoint. To write that number completes the next: whoever
//! is killed before has changed nothing that counts.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use libos_posix::exo_user::abi::request::BindRequest;
use libos_posix::exo_user::{EnvName, Error, Rights, binding, capability, child, frame, layout};
use libos_posix::memory::{PAGE_SIZE, PageBytes};

/// The pages of the region.
pub(crate) const PAGES: usize = 128;
/// Where the log is, in the environment that keeps it and in the one that writes it: behind all that
/// the library uses.
const ADDRESS: u64 = layout::FREE.start + (2 << 40);
/// In the map: the page is zero. Otherwise it is in this place, less one.
const ZERO: u8 = 0;

const RIGHTS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::WIRED);

/// The first page of the log.
#[repr(C)]
pub(crate) struct Log {
    /// The number of the last complete checkpoint; 0 if there is none.
    complete: AtomicU64,
    /// Where the region is. Its pages refer to each other, so it has to be there again.
    pub(crate) region: AtomicU64,
    /// How many pages were written, and how many environments went on from a checkpoint.
    pub(crate) written: AtomicU64,
    pub(crate) restored: AtomicU64,
    /// Checkpoints that were given up, because there was no memory for a snapshot.
    pub(crate) given_up: AtomicU64,
    /// What came out.
    pub(crate) result: AtomicU64,
    maps: [[AtomicU8; PAGES]; 2],
}

fn place(page: usize, place: usize) -> u64 {
    ADDRESS + ((1 + 2 * page + place) * PAGE_SIZE) as u64
}

fn pages() -> impl Iterator<Item = u64> {
    (0..1 + 2 * PAGES).map(|page| ADDRESS + (page * PAGE_SIZE) as u64)
}

impl Log {
    /// Makes the log, empty, in the environment that keeps it.
    ///
    /// # Errors
    /// What [`frame::allocate`] and [`binding::bind`] say.
    pub(crate) fn create() -> Result<&'static Self, Error> {
        for page in pages() {
            let frame = frame::allocate_any(capability::OWN)?;
            let request = BindRequest::new(page, frame, RIGHTS, capability::OWN);
            // SAFETY: nothing else uses these pages.
            unsafe { binding::bind(&[request])? };
        }
        Ok(Self::open())
    }

    /// Lets another environment reach the log at the same place.
    ///
    /// # Errors
    /// As [`child::share`].
    pub(crate) fn share(&self, environment: EnvName) -> Result<(), Error> {
        pages().try_for_each(|page| child::share(environment, page, RIGHTS))
    }

    /// The log, in an environment that has it.
    pub(crate) fn open() -> &'static Self {
        // SAFETY: the page is bound for as long as the program runs, and holds atomics only.
        unsafe { &*(ADDRESS as *const Self) }
    }

    /// The number of the last complete checkpoint.
    pub(crate) fn complete(&self) -> u64 {
        self.complete.load(Ordering::Acquire)
    }

    fn map(&self, checkpoint: u64) -> &[AtomicU8; PAGES] {
        &self.maps[checkpoint as usize % 2]
    }

    /// What the last complete checkpoint says of a page; `None` if it is zero.
    pub(crate) fn read(&self, page: usize) -> Option<&PageBytes> {
        let found = self.map(self.complete())[page].load(Ordering::Relaxed);
        // SAFETY: the place is bound. Nobody writes to one that counts.
        (found != ZERO).then(|| unsafe { &*(place(page, found as usize - 1) as *const PageBytes) })
    }

    /// Begins a new checkpoint, which so far says the same as the last.
    pub(crate) fn begin(&self) {
        let (last, next) = (self.map(self.complete()), self.map(self.complete() + 1));
        for (last, next) in last.iter().zip(next) {
            next.store(last.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Writes a page of the new checkpoint; `fill` puts it where it is told.
    ///
    /// # Errors
    /// What `fill` says; then the page is as in the last checkpoint.
    pub(crate) fn write<E>(
        &self,
        page: usize,
        fill: impl FnOnce(&mut PageBytes) -> Result<(), E>,
    ) -> Result<(), E> {
        let last = self.map(self.complete())[page].load(Ordering::Relaxed);
        let other = if last == 1 { 2 } else { 1 };
        // SAFETY: the place is bound, it is not the one that counts, and there is one writer.
        fill(unsafe { &mut *(place(page, other as usize - 1) as *mut PageBytes) })?;
        self.map(self.complete() + 1)[page].store(other, Ordering::Relaxed);
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Completes the new checkpoint.
    pub(crate) fn commit(&self) {
        self.complete.fetch_add(1, Ordering::Release);
    }
}
