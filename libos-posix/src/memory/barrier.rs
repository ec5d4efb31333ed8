//! Write barriers and guard pages: faults that the program has asked for.

use crate::memory::kernel::Access;
use crate::memory::page_table::Protection;
use crate::memory::space::{EXIT_MEMORY, page_of, with_pager};
use crate::memory::store::PAGE_SIZE;
use core::fmt;
use core::ops::Range;
use exo_user::control::Masked;
use exo_user::upcall::Interrupted;
use exo_user::{backtrace, environment, println};
use spin::Mutex;

/// What becomes of a program that has touched a page against its protection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Barrier {
    /// It goes on, and does again what it did: the page is no longer protected against that.
    Lifted,
    /// It ends with a report.
    End,
}

/// Why pages cannot be protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtectError {
    /// The range is not whole pages of the paged area.
    BadRange,
    /// The page table has no room to note it. Some of the pages may be protected.
    TableFull,
}

impl fmt::Display for ProtectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRange => "the range is not whole pages of the paged area",
            Self::TableFull => "the page table is full",
        })
    }
}

/// Who is asked when a protected page is touched.
static ON_BARRIER: Mutex<fn(u64, Access) -> Barrier> = Mutex::new(|_, _| Barrier::End);

/// Protects whole pages of the paged area, whether they hold something or not. The heap knows
/// nothing of it: protect what was allocated as whole pages, and lift the protection before it is
/// freed.
///
/// To take a right away or to give it back costs one call for each run of pages that are resident;
/// nothing for others.
///
/// # Errors
/// All of [`ProtectError`].
pub fn protect(range: Range<u64>, protection: Protection) -> Result<(), ProtectError> {
    let page_size = PAGE_SIZE as u64;
    if !range.start.is_multiple_of(page_size) || !range.end.is_multiple_of(page_size) {
        return Err(ProtectError::BadRange);
    }
    if range.is_empty() {
        return Ok(());
    }
    let first = page_of(range.start).ok_or(ProtectError::BadRange)?;
    let last = page_of(range.end - 1).ok_or(ProtectError::BadRange)?;
    with_pager(|pager| pager.protect(first.0..last.0 + 1, protection))
        .ok_or(ProtectError::BadRange)?
        .map_err(|_| ProtectError::TableFull)
}

/// Chooses what to do when the program touches a page against its protection. The function gets the
/// address and what was tried. It runs in a handler, with events held back: it must not allocate,
/// but it may touch pages and [`protect`] them. Without one, the program ends.
pub fn on_barrier(decide: fn(u64, Access) -> Barrier) {
    let _masked = Masked::hold();
    *ON_BARRIER.lock() = decide;
}

/// Asks the program about an access to a protected page.
pub(crate) fn hit(interrupted: &mut Interrupted, access: Access) {
    let address = interrupted.frame.address;
    let decide = *ON_BARRIER.lock();
    if decide(address, access) == Barrier::Lifted {
        return;
    }
    let (rip, what) =
        (interrupted.frame.rip, if access == Access::Write { "written" } else { "read" });
    println!("the page at {address:#x} is protected, and was {what} at {rip:#x}");
    backtrace::print(rip, interrupted.rbp);
    environment::exit(EXIT_MEMORY)
}
