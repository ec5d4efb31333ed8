//! The page through which an environment tells the kernel how to reach it.

/// The control page, at [`layout::CONTROL`](crate::layout::CONTROL). The environment writes it
/// with plain stores; the kernel reads it at each upcall and believes nothing in it.
///
/// All fields are eight-byte words in this order. An environment starts with all of them zero:
/// without an entry, exceptions end it and other upcalls stay pending.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ControlPage {
    /// Where upcalls enter. Zero: none are wanted.
    pub entry: u64,
    /// The lowest address of the upcall stack. The page below is to stay unbound: a stack pointer
    /// in it means that the stack has run over.
    pub stack_base: u64,
    /// The address behind the upcall stack, a multiple of 16.
    pub stack_top: u64,
    /// While not zero, upcalls other than exceptions are held back. The kernel sets it to 1 at
    /// every upcall, having saved the old value in the frame.
    pub mask: u64,
    /// Events that have happened: a bit for each, see [`Event`](crate::upcall::Event). The kernel
    /// sets bits (atomically), and clears the one for which it makes an upcall. The environment
    /// clears bits of events that it handles without upcalls. Bits that it sets itself mean nothing.
    pub pending: u64,
    /// The events for which upcalls are wanted. Others only become pending and end a sleep.
    pub enabled: u64,
}

/// The word of a field in the control page, as the kernel accesses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum ControlWord {
    /// [`ControlPage::entry`]
    Entry = 0,
    /// [`ControlPage::stack_base`]
    StackBase = 1,
    /// [`ControlPage::stack_top`]
    StackTop = 2,
    /// [`ControlPage::mask`]
    Mask = 3,
    /// [`ControlPage::pending`]
    Pending = 4,
    /// [`ControlPage::enabled`]
    Enabled = 5,
}

/// The first word of the control page that the kernel leaves to the environment.
pub const FREE_WORD: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn words_are_the_fields() {
        assert_eq!(offset_of!(ControlPage, entry), ControlWord::Entry as usize * 8);
        assert_eq!(offset_of!(ControlPage, stack_base), ControlWord::StackBase as usize * 8);
        assert_eq!(offset_of!(ControlPage, stack_top), ControlWord::StackTop as usize * 8);
        assert_eq!(offset_of!(ControlPage, mask), ControlWord::Mask as usize * 8);
        assert_eq!(offset_of!(ControlPage, pending), ControlWord::Pending as usize * 8);
        assert_eq!(offset_of!(ControlPage, enabled), ControlWord::Enabled as usize * 8);
        assert!(size_of::<ControlPage>() <= FREE_WORD * 8);
    }
}
