//! The page tables of `libos-posix`, where a program's pages are few and far between: `appel1` over
//! pages that come for the first time, each so many pages behind the one before. On each fault the
//! page gets its frame and its entry, and the page before loses the right to write.
//!
//! The tables describe 1 TiB. A linear one is so large that it has frames only where it was touched.
//! Where it has none the fault's handler faults itself, and a frame is bound that is zero already.

use crate::Bench;
use crate::handlers;
use crate::measurement::Measurement;
use alloc::boxed::Box;
use alloc::vec;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use libos_posix::exo_user::abi::name::PAGE_SIZE;
use libos_posix::exo_user::abi::request::BindRequest;
use libos_posix::exo_user::abi::upcall::PAGE_FAULT;
use libos_posix::exo_user::upcall::{self, Handlers, Interrupted};
use libos_posix::exo_user::{Error, FrameNumber, Rights, binding, capability, frame, layout};
use libos_posix::memory::{
    Entry, Extent, Extents, Hashed, Linear, PageIndex, PageTable, Place, Protection, Seat, Slot,
};

/// The benches of this group: a kind of table, and how far apart the pages are.
pub(crate) const BENCHES: &[Bench] = &[
    ("linear_1", linear::<1>),
    ("linear_16", linear::<16>),
    ("linear_64", linear::<64>),
    ("linear_256", linear::<256>),
    ("linear_1024", linear::<1024>),
    ("hashed_1", hashed::<1>),
    ("hashed_16", hashed::<16>),
    ("hashed_64", hashed::<64>),
    ("hashed_256", hashed::<256>),
    ("hashed_1024", hashed::<1024>),
    ("extents_1", extents::<1>),
    ("extents_16", extents::<16>),
    ("extents_64", extents::<64>),
    ("extents_256", extents::<256>),
    ("extents_1024", extents::<1024>),
];

/// How many pages are touched.
const MANY: usize = 500;
/// The most frames that are allocated with one call.
const LIST: usize = 500;
/// The pages that the tables describe.
const PAGES: u32 = 1 << 28;
/// Where they are, and where the linear table is.
const AREA: Range<u64> = layout::FREE.start..layout::FREE.start + PAGES as u64 * PAGE_SIZE;
const TABLE: Range<u64> = AREA.end..AREA.end + PAGES as u64 * size_of::<u32>() as u64;

const READ: Rights = Rights::READ;
const WRITE: Rights = Rights::READ.union(Rights::WRITE);

/// The frames that are bound next, one after the other: by both levels of handlers.
static FRAMES: [AtomicU64; 2 * MANY] = [const { AtomicU64::new(0) }; 2 * MANY];
static NEXT: AtomicU64 = AtomicU64::new(0);
/// The page that may be written to, plus one.
static OPEN: AtomicU64 = AtomicU64::new(0);
/// The table, of a type that the handler knows.
static PAGE_TABLE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

fn linear<const STRIDE: u64>(measurement: &mut Measurement) -> Result<(), Error> {
    let (first, length) = (TABLE.start as *mut u32, PAGES as usize);
    // SAFETY: the handler binds a frame of zeros where there is none, and nobody else uses the range.
    let entries = unsafe { core::slice::from_raw_parts_mut(first, length) };
    sparse::<_, STRIDE>(measurement, Linear::zeroed(entries))
}

fn hashed<const STRIDE: u64>(measurement: &mut Measurement) -> Result<(), Error> {
    let mut slots = vec![Slot::default(); 1024];
    sparse::<_, STRIDE>(measurement, Hashed::new(&mut slots, PAGES))
}

fn extents<const STRIDE: u64>(measurement: &mut Measurement) -> Result<(), Error> {
    let mut nodes = vec![Extent::default(); 1024];
    sparse::<_, STRIDE>(measurement, Extents::new(&mut nodes, PAGES))
}

fn sparse<T: PageTable, const STRIDE: u64>(
    measurement: &mut Measurement,
    mut table: T,
) -> Result<(), Error> {
    let mut frames = vec![FrameNumber::ANY; FRAMES.len()];
    for list in frames.chunks_mut(LIST) {
        frame::allocate(list, capability::OWN)?;
    }
    for (place, frame) in FRAMES.iter().zip(&frames) {
        place.store(frame.0.into(), Ordering::Relaxed);
    }
    NEXT.store(0, Ordering::Relaxed);
    OPEN.store(0, Ordering::Relaxed);
    PAGE_TABLE.store((&raw mut table).cast(), Ordering::Relaxed);
    handlers::install(Box::leak(Box::new(Handlers { exception: fault::<T>, ..Handlers::NONE })))?;
    measurement.once(MANY as u64, || {
        for page in 0..MANY as u64 {
            // SAFETY: the handler binds the page; nothing refers to it.
            unsafe { (address(page * STRIDE) as *mut u8).write_volatile(1) };
        }
    });
    static NONE: Handlers = Handlers::NONE;
    handlers::install(&NONE)?;
    for list in frames.chunks(LIST) {
        // SAFETY: nothing refers to these pages.
        unsafe { frame::free(list)? };
    }
    Ok(())
}

fn address(page: u64) -> u64 {
    AREA.start + page * PAGE_SIZE
}

/// Binds the next frame at an address.
fn bind_next(address: u64) -> Result<FrameNumber, Error> {
    let next = NEXT.fetch_add(1, Ordering::Relaxed) as usize;
    let frame = FRAMES.get(next).ok_or(Error::NoFrame)?.load(Ordering::Relaxed);
    let frame = FrameNumber(frame as u32);
    let page = address & !(PAGE_SIZE - 1);
    // SAFETY: nothing refers to the page; in the table's range a frame of zeros is what was there.
    unsafe { binding::bind(&[BindRequest::new(page, frame, WRITE, capability::OWN)])? };
    Ok(frame)
}

fn fault<T: PageTable>(interrupted: &mut Interrupted) {
    let address = interrupted.frame.address;
    let bound = match interrupted.frame.cause == PAGE_FAULT {
        true if AREA.contains(&address) => open::<T>(address),
        true if TABLE.contains(&address) => bind_next(address).map(|_| ()),
        _ => Err(Error::BadAddress),
    };
    if bound.is_err() {
        upcall::end_with_report(interrupted);
    }
}

/// Brings a page, which may be written to, in place of the one before.
fn open<T: PageTable>(address: u64) -> Result<(), Error> {
    // SAFETY: it is a table of this type, and there is one such handler at a time: what a table
    // touches is answered by `bind_next` alone.
    let table = unsafe { &mut *PAGE_TABLE.load(Ordering::Relaxed).cast::<T>() };
    let frame = bind_next(address)?;
    let page = ((address - AREA.start) / PAGE_SIZE) as u32;
    let place = Place::Resident(Seat(frame.0));
    table.set(PageIndex(page), Entry { place, ..Entry::default() }).map_err(|_| Error::TooLong)?;
    let before = OPEN.swap(u64::from(page) + 1, Ordering::Relaxed);
    if let Some(before) = before.checked_sub(1) {
        let entry = table.get(PageIndex(before as u32));
        if matches!(entry.place, Place::Resident(_)) {
            // SAFETY: nothing refers to the page.
            unsafe { binding::protect(self::address(before), 1, READ)? };
            let closed = Entry { protection: Protection::Read, ..entry };
            table.set(PageIndex(before as u32), closed).map_err(|_| Error::TooLong)?;
        }
    }
    Ok(())
}
