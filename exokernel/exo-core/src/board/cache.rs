//! What a cell remembers of its address space, so that the hardware's tables need not be walked each
//! time. It holds as long as nothing is flushed that was there before: the count of breaks says so.

use crate::board::EnvCell;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::FrameNumber;
use exo_abi::layout::USER_END;
use exo_abi::name::PAGE_SIZE;
use secure_bindings::{FrameMemory, LEAF_SPAN, leaf_table};

impl EnvCell<'_> {
    /// The frame of a page to which the program can write, if that was seen since the last break.
    #[inline]
    pub fn remembered(&self, page: u64, breaks: u64) -> Option<FrameNumber> {
        let [last, frame, at] = [0, 1, 2].map(|word: usize| self.page[word].load(Relaxed));
        (last == page && at == breaks).then_some(FrameNumber(frame as u32))
    }

    pub(crate) fn remember(&self, page: u64, frame: FrameNumber, breaks: u64) {
        for (stored, word) in self.page.iter().zip([page, frame.0.into(), breaks]) {
            stored.store(word, Relaxed);
        }
    }

    /// The leaf table of a page, if that was looked for last.
    #[inline]
    pub(crate) fn known_leaf(&self, page: u64, breaks: u64) -> Option<FrameNumber> {
        let [last, frame, at] = [0, 1, 2].map(|word: usize| self.leaf[word].load(Relaxed));
        (last == page / LEAF_SPAN && at == breaks).then_some(FrameNumber(frame as u32))
    }

    /// The leaf table of a page, if there is one.
    #[inline]
    pub(crate) fn leaf(
        &self,
        machine: &impl FrameMemory,
        page: u64,
        breaks: u64,
    ) -> Option<FrameNumber> {
        self.known_leaf(page, breaks).or_else(|| self.find_leaf(machine, page, breaks))
    }

    #[inline(never)]
    pub(crate) fn find_leaf(
        &self,
        machine: &impl FrameMemory,
        page: u64,
        breaks: u64,
    ) -> Option<FrameNumber> {
        // The other tables are not its own.
        let frame = leaf_table(machine, self.root(), page).filter(|_| page < USER_END)?;
        for (stored, word) in self.leaf.iter().zip([page / LEAF_SPAN, frame.0.into(), breaks]) {
            stored.store(word, Relaxed);
        }
        Some(frame)
    }

    /// Whether an upcall was written last to one of these pages.
    pub(crate) fn remembers(&self, page: u64, count: u64) -> bool {
        self.page[0].load(Relaxed).wrapping_sub(page) < count * PAGE_SIZE
    }
}
