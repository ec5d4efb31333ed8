//! What calls read from the caller's memory.

use crate::contract::KINDS;
use crate::layout::LABEL;
use crate::name::{EnvName, FrameNumber, PAGE_SIZE};
use crate::rights::Rights;

/// One page to bind. Two words: `page | rights` and `frame | capability << 32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct BindRequest {
    /// The address of the page, with [`Rights`] in the low twelve bits.
    pub page_and_rights: u64,
    /// The frame's number.
    pub frame: u32,
    /// The caller's capability slot that dominates the frame's guard.
    pub capability: u32,
}

/// The words of a [`BindRequest`].
pub const BIND_WORDS: usize = 2;

impl BindRequest {
    /// A request to bind `frame` at the page with address `page`.
    pub const fn new(page: u64, frame: FrameNumber, rights: Rights, capability: u32) -> Self {
        Self {
            page_and_rights: page & !(PAGE_SIZE - 1) | rights.bits() as u64,
            frame: frame.0,
            capability,
        }
    }

    /// The address of the page.
    pub const fn page(&self) -> u64 {
        self.page_and_rights & !(PAGE_SIZE - 1)
    }

    /// The rights, or `None` if there are some that a page cannot have.
    pub fn rights(&self) -> Option<Rights> {
        let rights = Rights::from_bits((self.page_and_rights & (PAGE_SIZE - 1)) as u16)?;
        Rights::PAGE.contains(rights).then_some(rights)
    }

    /// The request from its two words.
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self {
            page_and_rights: words[0],
            frame: words[1] as u32,
            capability: (words[1] >> 32) as u32,
        }
    }
}

/// What an environment is created from. All fields are words, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct EnvironmentRequest {
    /// The address of a list of frame numbers (four bytes each), held by the caller, which become
    /// the new environment's kernel memory: its page tables, software TLB, contract and record.
    pub donation: u64,
    /// How many: at least
    /// [`SystemPage::donation_minimum`](crate::tables::SystemPage::donation_minimum) and
    /// `tlb_frames`.
    pub donation_count: u64,
    /// How many of the donated frames are for the software TLB, 1 to 256; a frame holds 128
    /// entries.
    pub tlb_frames: u64,
    /// The capability slot of the caller, with `CONTROL`, that dominates the guard.
    pub capability: u64,
    /// The environment's guard, as words: who dominates it may control the environment. The rights
    /// in it are those that the new environment gets over its own name, in slot 0.
    pub guard: [u64; 2],
    /// The limits of the contract, indexed by [`Kind`](crate::Kind), moved here from the caller's
    /// own. The donated frames count against the limit of frames.
    pub limits: [u64; KINDS],
    /// The floors of the contract; none over its limit.
    pub floors: [u64; KINDS],
    /// The least notice in nanoseconds that anybody who asks for resources must give.
    pub notice: u64,
    /// What to call it in lists and on the console, filled up with zeros: printable ASCII without
    /// spaces and brackets, and not what the kernel or one of its forebears is called.
    pub label: [u8; LABEL],
}

/// The words of an [`EnvironmentRequest`].
pub const ENVIRONMENT_WORDS: usize = 19;

impl EnvironmentRequest {
    /// The request from its words.
    pub fn from_words(words: &[u64; ENVIRONMENT_WORDS]) -> Self {
        let mut request = Self {
            donation: words[0],
            donation_count: words[1],
            tlb_frames: words[2],
            capability: words[3],
            guard: [words[4], words[5]],
            notice: words[6 + 2 * KINDS],
            ..Self::default()
        };
        request.limits.copy_from_slice(&words[6..6 + KINDS]);
        request.floors.copy_from_slice(&words[6 + KINDS..6 + 2 * KINDS]);
        request.label[..8].copy_from_slice(&words[7 + 2 * KINDS].to_le_bytes());
        request.label[8..].copy_from_slice(&words[8 + 2 * KINDS].to_le_bytes());
        request
    }
}

/// A piece of a packet to send. Two words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SendRequest {
    /// The address of the packet's first byte, link header first.
    pub address: u64,
    /// Its length in bytes, from [`PACKET_MIN`](crate::layout::PACKET_MIN) to
    /// [`PACKET_MAX`](crate::layout::PACKET_MAX).
    pub length: u64,
}

/// The words of a [`SendRequest`].
pub const SEND_WORDS: usize = 2;

/// In a `slice` call: nobody, the position is given back.
pub const NOBODY: EnvName = EnvName(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts_are_as_said() {
        assert_eq!(size_of::<BindRequest>(), BIND_WORDS * 8);
        assert_eq!(size_of::<EnvironmentRequest>(), ENVIRONMENT_WORDS * 8);
        assert_eq!(offset_of!(EnvironmentRequest, limits), 6 * 8);
        assert_eq!(offset_of!(EnvironmentRequest, notice), (6 + 2 * KINDS) * 8);
        assert_eq!(size_of::<SendRequest>(), SEND_WORDS * 8);
    }

    #[test]
    fn bind_requests_keep_page_and_rights_apart() {
        let request = BindRequest::new(0x1234_5000, FrameNumber(7), Rights::READ, 3);
        assert_eq!(request.page(), 0x1234_5000);
        assert_eq!(request.rights(), Some(Rights::READ));
        let forged = BindRequest { page_and_rights: 0x5000 | 0x100, frame: 0, capability: 0 };
        assert_eq!(forged.rights(), None, "MACHINE is no right of a page");
    }
}
