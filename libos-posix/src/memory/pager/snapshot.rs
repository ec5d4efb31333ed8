//! Snapshots by copy-on-write.
//!
//! A snapshot is the memory as it was at a moment. To take one costs as much as to take the right
//! to write from all pages; what the program does not write to afterwards is never copied. Before
//! the first write to a page, its contents are kept for the snapshot: the copy in the store, if that
//! is current, or else a new one.

use super::{MemoryError, Pager};
use crate::memory::kernel::Kernel;
use crate::memory::page_table::{Entry, PageIndex, PageTable, Place, Protection};
use crate::memory::pager::protection::Run;
use crate::memory::replacement::Replacement;
use crate::memory::resident::{Original, Resident};
use crate::memory::store::{BackingStore, PageBytes};
use core::fmt;

/// What was kept for a snapshot: an entry for each page that was written to or discarded since.
#[derive(Debug)]
pub(super) struct Kept<T> {
    table: T,
    /// Whether there is a snapshot. Without one the table is empty.
    pub(super) taken: bool,
    /// Whether the contents are wanted, and not only which pages change.
    contents: bool,
    /// Whether contents that were wanted were given up, because there was no memory.
    spoiled: bool,
    /// Whether the table had no room to note a change: any page may have changed.
    incomplete: bool,
}

/// What the entries of pages that were kept have, so that a page which was zero is told from one
/// that was not kept.
const KEPT: Protection = Protection::Read;

/// Why a page of a snapshot cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// There is no snapshot, or its contents were forgotten.
    NotTaken,
    /// There was no memory to keep a page that was written to. The program went on all the same.
    Spoiled,
    /// The page's only copy was repossessed.
    PageLost,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTaken => "no snapshot was taken",
            Self::Spoiled => "there was no memory for what had to be kept",
            Self::PageLost => "the only copy of the page was repossessed",
        })
    }
}

