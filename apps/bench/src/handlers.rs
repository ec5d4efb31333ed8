//! The handlers of upcalls: each bench brings its own, the stack stays.

use core::sync::atomic::{AtomicBool, Ordering};
use libos_posix::exo_user::abi::name::PAGE_SIZE;
use libos_posix::exo_user::upcall::{self, Handlers};
use libos_posix::exo_user::{Error, layout};

/// The pages of the upcall stack.
const PAGES: u64 = 2;

/// Installs these handlers in place of those before.
///
/// # Errors
/// As [`upcall::install_with_stack`].
pub(crate) fn install(handlers: &'static Handlers) -> Result<(), Error> {
    static BOUND: AtomicBool = AtomicBool::new(false);
    if BOUND.load(Ordering::Relaxed) {
        let stack = layout::UPCALL_STACK;
        // SAFETY: it was bound here before, for this.
        unsafe { upcall::install(stack.end - PAGES * PAGE_SIZE..stack.end, handlers) };
        return Ok(());
    }
    upcall::install_with_stack(PAGES, handlers)?;
    BOUND.store(true, Ordering::Relaxed);
    Ok(())
}
