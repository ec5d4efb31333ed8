//! The pager: brings pages in, throws pages out, gives frames back, and lives with losses.
//!
//! Invariants:
//! - A page with another copy is bound without the right to write. So a copy in the store is
//!   current for as long as it exists, and a loss by force costs contents only where the program
//!   has written since.
//! - A frame is named by at most one of: a seat of the resident set, a block of the store, the
//!   spare, the reserve.
//! - A copy in the store is named by the page table, a resident page or the snapshot. Only a page
//!   and the snapshot's entry for the same page may name the same one.
//! - Nothing here allocates or touches the paged area. What is reached is wired: its own tables,
//!   the window, the blocks of the store.

use crate::memory::kernel::{Access, BindError, Kernel};
use crate::memory::page_table::{CopyName, Entry, PageIndex, PageTable, Place, Protection, Seat};
use crate::memory::replacement::Replacement;
use crate::memory::resident::{HeldFrame, Original, Resident, ResidentSet};
use crate::memory::store::{BackingStore, PAGE_SIZE, PageBytes};
use core::fmt;
use core::ops::Range;
use exo_user::Error;
use reserve::{EVICTIONS, Reserve};
use snapshot::Kept;

mod protection;
mod reserve;
mod snapshot;

pub use snapshot::SnapshotError;

/// The most frames that are given back with one call.
pub const BATCH: usize = 32;

/// Pages that stay resident in any case: what one instruction needs, twice over.
const KEPT: usize = 8;

/// Why a page cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryError {
    /// The page's only copy was in a frame that was repossessed.
    PageLost,
    /// Neither the contract nor the backing store has room for another page.
    OutOfMemory,
    /// The page table has no room for another page.
    TableFull,
    /// The program has protected the page against this.
    Protected,
    /// The kernel refused to bind a frame.
    Refused(Error),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageLost => write!(f, "the only copy of the page was repossessed"),
            Self::OutOfMemory => write!(f, "neither the contract nor the store has room"),
            Self::TableFull => write!(f, "the page table is full"),
            Self::Protected => write!(f, "the page is protected"),
            Self::Refused(error) => write!(f, "the kernel refused to bind the page: {error:?}"),
        }
    }
}

/// What the pager has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Faults handled, of any kind.
    pub faults: u64,
    /// Faults on pages that were resident: the kernel had dropped the binding, or it was the first
    /// write since the page came.
    pub rebound: u64,
    /// Pages that came as zeros.
    pub zeroed: u64,
    /// Pages that came from the backing store.
    pub loaded: u64,
    /// Pages that gave up their frame.
    pub evicted: u64,
    /// Those among them that had to be written to the store.
    pub stored: u64,
    /// Frames given back because somebody asked.
    pub surrendered: u64,
    /// Losses that the kernel told of.
    pub told: u64,
    /// Resident pages whose frame was taken by force.
    pub lost: u64,
    /// Those among them of which there was no other copy.
    pub lost_for_good: u64,
    /// Frames of the backing store that were taken by force.
    pub lost_blocks: u64,
    /// Pages of which a copy was made, because a snapshot needed them as they were.
    pub copied: u64,
}

/// A self-paging memory. The page table, the policy and the store are parameters.
#[derive(Debug)]
pub struct Pager<'a, T, R, S, K> {
    table: T,
    policy: R,
    store: S,
    kernel: K,
    resident: ResidentSet<'a>,
    /// A frame that has no use at the moment. Its contents are nobody's.
    spare: Option<HeldFrame>,
    snapshot: Option<Kept<T>>,
    reserve: Reserve,
    statistics: Statistics,
}

impl<'a, T: PageTable, R: Replacement, S: BackingStore, K: Kernel> Pager<'a, T, R, S, K> {
    /// A pager over an empty area.
    pub fn new(table: T, policy: R, store: S, kernel: K, resident: ResidentSet<'a>) -> Self {
        let (statistics, reserve) = (Statistics::default(), Reserve::NONE);
        let (spare, snapshot) = (None, None);
        Self { table, policy, store, kernel, resident, spare, snapshot, reserve, statistics }
    }

    /// What has happened so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The number of resident pages.
    pub fn resident(&self) -> usize {
        self.resident.len()
    }

    /// The most frames that it can use for pages.
    pub fn frames(&self) -> usize {
        self.resident.capacity()
    }

    /// The number of frames in the backing store.
    pub fn store_frames(&self) -> usize {
        self.store.blocks().count()
    }

    /// Where a page is.
    pub fn place(&self, page: PageIndex) -> Place {
        self.table.get(page).place
    }

