//! Frames without a use, on the surrender list.
//!
//! When the program is late with a debt, the kernel takes what is listed before all else, without an
//! upcall. As long as no more is taken at a time than is ready, a loss by force costs no contents, and
//! asks for no more than that need no answer.
//!
//! What holds: what is listed has no contents. So a frame is struck off before it is used. One that the
//! kernel has just found on the list is gone when the pager binds it, which it notices as any loss.

use super::Pager;
use crate::memory::kernel::Kernel;
use crate::memory::page_table::PageTable;
use crate::memory::replacement::Replacement;
use crate::memory::resident::HeldFrame;
use crate::memory::store::BackingStore;
use exo_user::revocation::SURRENDER_SLOTS;

/// How many pages make room for the reserve at a fault.
pub(super) const EVICTIONS: usize = 2;

/// The frames, by their places on the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserve {
    wanted: usize,
    ready: usize,
    pub(super) places: [Option<HeldFrame>; SURRENDER_SLOTS],
}

impl Reserve {
    pub(super) const NONE: Self = Self { wanted: 0, ready: 0, places: [None; SURRENDER_SLOTS] };
}

impl<T: PageTable, R: Replacement, S: BackingStore, K: Kernel> Pager<'_, T, R, S, K> {
    /// Keeps so many frames ready to be taken by force, at most [`SURRENDER_SLOTS`], and leaves asks
    /// for no more than these to the kernel. Pages have so many frames less.
    pub fn keep_ready(&mut self, frames: usize) {
        self.reserve.wanted = frames.min(SURRENDER_SLOTS);
    }

    /// How many frames are ready.
    pub fn ready(&self) -> usize {
        self.reserve.ready
    }

    /// Puts frames in the places of those that are gone, from the kernel, or else of so many pages of
    /// the policy's choice at most.
    pub(super) fn fill_reserve(&mut self, evictions: usize) {
        let mut left = evictions;
        for place in 0..SURRENDER_SLOTS {
            if self.reserve.ready >= self.reserve.wanted {
                return;
            }
            if self.reserve.places[place].is_some() {
                continue;
            }
            let fresh = if self.kernel.debt() == 0 { self.kernel.allocate() } else { None };
            if fresh.is_none() && left == 0 {
                return;
            }
            left -= usize::from(fresh.is_none());
            let Some(frame) = fresh.or_else(|| self.evict().ok().flatten()) else { return };
            self.reserve.places[place] = Some(frame);
            self.reserve.ready += 1;
            self.kernel.list(place as u8, Some(frame));
        }
    }

    /// Forgets the frames of the reserve that were taken.
    pub(super) fn lose_reserve(&mut self) {
        for place in 0..SURRENDER_SLOTS {
            if self.reserve.places[place].is_some_and(|frame| !self.kernel.holds(frame)) {
                self.strike(place);
            }
        }
    }

    /// Takes a frame out of the reserve, for a page that nothing else makes room for.
    pub(super) fn take_ready(&mut self) -> Option<HeldFrame> {
        let place = self.reserve.places.iter().position(Option::is_some)?;
        self.strike(place).filter(|&frame| self.kernel.holds(frame))
    }

    fn strike(&mut self, place: usize) -> Option<HeldFrame> {
        let frame = self.reserve.places[place].take()?;
        self.reserve.ready -= 1;
        self.kernel.list(place as u8, None);
        Some(frame)
    }
}
