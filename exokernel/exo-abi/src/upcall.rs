//! How the kernel enters an environment.

use bitflags::bitflags;

/// What the kernel pushes on the upcall stack before it enters
/// [`ControlPage::entry`](crate::control::ControlPage::entry).
///
/// The stack pointer then points at the frame and is a multiple of 16. `rdi` holds the cause,
/// `rsi` the code, `rdx` the address and `rcx` the frame's address; the handler finds all other
/// registers as they were. If the stack pointer was inside the upcall stack, the frame is pushed
/// below it and its red zone, otherwise at the top. The handler returns to what was interrupted
/// by restoring the flags, the mask, the scratch registers and the stack pointer, and jumping to
/// [`UpcallFrame::rip`]: the kernel is not involved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct UpcallFrame {
    /// Scratch register.
    pub rax: u64,
    /// Scratch register.
    pub rcx: u64,
    /// Scratch register.
    pub rdx: u64,
    /// Scratch register.
    pub rsi: u64,
    /// Scratch register.
    pub rdi: u64,
    /// The mask before the upcall.
    pub mask: u64,
    /// The cause: an exception vector, or from [`EVENT_CAUSE`] on an event.
    pub cause: u64,
    /// The code: for a page fault [`FaultCode`] bits, for other exceptions the CPU's error code.
    pub code: u64,
    /// For a page fault, the address.
    pub address: u64,
    /// The flags.
    pub rflags: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// Where it happened. The last word, so that a handler may put the address of its return at the
    /// same place: right below the red zone of what was interrupted.
    pub rip: u64,
}

/// The number of eight-byte words in an [`UpcallFrame`].
pub const FRAME_WORDS: usize = 12;

/// The flags that a handler starts without: trap, direction, alignment check.
pub const HANDLER_FLAGS_OFF: u64 = 1 << 8 | 1 << 10 | 1 << 18;

/// The bytes below the stack pointer that belong to the interrupted function.
pub const RED_ZONE: u64 = 128;

/// Events: things that happen to an environment while it does something else. An event's upcall
/// has the cause `EVENT_CAUSE + event`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Event {
    /// The slice is over. Save what you need and yield before the excess is charged.
    SliceEnd = 0,
    /// Somebody asks for resources back: see the contract page for kind, debt and deadline.
    Revoke = 1,
    /// Resources were repossessed: see the loss ring and the bitmap.
    Lost = 2,
    /// A packet is in a ring.
    Packet = 3,
    /// A child environment ended.
    ChildEnded = 4,
    /// Console input has arrived. Only for environments that have read the console before.
    Console = 5,
    /// A predicate in a frame of its own holds: see [`predicate`](crate::predicate).
    Predicate = 6,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 7] = [
        Self::SliceEnd,
        Self::Revoke,
        Self::Lost,
        Self::Packet,
        Self::ChildEnded,
        Self::Console,
        Self::Predicate,
    ];

    /// The event's bit in the pending and enabled words.
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// The cause of the event's upcall.
    pub const fn cause(self) -> u64 {
        EVENT_CAUSE + self as u64
    }
}

/// Causes below this are the CPU's exception vectors; from here on they are [`Event`]s.
pub const EVENT_CAUSE: u64 = 32;

/// The exception vector of a page fault.
pub const PAGE_FAULT: u64 = 14;

bitflags! {
    /// What went wrong in a page fault. The bits are where the CPU's error code has what is nearest.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct FaultCode: u64 {
        /// The page is bound, but not with this right.
        const PROTECTION = 1;
        /// The access was a write.
        const WRITE = 1 << 1;
        /// The frame behind the page was repossessed.
        const LOST = 1 << 3;
        /// The access was an instruction fetch.
        const FETCH = 1 << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_is_its_words_and_keeps_alignment() {
        assert_eq!(size_of::<UpcallFrame>(), FRAME_WORDS * 8);
        assert_eq!(size_of::<UpcallFrame>() % 16, 0);
    }
}
