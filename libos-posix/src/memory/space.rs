//! The program's own address space: the pager, the handlers that lead to it, and the rule that one
//! of them is at work at a time.

use crate::memory::barrier;
use crate::memory::exokernel::{Exokernel, after_probe};
use crate::memory::kernel::Access;
use crate::memory::page_table::{InWired, PageIndex, Protection};
use crate::memory::pager::{BATCH, MemoryError, Pager, SnapshotError, Statistics};
use crate::memory::replacement::Replacement;
use crate::memory::resident::{ResidentPlace, ResidentSet};
use crate::memory::store::{BackingStore, Block, Compressed, PAGE_SIZE, PageBytes, Workspace};
use crate::memory::wired::{ARCHIVE, PAGED, STORE, WiredMemory};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use exo_user::abi::request::BindRequest;
use exo_user::abi::upcall::{Event, FaultCode, PAGE_FAULT};
use exo_user::control::{self, Masked};
use exo_user::upcall::{self, Handlers, Interrupted};
use exo_user::{
    Error, FrameNumber, Kind, Rights, Start, backtrace, binding, capability, contract, environment,
    println,
};
use spin::Mutex;

/// The pages of the upcall stack: a fault inside a revocation inside a fault, with the compressor
/// on top.
const UPCALL_STACK_PAGES: u64 = 8;
/// The exit code of a program whose memory is lost, used up or protected.
pub(crate) const EXIT_MEMORY: u64 = 128 + PAGE_FAULT;

/// A pager, whatever its parts are.
pub trait SelfPaging: Send {
    /// [`Pager::fault`]
    ///
    /// # Errors
    /// All of [`MemoryError`].
    fn fault(&mut self, page: PageIndex, access: Access) -> Result<(), MemoryError>;
    /// [`Pager::settle`]
    fn settle(&mut self) -> u64;
    /// [`Pager::take_losses`]
    fn take_losses(&mut self);
    /// [`Pager::discard`]
    fn discard(&mut self, pages: Range<u32>);
    /// [`Pager::next_lost`]
    fn next_lost(&self, from: PageIndex) -> Option<PageIndex>;
    /// [`Pager::protect`]
    ///
    /// # Errors
    /// `TableFull`
    fn protect(&mut self, pages: Range<u32>, protection: Protection) -> Result<(), MemoryError>;
    /// [`Pager::take_snapshot`], with memory for its table the first time.
    ///
    /// # Errors
    /// `NotTaken`: there is no memory for the table.
    fn take_snapshot(&mut self, memory: &mut WiredMemory) -> Result<(), SnapshotError>;
    /// [`Pager::release_snapshot`]
    fn release_snapshot(&mut self);
    /// [`Pager::forget_contents`]
    fn forget_contents(&mut self);
    /// [`Pager::next_changed`]
    fn next_changed(&self, from: PageIndex) -> Option<PageIndex>;
    /// [`Pager::read_snapshot`]
    ///
    /// # Errors
    /// All of [`SnapshotError`].
    fn read_snapshot(
        &mut self,
        page: PageIndex,
        contents: &mut PageBytes,
    ) -> Result<(), SnapshotError>;
    /// [`Pager::keep_ready`]
    fn keep_ready(&mut self, frames: usize);
    /// [`Pager::statistics`] and what it holds.
    fn report(&self) -> Report;
}

/// What a pager has done and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// What it has done.
    pub statistics: Statistics,
    /// The pages that are in frames.
    pub resident: usize,
    /// The frames of the backing store.
    pub store_frames: usize,
}

