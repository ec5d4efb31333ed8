//! Running emitted code on the host: pages that can be executed, packets that end where the mapping
//! does. The only unsafe code of the crate, and it is not part of it.

use std::ptr;

use packet_filters::{Classifier, FilterSet, Line, code_for, verdict};

use crate::specimen::CAPACITY;

const PAGE: usize = 4096;

/// Anonymous pages, unmapped when dropped.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// Whole pages for at least `length` bytes, readable and writable, zero.
    fn new(length: usize) -> Self {
        let length = length.next_multiple_of(PAGE);
        // SAFETY: a fresh anonymous mapping at an address of the system's choice touches nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        Mapping { start: start.cast(), length }
    }

    fn protect(&mut self, from: usize, length: usize, protection: libc::c_int) {
        assert!(from + length <= self.length);
        // SAFETY: the range lies in our own mapping, and `&mut self` says that nobody borrows it.
        let result = unsafe { libc::mprotect(self.start.add(from).cast(), length, protection) };
        assert_eq!(result, 0);
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.length);
        // SAFETY: the range lies in our own mapping (just checked) and is not borrowed; callers
        // write only where they have left the pages writable, otherwise the test dies of a fault.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(at), bytes.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its borrows have ended.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// A place for packets whose last byte is the last before a page that cannot be read.
pub(crate) struct Cliff {
    mapping: Mapping,
    edge: usize,
}

impl Cliff {
    /// Room for packets of up to `room` bytes.
    pub(crate) fn new(room: usize) -> Self {
        let edge = room.next_multiple_of(PAGE);
        let mut mapping = Mapping::new(edge + PAGE);
        mapping.protect(edge, PAGE, libc::PROT_NONE);
        Cliff { mapping, edge }
    }

    fn place(&mut self, packet: &[u8]) -> *const u8 {
        let at = self.edge.checked_sub(packet.len()).expect("room for the packet");
        self.mapping.write(at, packet);
        // SAFETY: `at` is at most the edge, inside the mapping.
        unsafe { self.mapping.start.add(at) }
    }
}

/// Emitted code on pages that can be executed and not written.
pub(crate) struct Executable {
    mapping: Mapping,
    table: *const Line,
}

impl Executable {
    /// Takes what [`FilterSet::compile`] wrote for this set.
    pub(crate) fn new(code: &[u8], set: &FilterSet<'static>) -> Self {
        let mut mapping = Mapping::new(code.len());
        mapping.write(0, code);
        mapping.protect(0, mapping.length, libc::PROT_READ | libc::PROT_EXEC);
        Executable { mapping, table: set.table() }
    }

    /// Runs the code over a packet that ends at the cliff: a read past the end kills the test.
    pub(crate) fn run(&self, packet: &[u8], cliff: &mut Cliff) -> Option<u32> {
        self.call(cliff.place(packet), packet.len())
    }

    /// Runs the code over the first `length` bytes, with the rest readable behind them.
    pub(crate) fn run_prefix(&self, packet: &[u8], length: usize) -> Option<u32> {
        assert!(length <= packet.len());
        self.call(packet.as_ptr(), length)
    }

    fn call(&self, packet: *const u8, length: usize) -> Option<u32> {
        // SAFETY: the mapping starts with a function of this type, and is executable.
        let classify: Classifier = unsafe { std::mem::transmute(self.mapping.start) };
        // SAFETY: both callers pass `length` readable bytes, and the table is in memory that is
        // never freed. What else the code may do is what is under test; its instructions are
        // checked by the disassembly test.
        verdict(unsafe { classify(packet, length as u64, self.table) })
    }
}

/// Compiles the set, and runs the code over a packet.
pub(crate) fn classify(set: &mut FilterSet<'static>, packet: &[u8]) -> Option<u32> {
    let mut code = vec![0; code_for(CAPACITY)];
    set.compile(&mut code).expect("large enough");
    Executable::new(&code, set).run_prefix(packet, packet.len())
}

// SAFETY: the code can run on any thread, and reads the table in whole words that the set changes
// atomically.
unsafe impl Sync for Executable {}
