//! The program's memory as it was at a moment, read while the program goes on.

use crate::memory::page_table::PageIndex;
use crate::memory::pager::SnapshotError;
use crate::memory::space::{address_of, page_of, with_pager, with_wired};
use crate::memory::store::{PAGE_SIZE, PageBytes};
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;

/// A snapshot of the paged area. There is one at a time; when it is dropped, what was kept for it is
/// forgotten.
///
/// It is meant for whoever saves the memory piece by piece while the program goes on. The contents
/// of a page are kept when the program writes to it for the first time, so a snapshot costs at most
/// as many pages, compressed, as the program writes to.
#[derive(Debug)]
pub struct Snapshot {
    not_send: PhantomData<*mut ()>,
}

/// Where the pager puts what was asked for. It is wired, as everything in the image is; the caller's
/// memory need not be.
static BUFFER: Mutex<PageBytes> = Mutex::new([0; PAGE_SIZE]);

/// Whether there is one.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes a snapshot: all pages lose the right to write until the first write to each.
///
/// # Errors
/// `NotTaken`: there is one already, or no memory for its table.
pub fn snapshot() -> Result<Snapshot, SnapshotError> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(SnapshotError::NotTaken);
    }
    // From here on it is given up whatever happens.
    let snapshot = Snapshot { not_send: PhantomData };
    let taken = with_wired(|memory| with_pager(|pager| pager.take_snapshot(memory)));
    taken.flatten().ok_or(SnapshotError::NotTaken)??;
    Ok(snapshot)
}

impl Snapshot {
    /// The addresses of the pages in a range that were written to or freed since.
    pub fn changed(&self, range: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let mut next = page_of(range.start);
        core::iter::from_fn(move || {
            let page = with_pager(|pager| pager.next_changed(next?)).flatten()?;
            next = Some(PageIndex(page.0 + 1));
            Some(address_of(page)).filter(|&address| address < range.end)
        })
    }

    /// Forgets the contents. From here on it only says which pages were written to or freed, and
    /// costs no more copies.
    pub fn forget_contents(&mut self) {
        with_pager(|pager| pager.forget_contents());
    }

    /// Reads the page at an address as it was when the snapshot was taken.
    ///
    /// # Errors
    /// All of [`SnapshotError`].
    pub fn read(&self, address: u64, contents: &mut PageBytes) -> Result<(), SnapshotError> {
        let page = page_of(address).ok_or(SnapshotError::NotTaken)?;
        let mut buffer = BUFFER.lock();
        with_pager(|pager| pager.read_snapshot(page, &mut buffer))
            .ok_or(SnapshotError::NotTaken)??;
        *contents = *buffer;
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        with_pager(|pager| pager.release_snapshot());
        TAKEN.store(false, Ordering::Relaxed);
    }
}