impl<T, R, S> SelfPaging for Pager<'_, T, R, S, Exokernel>
where
    T: InWired + Send,
    R: Replacement + Send,
    S: BackingStore + Send,
{
    fn fault(&mut self, page: PageIndex, access: Access) -> Result<(), MemoryError> {
        Pager::fault(self, page, access)
    }

    fn settle(&mut self) -> u64 {
        Pager::settle(self)
    }

    fn take_losses(&mut self) {
        Pager::take_losses(self);
    }

    fn discard(&mut self, pages: Range<u32>) {
        Pager::discard(self, pages);
    }

    fn next_lost(&self, from: PageIndex) -> Option<PageIndex> {
        Pager::next_lost(self, from)
    }

    fn protect(&mut self, pages: Range<u32>, protection: Protection) -> Result<(), MemoryError> {
        Pager::protect(self, pages, protection)
    }

    fn take_snapshot(&mut self, memory: &mut WiredMemory) -> Result<(), SnapshotError> {
        while !self.has_snapshot_table() {
            match T::in_wired(memory, self.frames()) {
                Ok(table) => self.add_snapshot_table(table),
                // The contract is used up: pages make room for the table.
                Err(Error::OverLimit | Error::NoFreeFrames) if self.give_up(BATCH) > 0 => {}
                Err(_) => return Err(SnapshotError::NotTaken),
            }
        }
        Pager::take_snapshot(self)
    }

    fn release_snapshot(&mut self) {
        Pager::release_snapshot(self);
    }

    fn forget_contents(&mut self) {
        Pager::forget_contents(self);
    }

    fn next_changed(&self, from: PageIndex) -> Option<PageIndex> {
        Pager::next_changed(self, from)
    }

    fn read_snapshot(
        &mut self,
        page: PageIndex,
        contents: &mut PageBytes,
    ) -> Result<(), SnapshotError> {
        Pager::read_snapshot(self, page, contents)
    }

    fn keep_ready(&mut self, frames: usize) {
        Pager::keep_ready(self, frames);
    }

    fn report(&self) -> Report {
        Report {
            statistics: self.statistics(),
            resident: self.resident(),
            store_frames: self.store_frames(),
        }
    }
}

/// Why the memory could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// It was set up before.
    StartedTwice,
    /// The kernel refused something, most likely since the contract is too small.
    Refused(Error),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartedTwice => write!(f, "the memory was started twice"),
            Self::Refused(error) => {
                write!(f, "the kernel refused memory for the pager: {error:?}")
            }
        }
    }
}

/// The program's pager. Whoever holds the lock also holds events back, so a lock that is taken
/// means that the pager itself has caused a fault.
static PAGER: Mutex<Option<&'static mut dyn SelfPaging>> = Mutex::new(None);
/// Memory for tables.
static WIRED: Mutex<Option<WiredMemory>> = Mutex::new(None);
/// The size of the paged area in bytes.
static AREA: AtomicU64 = AtomicU64::new(0);
/// The boot archive's pages, and its first frame.
static ARCHIVE_PAGES: AtomicU64 = AtomicU64::new(0);
static ARCHIVE_FRAME: AtomicU32 = AtomicU32::new(0);
/// What to do when a page is lost for good.
static ON_PAGE_LOST: Mutex<fn(u64) -> Recovery> = Mutex::new(|_| Recovery::End);

static HANDLERS: Handlers = Handlers {
    exception,
    slice_end: Some(upcall::give_slice_up),
    revoke: Some(revoked),
    lost: Some(lost),
    ..Handlers::NONE
};

