//! The region: all that the computation is.
//!
//! | pages | what |
//! |---|---|
//! | the first | [`Control`] |
//! | the second | nothing: who overflows the stack faults |
//! | some | the stack |
//! | the others | data |

use crate::coroutine;
use crate::log::{Log, PAGES};
use alloc::alloc::{Layout, alloc_zeroed};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use libos_posix::memory::{self, PAGE_SIZE, PageBytes, Protection};

const STACK: Range<usize> = 2..10;
const DATA: Range<usize> = STACK.end..PAGES;
const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// The numbers that the computation has room for.
pub(crate) const NUMBERS: usize = (PAGES - STACK.end) * WORDS;

/// What is known of the computation from outside.
#[repr(C)]
struct Control {
    stack_pointer: u64,
    /// The result, when there is one.
    result: Option<u64>,
}

pub(crate) struct Region {
    start: u64,
}

impl Region {
    /// The region, all zero. It must be the first thing that is allocated, so that it is at the same
    /// place in every environment.
    pub(crate) fn new(log: &Log) -> Option<Self> {
        let layout = Layout::from_size_align(PAGES * PAGE_SIZE, PAGE_SIZE).ok()?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?.as_ptr() as u64;
        let region = Self { start };
        let before = log.region.swap(start, Ordering::Relaxed);
        let guard = region.address(1)..region.address(2);
        memory::protect(guard, Protection::None).ok()?;
        (before == 0 || before == start).then_some(region)
    }

    /// The address of a page.
    pub(crate) fn address(&self, page: usize) -> u64 {
        self.start + (page * PAGE_SIZE) as u64
    }

    /// The number of the page at an address.
    pub(crate) fn page(&self, address: u64) -> usize {
        (address - self.start) as usize / PAGE_SIZE
    }

    pub(crate) fn addresses(&self) -> Range<u64> {
        self.address(0)..self.address(PAGES)
    }

    fn words(&self, pages: Range<usize>) -> *mut [u64] {
        let first = self.address(pages.start) as *mut u64;
        core::ptr::slice_from_raw_parts_mut(first, pages.len() * WORDS)
    }

    fn control(&self) -> *mut Control {
        self.start as *mut Control
    }

    /// Makes the computation begin with a function.
    pub(crate) fn prepare(&mut self, entry: extern "sysv64" fn() -> !) -> Option<()> {
        // SAFETY: the computation does not run, so nobody else has a reference to its stack.
        let stack = unsafe { &mut *self.words(STACK) };
        let stack_pointer = coroutine::prepare(stack, entry)?;
        // SAFETY: as above; the page is large enough and aligned.
        unsafe { self.control().write(Control { stack_pointer, result: None }) };
        Some(())
    }

    /// Makes the region what the last complete checkpoint says. It is new, and all zero.
    pub(crate) fn restore(&mut self, log: &Log) {
        for (page, contents) in (0..PAGES).filter_map(|page| Some((page, log.read(page)?))) {
            // SAFETY: the page is inside the region, to which nobody refers.
            unsafe { *(self.address(page) as *mut PageBytes) = *contents };
        }
    }

    /// Lets the computation run until it pauses. Returns its result, if there is one.
    pub(crate) fn run(&mut self) -> Option<u64> {
        // SAFETY: the region was prepared, or is as a checkpoint says, which was taken in a pause.
        unsafe {
            coroutine::resume(&raw mut (*self.control()).stack_pointer);
            (*self.control()).result
        }
    }

    /// The computation's view of its region: its data, and the place of its result.
    ///
    /// # Safety
    /// Only for the computation, once; the log says where its region is.
    pub(crate) unsafe fn inside(log: &Log) -> (&'static mut [u64], &'static mut Option<u64>) {
        let region = Self { start: log.region.load(Ordering::Relaxed) };
        // SAFETY: the data is the computation's alone. The result is read by others in pauses only.
        unsafe { (&mut *region.words(DATA), &mut (*region.control()).result) }
    }
}
