//! Rights of pages, faults, bindings. The page table of this small library is an array: page `n`
//! has frame `n`.

use crate::Bench;
use crate::handlers;
use crate::measurement::Measurement;
use crate::repossession;
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use libos_posix::exo_user::abi::layout::PAGE_TABLE;
use libos_posix::exo_user::abi::name::PAGE_SIZE;
use libos_posix::exo_user::abi::request::BindRequest;
use libos_posix::exo_user::abi::upcall::PAGE_FAULT;
use libos_posix::exo_user::upcall::{self, Handler, Handlers, Interrupted};
use libos_posix::exo_user::{
    Error, FrameNumber, Rights, binding, capability, contract, frame, layout, tables,
};

/// The benches of this group.
pub(crate) const BENCHES: &[Bench] = &[
    ("dirty", dirty),
    ("prot1", prot1),
    ("prot100", prot100),
    ("trap", trap),
    ("appel1", appel1),
    ("appel2", appel2),
    ("fresh_page", fresh_page),
    ("stlb_refill", stlb_refill),
    ("bind_batch", bind_batch),
    ("abort_frame", repossession::abort_frame),
    ("abort_step", repossession::abort_step),
];

/// How many pages [`prot100`] and [`appel2`] are about.
const SOME: u64 = 100;
/// How many pages the others go through, in lists of [`LIST`].
const MANY: u64 = 1_000;
/// How many pages are bound at a time: a list in one call has at most 512 entries.
const LIST: usize = 500;
/// The bit of a hardware page table's entry that the CPU sets when the page is written to.
const DIRTY: u64 = 1 << 6;

/// How far one hardware page table reaches, and more of them than a program of this size has.
const TABLE_REACH: u64 = 512 * PAGE_SIZE;
const FAR: u64 = 128;

const READ: Rights = Rights::READ;
const WRITE: Rights = Rights::READ.union(Rights::WRITE);

/// Pages from [`layout::FREE`] on, and the frames behind them.
pub(crate) struct Pages {
    pub(crate) frames: Vec<FrameNumber>,
}

fn address(page: u64) -> u64 {
    layout::FREE.start + page * PAGE_SIZE
}

fn page(address: u64) -> u64 {
    (address - layout::FREE.start) / PAGE_SIZE
}

impl Pages {
    /// Frames for so many pages; nothing is bound.
    fn allocated(count: u64) -> Result<Self, Error> {
        let mut frames = vec![FrameNumber::ANY; count as usize];
        for list in frames.chunks_mut(LIST) {
            frame::allocate(list, capability::OWN)?;
        }
        Ok(Self { frames })
    }

    /// Pages that can be written to, and have been.
    pub(crate) fn touched(count: u64) -> Result<Self, Error> {
        let pages = Self::allocated(count)?;
        for list in pages.requests().chunks(LIST) {
            // SAFETY: nothing refers to these pages: they are only touched.
            unsafe { binding::bind(list)? };
        }
        (0..count).for_each(touch);
        Ok(pages)
    }

    pub(crate) fn requests(&self) -> Vec<BindRequest> {
        let pages = self.frames.iter().zip(0..);
        pages.map(|(&frame, page)| request(page, frame)).collect()
    }

    /// Gives everything back.
    fn free(self) -> Result<(), Error> {
        for list in self.frames.chunks(LIST) {
            // SAFETY: nothing refers to these pages.
            unsafe { frame::free(list)? };
        }
        Ok(())
    }
}

fn request(page: u64, frame: FrameNumber) -> BindRequest {
    BindRequest::new(address(page), frame, WRITE, capability::OWN)
}

fn touch(page: u64) {
    // SAFETY: the page is bound, or the handler of its fault binds it; nothing refers to it.
    unsafe { (address(page) as *mut u8).write_volatile(1) };
}

fn protect(page: u64, count: u64, rights: Rights) -> Result<(), Error> {
    // SAFETY: nothing refers to these pages.
    unsafe { binding::protect(address(page), count, rights) }
}

/// The page that has faulted; anything else ends the program.
fn faulted(interrupted: &mut Interrupted) -> u64 {
    if interrupted.frame.cause != PAGE_FAULT || interrupted.frame.address < layout::FREE.start {
        upcall::end_with_report(interrupted);
    }
    page(interrupted.frame.address)
}

/// Ends the program, if the kernel has refused what a handler needs.
fn granted(interrupted: &mut Interrupted, result: Result<(), Error>) {
    if result.is_err() {
        upcall::end_with_report(interrupted);
    }
}

const fn on_fault(exception: Handler) -> Handlers {
    Handlers { exception, ..Handlers::NONE }
}

/// Whether a page is dirty: a load from the hardware page table.
fn dirty(measurement: &mut Measurement) -> Result<(), Error> {
    let pages = Pages::touched(1)?;
    let entry = (PAGE_TABLE + (address(0) >> 12) * 8) as *const AtomicU64;
    // SAFETY: the kernel maps the program's page tables there; the page has been touched.
    let entry = unsafe { &*entry };
    measurement.repeat(100_000, || {
        black_box(entry.load(Ordering::Relaxed) & DIRTY != 0);
    });
    pages.free()
}