/// Sets the memory up: from here on there is a heap, which pages itself by the program's policy, with
/// a page table of the program's choice, and gives frames back when it is asked.
///
/// # Errors
/// All of [`StartError`].
pub fn start<T, R>(policy: R) -> Result<(), StartError>
where
    T: InWired + Send + 'static,
    R: Replacement + Send + 'static,
{
    if AREA.load(Ordering::Relaxed) != 0 {
        return Err(StartError::StartedTwice);
    }
    let account = contract::account(Kind::Frames);
    // Sized for more than is free now: somebody may have asked for frames that come back later.
    let frames = account.limit as usize;
    let largest = (STORE.end - STORE.start) as usize / PAGE_SIZE;
    let frames = frames.min(largest);
    let mut wired = WiredMemory::new();
    let table = T::in_wired(&mut wired, frames)?;
    let resident = ResidentSet::new(wired.slice(frames, ResidentPlace::default)?);
    let blocks = wired.slice(frames, || Block::EMPTY)?;
    let work = wired.slice(1, || Workspace::EMPTY)?;
    let work = work.first_mut().ok_or(Error::TooLong)?;
    let store = Compressed::new(blocks, work);
    let area = u64::from(table.pages()) * PAGE_SIZE as u64;
    let pager = Pager::new(table, policy, store, Exokernel::new(), resident);
    *PAGER.lock() = Some(wired.place(pager)?);
    *WIRED.lock() = Some(wired);
    AREA.store(area, Ordering::Relaxed);
    upcall::install_with_stack(UPCALL_STACK_PAGES, &HANDLERS)?;
    Ok(())
}

/// What the program's pager has done so far and what it holds.
pub fn report() -> Report {
    with_pager(|pager| pager.report()).unwrap_or_default()
}

/// Keeps so many frames ready to be taken by force at once, at most 128: see [`Pager::keep_ready`].
pub fn keep_ready(frames: usize) {
    with_pager(|pager| pager.keep_ready(frames));
}

/// The addresses of the pages whose contents are lost for good, and that were not discarded since.
pub fn lost_pages() -> impl Iterator<Item = u64> {
    let mut next = PageIndex(0);
    core::iter::from_fn(move || {
        let page = with_pager(|pager| pager.next_lost(next)).flatten()?;
        next = PageIndex(page.0 + 1);
        Some(address_of(page))
    })
}

/// What becomes of a page whose contents are lost for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recovery {
    /// The program ends with a report.
    End,
    /// The page reads as zeros from now on, and the program goes on.
    Zeros,
}

/// Chooses what to do when the program touches a page whose only copy was repossessed. The function
/// gets the page's address. It runs in a handler: it must not use the heap. Without one, the
/// program ends.
pub fn on_page_lost(decide: fn(u64) -> Recovery) {
    let _masked = Masked::hold();
    *ON_PAGE_LOST.lock() = decide;
}

/// Forgets the contents of whole pages of the paged area.
pub(crate) fn discard(range: Range<u64>) {
    let first = page_of(range.start);
    let last = page_of(range.end.saturating_sub(1));
    if let (false, Some(first), Some(last)) = (range.is_empty(), first, last) {
        with_pager(|pager| pager.discard(first.0..last.0 + 1));
    }
}

/// The paged area, for its one heap.
pub(crate) fn take_area() -> Range<u64> {
    PAGED.start..PAGED.start + AREA.load(Ordering::Relaxed)
}

