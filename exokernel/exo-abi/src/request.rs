//! What calls read from the caller's memory.

use crate::contract::KINDS;
use crate::layout::LABEL;
use crate::name::{EnvName, FrameNumber, PAGE_SIZE};
use crate::rights::Rights;

/// Pages in a row to bind to frames in a row, mostly one. Two words: `page | rights` and
/// `frame | capability << 32 | more << 48`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct BindRequest {
    /// The address of the page, with [`Rights`] in the low twelve bits.
    pub page_and_rights: u64,
    /// The frame's number.
    pub frame: u32,
    /// The caller's capability slot that dominates the frames' guards.
    pub capability: u16,
    /// How many pages there are behind the first, each with the frame behind the one before.
    pub more: u16,
}

/// The words of a [`BindRequest`].
pub const BIND_WORDS: usize = 2;

impl BindRequest {
    /// A request to bind `frame` at the page with address `page`.
    pub const fn new(page: u64, frame: FrameNumber, rights: Rights, capability: u32) -> Self {
        Self {
            page_and_rights: page & !(PAGE_SIZE - 1) | rights.bits() as u64,
            frame: frame.0,
            // No slot has such a number.
            capability: if capability > u16::MAX as u32 { u16::MAX } else { capability as u16 },
            more: 0,
        }
    }

    /// A request to bind `count` pages, at least one and at most 65,536, from `page` on to frames from
    /// `frame` on.
    pub const fn run(
        page: u64,
        frame: FrameNumber,
        count: u64,
        rights: Rights,
        capability: u32,
    ) -> Self {
        let mut request = Self::new(page, frame, rights, capability);
        request.more = (count - 1) as u16;
        request
    }

    /// Makes another request part of this one, if it goes on where this one ends. Returns whether it did.
    pub fn append(&mut self, next: &Self) -> bool {
        let (count, pages) = (self.count(), self.count() + next.count());
        let follows = next.page_and_rights == self.page_and_rights.wrapping_add(count * PAGE_SIZE)
            && u64::from(next.frame) == u64::from(self.frame) + count
            && next.capability == self.capability
            && pages <= 1 << 16;
        if follows {
            self.more = (pages - 1) as u16;
        }
        follows
    }

    /// How many pages it is about.
    pub const fn count(&self) -> u64 {
        self.more as u64 + 1
    }

    /// The same as requests none of which reaches over a multiple of `span`, a power of two. None of
    /// the numbers may overflow.
    pub fn pieces(self, span: u64) -> impl Iterator<Item = Self> + Clone {
        let mut left = Some(self);
        core::iter::from_fn(move || {
            let request = left?;
            let here = (span - request.page() % span) / PAGE_SIZE;
            let rest = request.count().checked_sub(here).filter(|&rest| rest > 0);
            left = rest.map(|rest| Self {
                page_and_rights: request.page_and_rights + here * PAGE_SIZE,
                frame: request.frame + here as u32,
                more: (rest - 1) as u16,
                ..request
            });
            Some(Self { more: (request.count().min(here) - 1) as u16, ..request })
        })
    }

    /// The multiples of `span`, a power of two, in whose spans its pages are.
    #[inline]
    pub fn starts(self, span: u64) -> impl Iterator<Item = u64> {
        let end = self.page() + self.count() * PAGE_SIZE;
        (self.page() & !(span - 1)..end).step_by(span as usize)
    }

    /// The address of the first page.
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
            capability: (words[1] >> 32) as u16,
            more: (words[1] >> 48) as u16,
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
    fn requests_that_go_on_are_one_and_come_apart_again() {
        let request = |at: u64| {
            BindRequest::new(0xd000 + at * PAGE_SIZE, FrameNumber(7 + at as u32), Rights::READ, 3)
        };
        let mut run = request(0);
        for at in 1..40 {
            assert!(run.append(&request(at)));
        }
        assert_eq!(run, BindRequest::run(0xd000, FrameNumber(7), 40, Rights::READ, 3));
        assert!(!run.append(&request(41)), "a page is missing");
        assert!(!run.append(&BindRequest { frame: 0, ..request(40) }));
        assert!(!run.append(&BindRequest { capability: 0, ..request(40) }));
        let page = request(40).page();
        assert!(!run.append(&BindRequest { page_and_rights: page, ..request(40) }), "other rights");
        for span in [PAGE_SIZE, 16 * PAGE_SIZE, 512 * PAGE_SIZE] {
            let mut whole: Option<BindRequest> = None;
            for piece in run.pieces(span) {
                let last = piece.page() + (piece.count() - 1) * PAGE_SIZE;
                assert_eq!(piece.page() / span, last / span);
                match &mut whole {
                    Some(whole) => assert!(whole.append(&piece)),
                    None => whole = Some(piece),
                }
            }
            assert_eq!(whole, Some(run));
        }
        let mut longest = BindRequest::run(0x1000, FrameNumber(0), 1 << 16, Rights::READ, 0);
        let page = 0x1000 + (PAGE_SIZE << 16);
        let next = BindRequest::new(page, FrameNumber(1 << 16), Rights::READ, 0);
        assert!(!longest.append(&next), "there is no number for it");
    }

    #[test]
    fn bind_requests_keep_page_and_rights_apart() {
        let request = BindRequest::new(0x1234_5000, FrameNumber(7), Rights::READ, 3);
        assert_eq!(request.page(), 0x1234_5000);
        assert_eq!(request.rights(), Some(Rights::READ));
        let forged =
            BindRequest { page_and_rights: 0x5000 | 0x100, frame: 0, capability: 0, more: 0 };
        assert_eq!(forged.rights(), None, "MACHINE is no right of a page");
    }
}