    /// The first page from `from` on whose contents are lost for good.
    pub fn next_lost(&self, from: PageIndex) -> Option<PageIndex> {
        let mut next = self.table.next(from.0..u32::MAX);
        while let Some(page) = next.filter(|&page| self.place(page) != Place::Lost) {
            next = self.table.next(page.0 + 1..u32::MAX);
        }
        next
    }

    /// Whether a page has been written to since it came: a few loads from the program's own tables.
    pub fn is_dirty(&self, page: PageIndex) -> bool {
        let Place::Resident(seat) = self.place(page) else { return false };
        self.resident.get(seat).is_some_and(|resident| resident.original == Original::None)
    }

    /// Answers a fault: afterwards the page is bound for the access.
    ///
    /// # Errors
    /// All of [`MemoryError`]. The page is as it was.
    pub fn fault(&mut self, page: PageIndex, access: Access) -> Result<(), MemoryError> {
        self.take_losses();
        // Before the page comes: a policy may choose what came last.
        self.fill_reserve(EVICTIONS);
        self.statistics.faults += 1;
        if !allows(self.table.get(page).protection, access) {
            return Err(MemoryError::Protected);
        }
        if access == Access::Write {
            self.keep(page);
        }
        loop {
            let outcome = match self.place(page) {
                Place::Lost => return Err(MemoryError::PageLost),
                Place::Resident(seat) => Ok(self.rebind(seat, access)),
                Place::Zero => self.fill(page, access, None),
                Place::Stored(copy) => self.fill(page, access, Some(copy)),
            };
            match outcome {
                Ok(Ok(())) => return Ok(()),
                // Each round is a frame less, so this ends.
                Ok(Err(BindError::FrameGone)) => {}
                Ok(Err(BindError::Refused(error))) => return Err(MemoryError::Refused(error)),
                // The program comes before its snapshot.
                Err(MemoryError::OutOfMemory) if self.spoil_snapshot() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives back what the program owes, pages of the policy's choice. Returns how many frames
    /// that was. What remains owed afterwards could not be spared, or is ready to be taken.
    pub fn settle(&mut self) -> u64 {
        self.take_losses();
        let mut given = 0;
        loop {
            if self.kernel.debt() <= self.ready() as u64 {
                return given;
            }
            let wanted = usize::try_from(self.kernel.debt()).unwrap_or(BATCH);
            let count = self.give_up(wanted) as u64;
            if count == 0 {
                return given;
            }
            given += count;
            self.statistics.surrendered += count;
        }
    }

    /// Gives frames back to the kernel, pages of the policy's choice, at most [`BATCH`]. Returns how
    /// many that was: what is left could not be spared.
    pub fn give_up(&mut self, wanted: usize) -> usize {
        let mut batch = [HeldFrame::default(); BATCH];
        let mut count = 0;
        while count < wanted.min(BATCH)
            && let Some(frame) = self.give_up_one()
        {
            batch[count] = frame;
            count += 1;
        }
        self.kernel.free(&batch[..count]);
        count
    }

    /// Reads the kernel's record of losses, and notes where the contents of each lost page are
    /// now.
    pub fn take_losses(&mut self) {
        let told = self.kernel.read_losses();
        if told == 0 {
            return;
        }
        self.statistics.told += told;
        if self.spare.is_some_and(|frame| !self.kernel.holds(frame)) {
            self.spare = None;
        }
        self.lose_reserve();
        let mut next = self.resident.oldest();
        while let Some(seat) = next {
            next = self.resident.newer(seat);
            if self.resident.get(seat).is_some_and(|resident| !self.kernel.holds(resident.frame)) {
                self.lose(seat);
            }
        }
        loop {
            let gone = self.store.blocks().find(|&(_, frame)| !self.kernel.holds(frame));
            let Some((block, _)) = gone else { break };
            self.store.lose_block(block);
            self.kernel.take_back(block);
            self.statistics.lost_blocks += 1;
        }
        self.fill_reserve(BATCH);
    }

    /// Forgets the contents of pages: they read as zeros from now on, lost ones too. What they are
    /// protected against stays.
    pub fn discard(&mut self, pages: Range<u32>) {
        let mut next = self.table.next(pages.clone());
        while let Some(page) = next {
            next = self.table.next(page.0 + 1..pages.end);
            if self.place(page) == Place::Zero {
                continue;
            }
            self.keep(page);
            match self.place(page) {
                Place::Zero | Place::Lost => {}
                Place::Stored(copy) => self.drop_copy(page, copy),
                Place::Resident(seat) => {
                    if let Some(resident) = self.resident.remove(seat) {
                        self.drop_original(page, resident.original);
                        self.kernel.unbind(page);
                        self.kernel.free(&[resident.frame]);
                    }
                }
            }
            self.move_to(page, Place::Zero);
        }
    }

    /// Binds a resident page again.
    fn rebind(&mut self, seat: Seat, access: Access) -> Result<(), BindError> {
        let Some(resident) = self.resident.get(seat) else { return Err(BindError::FrameGone) };
        let access = resident.access().unwrap_or(access).max(access);
        match self.kernel.bind(resident.page, resident.frame, access) {
            Ok(()) if access == Access::Write => {
                self.drop_original(resident.page, resident.original);
                if let Some(resident) = self.resident.get_mut(seat) {
                    resident.original = Original::None;
                }
            }
            Ok(()) => {}
            Err(BindError::FrameGone) => {
                self.lose(seat);
                return Err(BindError::FrameGone);
            }
            Err(refused) => return Err(refused),
        }
        self.statistics.rebound += 1;
        Ok(())
    }

    /// Brings a page in, from a copy or as zeros.
    fn fill(
        &mut self,
        page: PageIndex,
        access: Access,
        copy: Option<CopyName>,
    ) -> Result<Result<(), BindError>, MemoryError> {
        let (frame, is_zero) = self.obtain()?;
        let outcome = self.fill_frame(page, access, copy, frame, is_zero);
        if outcome != Ok(Ok(())) {
            self.put_aside(frame);
        }
        outcome
    }

    /// Keeps a frame that has no use at the moment.
    fn put_aside(&mut self, frame: HeldFrame) {
        if let Some(two) = self.spare.replace(frame) {
            self.kernel.free(&[two]);
        }
    }

    fn fill_frame(
        &mut self,
        page: PageIndex,
        access: Access,
        copy: Option<CopyName>,
        frame: HeldFrame,
        is_zero: bool,
    ) -> Result<Result<(), BindError>, MemoryError> {
        if copy.is_some() || !is_zero {
            let window = match self.kernel.window(frame) {
                Ok(window) => window,
                Err(error) => return Ok(Err(error)),
            };
            match copy {
                None => window.fill(0),
                Some(copy) => {
                    if self.store.load(copy, window).is_err() {
                        self.drop_copy(page, copy);
                        self.move_to(page, Place::Lost);
                        self.statistics.lost_for_good += 1;
                        return Err(MemoryError::PageLost);
                    }
                }
            }
        }
        if let Err(error) = self.kernel.bind(page, frame, access) {
            return Ok(Err(error));
        }
        let protection = self.table.get(page).protection;
        let original = copy.map_or(Original::Zero, Original::Copy);
        let shared = access != Access::Write && self.is_shared(page);
        let resident = Resident { page, frame, original, protection, shared };
        let Some(seat) = self.resident.insert(resident) else {
            return Err(MemoryError::OutOfMemory);
        };
        if self.table.set(page, Entry { place: Place::Resident(seat), protection }).is_err() {
            self.resident.remove(seat);
            self.kernel.unbind(page);
            return Err(MemoryError::TableFull);
        }
        if access == Access::Write {
            self.drop_original(page, original);
            if let Some(resident) = self.resident.get_mut(seat) {
                resident.original = Original::None;
            }
        }
        match copy {
            Some(_) => self.statistics.loaded += 1,
            None => self.statistics.zeroed += 1,
        }
        Ok(Ok(()))
    }

    /// Gets a frame for a page, and says whether it is zero.
    fn obtain(&mut self) -> Result<(HeldFrame, bool), MemoryError> {
        if !self.resident.is_full() {
            if let Some(frame) = self.take_spare() {
                return Ok((frame, false));
            }
            if self.kernel.debt() == 0
                && let Some(frame) = self.kernel.allocate()
            {
                return Ok((frame, true));
            }
            if let Some(frame) = self.shrink_store() {
                return Ok((frame, false));
            }
        }
        loop {
            match self.evict() {
                Ok(Some(frame)) => return Ok((frame, false)),
                Ok(None) => {}
                Err(error) => return self.take_ready().map(|frame| (frame, false)).ok_or(error),
            }
        }
    }

    /// Gets a frame to give back.
    fn give_up_one(&mut self) -> Option<HeldFrame> {
        if let Some(frame) = self.take_spare().or_else(|| self.shrink_store()) {
            return Some(frame);
        }
        loop {
            match self.evict() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(_) if self.spoil_snapshot() => {
                    if let Some(frame) = self.shrink_store() {
                        return Some(frame);
                    }
                }
                Err(_) => return None,
            }
        }
    }

    fn take_spare(&mut self) -> Option<HeldFrame> {
        self.spare.take().filter(|&frame| self.kernel.holds(frame))
    }

    fn shrink_store(&mut self) -> Option<HeldFrame> {
        let (block, frame) = self.store.take_block()?;
        self.kernel.take_back(block);
        Some(frame)
    }

    /// Throws a page of the policy's choice out. `None`: its frame went to the store, which needed
    /// it, or is gone.
    fn evict(&mut self) -> Result<Option<HeldFrame>, MemoryError> {
        if self.resident.len() <= KEPT {
            return Err(MemoryError::OutOfMemory);
        }
        let chosen = self.policy.victim(&mut self.resident, &mut self.kernel);
        let chosen = chosen.filter(|&seat| self.resident.get(seat).is_some());
        let seat = chosen.or(self.resident.oldest()).ok_or(MemoryError::OutOfMemory)?;
        let resident = self.resident.get(seat).ok_or(MemoryError::OutOfMemory)?;
        let Resident { page, frame, original, .. } = resident;
        // From here on nothing writes to the page while it is looked at.
        self.kernel.unbind(page);
        self.statistics.evicted += 1;
        let mut left = Some(frame);
        let place = match original {
            Original::Zero => Place::Zero,
            Original::Copy(copy) => Place::Stored(copy),
            Original::None => match self.kernel.window(frame) {
                Ok(contents) if is_zero(contents) => Place::Zero,
                Ok(contents) => {
                    self.store.stage(contents);
                    self.statistics.stored += 1;
                    Place::Stored(self.commit(&mut left)?)
                }
                Err(BindError::FrameGone) => {
                    self.lose(seat);
                    return Ok(None);
                }
                Err(BindError::Refused(error)) => return Err(MemoryError::Refused(error)),
            },
        };
        self.resident.remove(seat);
        self.move_to(page, place);
        Ok(left.filter(|&frame| self.kernel.holds(frame)))
    }

    /// Keeps what was staged. If the store needs memory for it, that is a free frame, or else the
    /// frame of the page itself, whose contents are staged.
    fn commit(&mut self, frame: &mut Option<HeldFrame>) -> Result<CopyName, MemoryError> {
        loop {
            if let Some(copy) = self.store.commit() {
                return Ok(copy);
            }
            let block = self.store.wanted_block().ok_or(MemoryError::OutOfMemory)?;
            let fresh = if self.kernel.debt() == 0 { self.kernel.allocate() } else { None };
            let given = fresh.or_else(|| frame.take()).ok_or(MemoryError::OutOfMemory)?;
            self.lend(block, given)?;
        }
    }

    /// Gives the store a frame for a block that it wants, unless the frame is gone.
    fn lend(&mut self, block: u32, frame: HeldFrame) -> Result<(), MemoryError> {
        match self.kernel.lend(block, frame) {
            Ok(memory) => self.store.add_block(block, frame, memory),
            Err(BindError::FrameGone) => {}
            Err(BindError::Refused(error)) => return Err(MemoryError::Refused(error)),
        }
        Ok(())
    }

    /// Notes that a resident page's frame is gone.
    fn lose(&mut self, seat: Seat) {
        let Some(Resident { page, original, .. }) = self.resident.remove(seat) else { return };
        self.kernel.unbind(page);
        self.statistics.lost += 1;
        let place = match original {
            Original::Zero => Place::Zero,
            Original::Copy(copy) => Place::Stored(copy),
            Original::None => {
                self.statistics.lost_for_good += 1;
                Place::Lost
            }
        };
        self.move_to(page, place);
    }

    /// Notes where a page is that was somewhere before: there is always room for that.
    fn move_to(&mut self, page: PageIndex, place: Place) {
        let entry = self.table.get(page);
        let noted = self.table.set(page, Entry { place, ..entry });
        debug_assert!(noted.is_ok(), "the page table breaks its promise");
    }

    fn drop_original(&mut self, page: PageIndex, original: Original) {
        if let Original::Copy(copy) = original {
            self.drop_copy(page, copy);
        }
    }

    /// Forgets a page's copy, which the snapshot may need.
    fn drop_copy(&mut self, page: PageIndex, copy: CopyName) {
        if self.kept_place(page) != Some(Place::Stored(copy)) {
            self.store.discard(copy);
        }
    }
}

/// Whether a page may be used like this.
fn allows(protection: Protection, access: Access) -> bool {
    match protection {
        Protection::ReadWrite => true,
        Protection::Read => access == Access::Read,
        Protection::None => false,
    }
}

fn is_zero(page: &PageBytes) -> bool {
    const WORD: usize = size_of::<u64>();
    let (words, _) = page.as_chunks::<WORD>();
    debug_assert_eq!(words.len(), PAGE_SIZE / WORD);
    words.iter().all(|word| u64::from_ne_bytes(*word) == 0)
}

#[cfg(test)]
mod tests;