/// Makes the boot archive readable. Its pages are bound when they are touched, and again whenever
/// the kernel drops the binding.
///
/// # Errors
/// `TooLong` for an archive larger than its place.
pub(crate) fn map_archive(start: &Start<'_>) -> Result<&'static [u8], Error> {
    let length = start.archive_length;
    if length > ARCHIVE.end - ARCHIVE.start {
        return Err(Error::TooLong);
    }
    ARCHIVE_FRAME.store(start.archive_frame.0, Ordering::Relaxed);
    ARCHIVE_PAGES.store(length.div_ceil(PAGE_SIZE as u64), Ordering::Release);
    // SAFETY: faults in the range are answered with the archive's frames, which nobody writes to.
    Ok(unsafe { core::slice::from_raw_parts(ARCHIVE.start as *const u8, length as usize) })
}

/// Works with the memory for tables, with events held back.
pub(crate) fn with_wired<A>(work: impl FnOnce(&mut WiredMemory) -> A) -> Option<A> {
    let _masked = Masked::hold();
    Some(work(WIRED.try_lock()?.as_mut()?))
}

/// Works with the pager, with events held back.
pub(crate) fn with_pager<A>(work: impl FnOnce(&mut dyn SelfPaging) -> A) -> Option<A> {
    let _masked = Masked::hold();
    let mut pager = PAGER.try_lock()?;
    Some(work(&mut **pager.as_mut()?))
}

pub(crate) fn page_of(address: u64) -> Option<PageIndex> {
    let offset = address.checked_sub(PAGED.start)?;
    let page = u32::try_from(offset / PAGE_SIZE as u64).ok()?;
    (offset < AREA.load(Ordering::Relaxed)).then_some(PageIndex(page))
}

pub(crate) fn address_of(page: PageIndex) -> u64 {
    PAGED.start + u64::from(page.0) * PAGE_SIZE as u64
}

fn revoked(_: &mut Interrupted) {
    with_pager(|pager| pager.settle());
}

fn lost(_: &mut Interrupted) {
    with_pager(|pager| pager.take_losses());
}

fn exception(interrupted: &mut Interrupted) {
    if interrupted.frame.cause != PAGE_FAULT {
        return upcall::end_with_report(interrupted);
    }
    if let Some(rip) = after_probe(interrupted.frame.rip) {
        interrupted.frame.rip = rip;
        return;
    }
    page_fault(interrupted);
    // What was held back meanwhile would otherwise wait for the next entry to the kernel.
    while interrupted.frame.mask == 0
        && let Some(event) = control::take_wanted()
    {
        match event {
            Event::SliceEnd => upcall::give_slice_up(interrupted),
            Event::Revoke => revoked(interrupted),
            Event::Lost => lost(interrupted),
            Event::Packet | Event::ChildEnded | Event::Console | Event::Predicate => {}
        }
    }
}

fn page_fault(interrupted: &mut Interrupted) {
    let address = interrupted.frame.address;
    let code = FaultCode::from_bits_truncate(interrupted.frame.code);
    let write = code.contains(FaultCode::WRITE);
    if code.contains(FaultCode::FETCH) {
        return upcall::end_with_report(interrupted);
    }
    if let Some(page) = page_of(address) {
        let access = if write { Access::Write } else { Access::Read };
        return match with_pager(|pager| pager.fault(page, access)) {
            Some(Ok(())) => {}
            Some(Err(MemoryError::Protected)) => barrier::hit(interrupted, access),
            Some(Err(error)) => refused(interrupted, page, error),
            None => {
                println!("the pager itself touched the paged area:");
                upcall::end_with_report(interrupted);
            }
        };
    }
    let archive_page = address.wrapping_sub(ARCHIVE.start) / PAGE_SIZE as u64;
    if write
        || archive_page >= ARCHIVE_PAGES.load(Ordering::Acquire)
        || bind_archive(archive_page).is_err()
    {
        upcall::end_with_report(interrupted);
    }
}

fn bind_archive(index: u64) -> Result<(), Error> {
    let page = ARCHIVE.start + index * PAGE_SIZE as u64;
    let frame = u64::from(ARCHIVE_FRAME.load(Ordering::Relaxed)) + index;
    let frame = FrameNumber(u32::try_from(frame).map_err(|_| Error::NoFrame)?);
    let request = BindRequest::new(page, frame, Rights::READ, capability::ARCHIVE);
    // SAFETY: the page is only ever bound to this frame.
    unsafe { binding::bind(&[request]) }
}

fn refused(interrupted: &mut Interrupted, page: PageIndex, error: MemoryError) {
    let address = address_of(page);
    let decide = *ON_PAGE_LOST.lock();
    if error == MemoryError::PageLost && decide(address) == Recovery::Zeros {
        with_pager(|pager| pager.discard(page.0..page.0 + 1));
        return;
    }
    println!("page {address:#x}: {error}, touched at {:#x}", interrupted.frame.rip);
    backtrace::print(interrupted.frame.rip, interrupted.rbp);
    environment::exit(EXIT_MEMORY)
}
