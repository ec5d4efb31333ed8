//! Generated code: the classifier of the packet filters.
//!
//! There are two buffers. One is executable and used; new code is written into the other while
//! that is writable, which is then made executable and used. So no page is ever both.

use crate::x86_64::paging::set_executable;
use core::cell::UnsafeCell;
use core::mem;
use exo_core::SHAPES;
use packet_filters::{Classifier, FilterSet, code_for, verdict};

/// Enough for any filters of so many shapes, so that compiling them cannot fail.
const SIZE: usize = code_for(SHAPES).next_multiple_of(4096);

#[repr(C, align(4096))]
struct Buffer(UnsafeCell<[u8; SIZE]>);

// SAFETY: only `Jit` touches the buffers, and there is one, behind the kernel's lock.
unsafe impl Sync for Buffer {}

static BUFFERS: [Buffer; 2] = [const { Buffer(UnsafeCell::new([0; SIZE])) }; 2];

/// The code that classifies packets.
#[derive(Debug)]
pub(crate) struct Jit {
    current: Option<(usize, Classifier)>,
}

impl Jit {
    /// No code: no packet is anybody's. To be called once.
    pub(crate) const fn new() -> Self {
        Self { current: None }
    }

    /// Replaces the code by that of `filters`. `flush` makes every CPU forget what the pages were
    /// before, and so leave the code of before.
    pub(crate) fn load(&mut self, filters: &mut FilterSet<'_>, flush: impl Fn()) {
        let next = self.current.as_ref().map_or(0, |(used, _)| 1 - used);
        let buffer = BUFFERS[next].0.get();
        let start = buffer.addr() as u64;
        let pages = (start..start + SIZE as u64).step_by(4096);
        for page in pages.clone() {
            // SAFETY: the buffer is in the image's data and not in use.
            unsafe { set_executable(page, false) };
        }
        // SAFETY: the buffer is not the one in use, and `self` is the only way to it.
        let code = unsafe { &mut *buffer };
        let fits = filters.compile(code).is_ok();
        for page in pages {
            // SAFETY: as above; writing is over.
            unsafe { set_executable(page, true) };
        }
        flush();
        if fits {
            // SAFETY: the buffer holds a function of this type: the code generator says so, and
            // its tests decode and run what it emits.
            let classifier = unsafe { mem::transmute::<*mut [u8; SIZE], Classifier>(buffer) };
            self.current = Some((next, classifier));
        }
    }

    /// The filter that a packet matches, of those that were loaded last.
    pub(crate) fn classify(&self, filters: &FilterSet<'_>, packet: &[u8]) -> Option<u32> {
        let (_, classifier) = self.current.as_ref()?;
        // SAFETY: the code reads `length` bytes from the pointer at most, and the table, which
        // belongs to the only filters that there are; it writes nothing.
        verdict(unsafe { classifier(packet.as_ptr(), packet.len() as u64, filters.table()) })
    }
}