impl<T: PageTable, R: Replacement, S: BackingStore, K: Kernel> Pager<'_, T, R, S, K> {
    /// Whether there is a table for snapshots.
    pub fn has_snapshot_table(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Gives the pager an empty table for snapshots, for as many pages as its own describes.
    pub fn add_snapshot_table(&mut self, table: T) {
        self.release_snapshot();
        let (taken, contents, spoiled, incomplete) = (false, false, false, false);
        self.snapshot = Some(Kept { table, taken, contents, spoiled, incomplete });
    }

    /// Takes a snapshot, in place of the last one.
    ///
    /// # Errors
    /// `NotTaken`: there is no table for it.
    pub fn take_snapshot(&mut self) -> Result<(), SnapshotError> {
        self.release_snapshot();
        let kept = self.snapshot.as_mut().ok_or(SnapshotError::NotTaken)?;
        (kept.taken, kept.contents) = (true, true);
        self.share_all(true);
        Ok(())
    }

    /// Forgets the snapshot, and what was kept for it.
    pub fn release_snapshot(&mut self) {
        while let Some(page) = self.next_kept(PageIndex(0)) {
            self.forget_kept(page, Entry::default());
        }
        if let Some(kept) = &mut self.snapshot {
            (kept.taken, kept.contents) = (false, false);
            (kept.spoiled, kept.incomplete) = (false, false);
            self.share_all(false);
        }
    }

    /// Forgets the contents of the snapshot. From here on it only says which pages were written to
    /// or discarded since it was taken, and costs no more copies.
    pub fn forget_contents(&mut self) {
        if let Some(kept) = &mut self.snapshot {
            kept.contents = false;
        }
        let mut next = self.next_kept(PageIndex(0));
        while let Some(page) = next {
            self.forget_kept(page, Entry { place: Place::Zero, protection: KEPT });
            next = self.next_kept(PageIndex(page.0 + 1));
        }
    }

    /// Gives the contents of the snapshot up, so that there is memory for something else. Returns
    /// whether there was anything to give up.
    pub(super) fn spoil_snapshot(&mut self) -> bool {
        let Some(kept) = self.snapshot.as_mut().filter(|kept| kept.contents) else { return false };
        kept.spoiled = true;
        self.forget_contents();
        true
    }

    /// Forgets what was kept of a page, and notes something else.
    fn forget_kept(&mut self, page: PageIndex, entry: Entry) {
        let Some(kept) = &mut self.snapshot else { return };
        let place = kept.table.get(page).place;
        let noted = kept.table.set(page, entry);
        debug_assert!(noted.is_ok(), "the page table breaks its promise");
        if let Place::Stored(copy) = place
            && !self.is_copy_of(page, place)
        {
            self.store.discard(copy);
        }
    }

    /// The first page from `from` on that may have been written to or discarded since the snapshot.
    pub fn next_changed(&self, from: PageIndex) -> Option<PageIndex> {
        let incomplete = self.snapshot.as_ref().is_some_and(|kept| kept.incomplete);
        if incomplete { Some(from) } else { self.next_kept(from) }
    }

    fn next_kept(&self, from: PageIndex) -> Option<PageIndex> {
        self.snapshot.as_ref()?.table.next(from.0..u32::MAX)
    }

    /// Reads a page as it was when the snapshot was taken.
    ///
    /// # Errors
    /// All of [`SnapshotError`].
    pub fn read_snapshot(
        &mut self,
        page: PageIndex,
        contents: &mut PageBytes,
    ) -> Result<(), SnapshotError> {
        self.take_losses();
        match &self.snapshot {
            Some(kept) if kept.contents => {}
            Some(kept) if kept.spoiled => return Err(SnapshotError::Spoiled),
            _ => return Err(SnapshotError::NotTaken),
        }
        match self.kept_place(page).unwrap_or(self.place(page)) {
            Place::Zero => contents.fill(0),
            Place::Lost => return Err(SnapshotError::PageLost),
            Place::Stored(copy) => {
                self.store.load(copy, contents).map_err(|_| SnapshotError::PageLost)?;
            }
            Place::Resident(seat) => {
                let resident = self.resident.get(seat).ok_or(SnapshotError::PageLost)?;
                let window = self.kernel.window(resident.frame);
                *contents = *window.map_err(|_| SnapshotError::PageLost)?;
            }
        }
        Ok(())
    }

    /// What was kept of a page; `None` if nothing had to be.
    pub(super) fn kept_place(&self, page: PageIndex) -> Option<Place> {
        let entry = self.snapshot.as_ref()?.table.get(page);
        (entry != Entry::default()).then_some(entry.place)
    }

    /// Whether the snapshot needs the page as it is.
    pub(super) fn is_shared(&self, page: PageIndex) -> bool {
        self.snapshot.as_ref().is_some_and(|kept| kept.taken) && self.kept_place(page).is_none()
    }

    /// Keeps a page for the snapshot, if that needs it. Without room for that the snapshot is spoiled,
    /// and the program goes on.
    pub(super) fn keep(&mut self, page: PageIndex) {
        if self.is_shared(page) {
            let contents = self.snapshot.as_ref().is_some_and(|kept| kept.contents);
            let place = if contents { self.copy_of(page) } else { Ok(Place::Zero) };
            if !place.is_ok_and(|place| self.note_kept(page, place)) {
                self.spoil_snapshot();
                let noted = self.note_kept(page, Place::Zero);
                if let Some(kept) = &mut self.snapshot {
                    kept.incomplete |= !noted;
                }
            }
        }
        if let Place::Resident(seat) = self.place(page)
            && let Some(resident) = self.resident.get_mut(seat)
        {
            resident.shared = false;
        }
    }

    /// Notes what was kept of a page. If there is no room for that, the copy is not needed.
    fn note_kept(&mut self, page: PageIndex, place: Place) -> bool {
        let entry = Entry { place, protection: KEPT };
        let noted = self.snapshot.as_mut().is_some_and(|kept| kept.table.set(page, entry).is_ok());
        if let (false, Place::Stored(copy)) = (noted, place)
            && !self.is_copy_of(page, place)
        {
            self.store.discard(copy);
        }
        noted
    }

    /// A place outside the resident set with the contents of a page: where it is, its original, or a
    /// new copy.
    fn copy_of(&mut self, page: PageIndex) -> Result<Place, MemoryError> {
        loop {
            let Place::Resident(seat) = self.place(page) else { return Ok(self.place(page)) };
            let Some(Resident { frame, original, .. }) = self.resident.get(seat) else {
                return Ok(Place::Lost);
            };
            match original {
                Original::Zero => return Ok(Place::Zero),
                Original::Copy(copy) => return Ok(Place::Stored(copy)),
                Original::None => {}
            }
            match self.kernel.window(frame) {
                Ok(contents) => self.store.stage(contents),
                Err(_) => return Ok(Place::Lost),
            }
            if let Some(copy) = self.store.commit() {
                self.statistics.copied += 1;
                return Ok(Place::Stored(copy));
            }
            // The store needs memory. To find it may throw this page out; then the loop ends.
            let (memory, _) = self.obtain()?;
            let Some(block) = self.store.wanted_block() else {
                self.put_aside(memory);
                return Err(MemoryError::OutOfMemory);
            };
            self.lend(block, memory).inspect_err(|_| self.put_aside(memory))?;
        }
    }

    /// Whether the page itself still has this copy.
    fn is_copy_of(&self, page: PageIndex, copy: Place) -> bool {
        match self.place(page) {
            Place::Resident(seat) => self.resident.get(seat).is_some_and(|resident| {
                matches!(resident.original, Original::Copy(name) if Place::Stored(name) == copy)
            }),
            place => place == copy,
        }
    }

    /// Says of all resident pages whether the snapshot needs them as they are. If it does, those that
    /// the program could write to lose that right.
    fn share_all(&mut self, shared: bool) {
        let mut run = Run::default();
        let mut next = self.resident.oldest();
        while let Some(seat) = next {
            next = self.resident.newer(seat);
            let Some(resident) = self.resident.get_mut(seat) else { continue };
            let before = resident.access();
            resident.shared = shared;
            if shared && resident.access() != before {
                run.add(&mut self.kernel, resident.page, resident.access());
            }
        }
        run.end(&mut self.kernel);
    }
}
