//! Generated code: the classifier of the packet filters.
//!
//! Code is written and run under the kernel's lock, so that nobody runs what is being written. Other
//! CPUs forget what the pages were before when they next come to run any
//! ([`Devices::see_code`](crate::devices::Devices::see_code)).

use crate::x86_64::paging::set_executable;
use core::cell::UnsafeCell;
use core::mem;
use exo_core::SHAPES;
use packet_filters::{Classifier, FilterSet, code_for, verdict};

/// Memory for code. None of its pages is ever writable and executable.
#[repr(C, align(4096))]
pub(crate) struct Code<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

// SAFETY: whoever writes it says that nobody else uses it.
unsafe impl<const SIZE: usize> Sync for Code<SIZE> {}

impl<const SIZE: usize> Code<SIZE> {
    /// No code.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([0; SIZE]))
    }

    /// Where the code is.
    pub(crate) fn start(&self) -> *const () {
        self.0.get().cast_const().cast()
    }

    /// Lets `write` write the code, and makes it executable.
    ///
    /// # Safety
    /// Nobody runs the code, or writes it at the same time. Who runs it on another CPU has first to
    /// forget what the pages were.
    pub(crate) unsafe fn write<T>(&self, write: impl FnOnce(&mut [u8]) -> T) -> T {
        const { assert!(SIZE.is_multiple_of(4096)) };
        let start = self.0.get().addr() as u64;
        let pages = (start..start + SIZE as u64).step_by(4096);
        // SAFETY: the pages are in the image's data, and nobody runs what is on them.
        pages.clone().for_each(|page| unsafe { set_executable(page, false) });
        // SAFETY: the caller says that nobody else uses the code.
        let written = write(unsafe { &mut *self.0.get() });
        // SAFETY: as above; writing is over.
        pages.for_each(|page| unsafe { set_executable(page, true) });
        written
    }
}

/// Enough for any filters of so many shapes, so that compiling them cannot fail.
const SIZE: usize = code_for(SHAPES).next_multiple_of(4096);

static CODE: Code<SIZE> = Code::new();

/// The code that classifies packets.
#[derive(Debug)]
pub(crate) struct Jit {
    current: Option<Classifier>,
}

impl Jit {
    /// No code: no packet is anybody's. To be called once.
    pub(crate) const fn new() -> Self {
        Self { current: None }
    }

    /// Replaces the code by that of `filters`.
    pub(crate) fn load(&mut self, filters: &mut FilterSet<'_>) {
        // SAFETY: `self` is the only way to the code, and running it takes that too.
        let compiled = unsafe { CODE.write(|code| filters.compile(code)) };
        // SAFETY: what was compiled is a function of this type: the code generator says so, and its
        // tests decode and run what it emits.
        let function = unsafe { mem::transmute::<*const (), Classifier>(CODE.start()) };
        self.current = compiled.ok().map(|_| function);
    }

    /// The filter that a packet matches, of those that were loaded last.
    pub(crate) fn classify(&self, filters: &FilterSet<'_>, packet: &[u8]) -> Option<u32> {
        let classifier = self.current?;
        // SAFETY: the code reads `length` bytes from the pointer at most, and the table, which
        // belongs to the only filters that there are; it writes nothing.
        verdict(unsafe { classifier(packet.as_ptr(), packet.len() as u64, filters.table()) })
    }
}
