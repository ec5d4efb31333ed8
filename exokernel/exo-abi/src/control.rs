//! The page through which an environment tells the kernel how to reach it, and what it gives up first.

use crate::{FrameNumber, Kind};

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
    /// The id of the filter or reservation that the last one which was refused with
    /// [`FilterOverlaps`](crate::Error::FilterOverlaps) overlaps. The kernel writes it.
    pub overlaps: u64,
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
    /// [`ControlPage::overlaps`]
    Overlaps = 6,
}

/// The first word of the control page that the kernel leaves to the environment.
pub const FREE_WORD: usize = 7;

/// The word of the control page that says how many entries the surrender list has.
pub const SURRENDER_COUNT: usize = SURRENDER_WORD - 1;
/// The word of the control page at which the surrender list begins: entries of two words. The
/// environment writes it at any time. From who is late with a debt, the kernel takes what stands
/// there first, in this order, and strikes it out. An entry that names what is not the
/// environment's, is pinned, or has no good place to be saved, is struck out too.
pub const SURRENDER_WORD: usize = 256;
/// The most entries that the kernel looks at.
pub const SURRENDER_SLOTS: usize = 128;

/// An entry of the surrender list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Surrender {
    /// Of which kind.
    pub kind: Kind,
    /// The name, as in a [`Loss`](crate::contract::Loss).
    pub name: u64,
    /// For a frame, another one of the environment's that is to hold a copy of what was in it; number
    /// 0: what is in it may be forgotten.
    pub save: FrameNumber,
}

/// The bit of an entry's first word that says that there is one.
const LISTED: u64 = 1 << 63;
/// Where the kind is in an entry's first word.
const KIND_SHIFT: u32 = 56;

impl Surrender {
    /// The entry as two words. The second is to be written first.
    pub const fn to_words(self) -> [u64; 2] {
        [LISTED | (self.kind as u64) << KIND_SHIFT | self.name, self.save.0 as u64]
    }

    /// The entry from its two words, or `None` if there is none.
    pub const fn from_words([word, save]: [u64; 2]) -> Option<Self> {
        let Some(kind) = Kind::from_number(word >> KIND_SHIFT & 0x7f) else { return None };
        if word & LISTED == 0 || save > u32::MAX as u64 {
            return None;
        }
        let name = word & ((1 << KIND_SHIFT) - 1);
        Some(Self { kind, name, save: FrameNumber(save as u32) })
    }
}

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
        assert_eq!(offset_of!(ControlPage, overlaps), ControlWord::Overlaps as usize * 8);
        for kind in Kind::ALL {
            let entry = Surrender { kind, name: 7 << 32 | 9, save: FrameNumber(5) };
            assert_eq!(Surrender::from_words(entry.to_words()), Some(entry));
        }
        for words in [[0, 0], [7, 0], [LISTED | 5 << KIND_SHIFT, 0], [LISTED, 1 << 32]] {
            assert_eq!(Surrender::from_words(words), None);
        }
        assert!(size_of::<ControlPage>() <= FREE_WORD * 8);
        const { assert!((SURRENDER_WORD + 2 * SURRENDER_SLOTS) * 8 <= 4096) };
    }
}