fn prot1(measurement: &mut Measurement) -> Result<(), Error> {
    let pages = Pages::touched(SOME)?;
    let (mut rights, mut result) = (WRITE, Ok(()));
    measurement.repeat(10_000, || {
        rights = if rights == WRITE { READ } else { WRITE };
        result = result.and(protect(0, 1, rights));
    });
    result.and(pages.free())
}

fn prot100(measurement: &mut Measurement) -> Result<(), Error> {
    let pages = Pages::touched(SOME)?;
    let mut result = Ok(());
    measurement.repeat(1_000, || {
        result = result.and(protect(0, SOME, READ)).and(protect(0, SOME, WRITE));
    });
    result.and(pages.free())
}

fn unprotect(interrupted: &mut Interrupted) {
    let page = faulted(interrupted);
    granted(interrupted, protect(page, 1, WRITE));
}

fn trap(measurement: &mut Measurement) -> Result<(), Error> {
    static HANDLERS: Handlers = on_fault(unprotect);
    let pages = Pages::touched(MANY)?;
    handlers::install(&HANDLERS)?;
    protect_all(READ)?;
    measurement.once(MANY, || (0..MANY).for_each(touch));
    pages.free()
}

fn protect_all(rights: Rights) -> Result<(), Error> {
    (0..MANY).step_by(LIST).try_for_each(|page| protect(page, LIST as u64, rights))
}

/// The only page that may be written to.
static OPEN: AtomicU64 = AtomicU64::new(0);

fn unprotect_and_protect(interrupted: &mut Interrupted) {
    let page = faulted(interrupted);
    let before = OPEN.load(Ordering::Relaxed);
    let result = protect(page, 1, WRITE).and_then(|()| protect(before, 1, READ));
    granted(interrupted, result);
    OPEN.store(page, Ordering::Relaxed);
}

fn appel1(measurement: &mut Measurement) -> Result<(), Error> {
    static HANDLERS: Handlers = on_fault(unprotect_and_protect);
    let pages = Pages::touched(MANY)?;
    handlers::install(&HANDLERS)?;
    protect_all(READ)?;
    protect(MANY - 1, 1, WRITE)?;
    OPEN.store(MANY - 1, Ordering::Relaxed);
    let mut next = (0..MANY).cycle();
    measurement.repeat(MANY, || next.next().into_iter().for_each(touch));
    pages.free()
}

fn appel2(measurement: &mut Measurement) -> Result<(), Error> {
    static HANDLERS: Handlers = on_fault(unprotect);
    let pages = Pages::touched(SOME)?;
    handlers::install(&HANDLERS)?;
    let mut result = Ok(());
    measurement.repeat(20, || {
        result = result.and(protect(0, SOME, READ));
        (0..SOME).for_each(touch);
    });
    result.and(pages.free())
}

/// The frame that the next fresh page gets: the first of the row that was allocated.
static FRESH: [AtomicU64; MANY as usize] = [const { AtomicU64::new(0) }; MANY as usize];

fn bind_fresh(interrupted: &mut Interrupted) {
    let page = faulted(interrupted);
    let frame = FRESH.get(page as usize).map_or(0, |frame| frame.load(Ordering::Relaxed));
    // SAFETY: nothing refers to the page.
    let result = unsafe { binding::bind(&[request(page, FrameNumber(frame as u32))]) };
    granted(interrupted, result);
}

/// A fault on a page that nothing is bound to, for which the library has a frame that is zero
/// already: frames are zeroed when they are allocated.
fn fresh_page(measurement: &mut Measurement) -> Result<(), Error> {
    static HANDLERS: Handlers = on_fault(bind_fresh);
    let pages = Pages::allocated(MANY)?;
    for (place, frame) in FRESH.iter().zip(&pages.frames) {
        place.store(frame.0.into(), Ordering::Relaxed);
    }
    handlers::install(&HANDLERS)?;
    measurement.once(MANY, || (0..MANY).for_each(touch));
    pages.free()
}

/// A touch of pages that the software TLB has and the hardware page tables have not: the kernel
/// answers. The tables are gone because others were made since, for more pages far apart than the
/// program has donated frames for tables. As many operations as there were such answers.
fn stlb_refill(measurement: &mut Measurement) -> Result<(), Error> {
    let pages = Pages::touched(SOME)?;
    let far = Pages::allocated(FAR)?;
    let place = |page: u64| address(0) + (page + 1) * TABLE_REACH;
    for (&frame, page) in far.frames.iter().zip(0..) {
        let request = BindRequest::new(place(page), frame, WRITE, capability::OWN);
        // SAFETY: nothing refers to this page, and it is bound.
        unsafe {
            binding::bind(&[request])?;
            (place(page) as *mut u8).write_volatile(1);
        }
    }
    let refills = || tables::environment_named(contract::name()).map_or(0, |entry| entry.refills);
    let before = refills();
    measurement.once(SOME, || (0..SOME).for_each(touch));
    measurement.correct(refills() - before);
    far.free().and(pages.free())
}

fn bind_batch(measurement: &mut Measurement) -> Result<(), Error> {
    let pages = Pages::allocated(MANY)?;
    let mut requests: Vec<BindRequest> = Vec::new();
    for request in pages.requests() {
        if !requests.last_mut().is_some_and(|last| last.append(&request)) {
            requests.push(request);
        }
    }
    let mut result = Ok(());
    // SAFETY: nothing refers to these pages.
    measurement.once(MANY, || result = unsafe { binding::bind(&requests) });
    result.and(pages.free())
}
