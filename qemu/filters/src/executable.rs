//! Memory for machine code that is near this program's own, as it is near the kernel's in ring 0:
//! some processors call what is further away than they can predict in a few bits much more slowly.

use std::io;
use std::ptr;

/// How far from this program the first place is that is tried: behind its data and its heap's
/// beginning.
const DISTANCE: usize = 1 << 28;
const PAGE: usize = 4096;

/// Pages of code, which can be executed and not written; unmapped when dropped.
#[derive(Debug)]
pub struct Executable {
    start: *mut u8,
    length: usize,
}

// SAFETY: nobody writes the pages any more, and `Executable` owns them.
unsafe impl Send for Executable {}

impl Executable {
    /// Puts code on pages of its own.
    ///
    /// # Errors
    /// The system has no memory, or none that can be executed.
    pub fn new(code: &[u8]) -> io::Result<Self> {
        let length = code.len().max(1).next_multiple_of(PAGE);
        let near = (Self::new as fn(&[u8]) -> _ as usize + DISTANCE) & !(PAGE - 1);
        let hint = ptr::without_provenance_mut(near);
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the address is a hint only: a fresh mapping touches nothing.
        let start = unsafe { libc::mmap(hint, length, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pages = Self { start: start.cast(), length };
        // SAFETY: the mapping is writable, at least as long as the code, and nobody else knows it.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), pages.start, code.len()) };
        // SAFETY: the mapping is ours, and nothing is borrowed of it.
        if unsafe { libc::mprotect(start, length, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages)
    }

    /// The first byte.
    #[must_use]
    pub fn start(&self) -> *const u8 {
        self.start
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever ran it had borrowed it.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
