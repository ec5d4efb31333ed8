//! The control page: how the kernel reaches the program, and how the program holds it off.

use crate::{environment, shared};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::control::ControlWord;
use exo_abi::upcall::Event;

/// A word of the control page.
pub fn word(word: ControlWord) -> &'static AtomicU64 {
    &shared::control()[word as usize]
}

/// Takes note of an event without an upcall: says whether it had happened, and forgets it. Look for
/// the event's cause after this, not before, or the next sleep may miss it.
pub fn take(event: Event) -> bool {
    word(ControlWord::Pending).fetch_and(!event.bit(), Ordering::AcqRel) & event.bit() != 0
}

/// Takes the first pending event for which an upcall is wanted.
pub fn take_wanted() -> Option<Event> {
    let wanted = word(ControlWord::Pending).load(Ordering::Acquire)
        & word(ControlWord::Enabled).load(Ordering::Relaxed);
    Event::ALL.into_iter().find(|event| wanted & event.bit() != 0 && take(*event))
}

/// Holds upcalls of events back, from [`Masked::hold`] until it is dropped. Exceptions come all the
/// same. Not for other threads of control: dropped in the order in which they were made.
#[derive(Debug)]
pub struct Masked {
    before: u64,
    not_send: PhantomData<*mut ()>,
}

impl Masked {
    /// Holds events back from now on.
    pub fn hold() -> Self {
        let before = word(ControlWord::Mask).swap(1, Ordering::AcqRel);
        Self { before, not_send: PhantomData }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        word(ControlWord::Mask).store(self.before, Ordering::Release);
        let pending = word(ControlWord::Pending).load(Ordering::Relaxed);
        if pending & word(ControlWord::Enabled).load(Ordering::Relaxed) != 0 {
            admit();
        }
    }
}

/// Lets events come that were held back, unless they still are: they come with the next entry to
/// the kernel, and this is one.
#[cold]
pub(crate) fn admit() {
    if word(ControlWord::Mask).load(Ordering::Relaxed) == 0 {
        let _ = environment::name();
    }
}
