//! An address space: its donated frames, its software TLB, its hardware tables as a cache of that.

use crate::frame::{END, FrameTable};
use crate::memory::{FrameMemory, Page, TranslationCache};
use crate::pool::Pool;
use crate::tables::{self, BOUND, DEPTH, LEAF_SPAN};
use crate::tlb::Tlb;
use core::sync::atomic::Ordering;
use exo_abi::name::PAGE_SIZE;
use exo_abi::{Error, FrameNumber};

/// The pages that one instruction can need at once: its own bytes, what it reads and what it writes,
/// each across the end of a page.
const PAGES_AT_ONCE: u32 = 6;

/// The frames that always remain for the cache of hardware tables: a table of each level below the
/// root for every page that one instruction can need. With fewer, refills for one page could take
/// the tables of another for ever.
pub(crate) const CACHE_MINIMUM: u32 = PAGES_AT_ONCE * DEPTH;

/// The address space of one environment.
#[derive(Debug)]
pub struct Space {
    /// The top-level table.
    pub(crate) root: FrameNumber,
    pub(crate) tlb: Tlb,
    pub(crate) pool: Pool,
    /// The first frame of the list of all that was donated.
    pub(crate) donated: FrameNumber,
    /// How many frames are hardware tables of the cache.
    pub(crate) tables: u32,
    /// Where the search for an entry that may go begins; it moves on with each.
    pub(crate) hand: u16,
    /// Where the search for a leaf table that may go begins.
    reclaim: u64,
}

impl Space {
    /// A space with nothing in it yet.
    pub(crate) fn new(root: FrameNumber, tlb: Tlb) -> Self {
        Self { root, tlb, pool: Pool::EMPTY, donated: END, tables: 0, hand: 0, reclaim: 0 }
    }

    /// The leaf table of a page, building the tables that are missing from the pool. With
    /// `reclaim`, other tables are dropped if the pool is too small; that succeeds as long as
    /// [`CACHE_MINIMUM`] holds.
    pub(crate) fn leaf<'m, M: FrameMemory + TranslationCache>(
        &mut self,
        m: &'m M,
        frames: &mut FrameTable<'_>,
        page: u64,
        reclaim: bool,
    ) -> Option<&'m Page> {
        loop {
            let missing = match tables::walk(m, self.root, page) {
                Ok(leaf) => return Some(m.page(leaf)),
                Err(missing) => missing,
            };
            if self.pool.count() >= missing {
                self.tables += missing;
                return tables::build(m, self.root, page, || {
                    let frame = self.pool.pop(frames)?;
                    m.clear(frame);
                    Some(frame)
                });
            }
            if !reclaim || !self.reclaim_tables(m, frames) {
                return None;
            }
        }
    }

    /// Drops one leaf table, and those above it that are empty then. What only the leaf knew of its
    /// pages, their rights and their use, goes into the software TLB, once no CPU can change it any
    /// more.
    fn reclaim_tables<M: FrameMemory + TranslationCache>(
        &mut self,
        m: &M,
        frames: &mut FrameTable<'_>,
    ) -> bool {
        let next = tables::next_leaf(m, self.root, self.reclaim);
        let Some(start) = next.or_else(|| tables::next_leaf(m, self.root, 0)) else { return false };
        let Ok(leaf) = tables::walk(m, self.root, start).map(|leaf| m.page(leaf)) else {
            return false;
        };
        self.reclaim = start + LEAF_SPAN;
        let unlinked = tables::unlink(m, self.root, start);
        m.flush_space(self.root);
        for (place, entry) in leaf.iter().enumerate() {
            let entry = entry.load(Ordering::Relaxed);
            let page = start + place as u64 * PAGE_SIZE;
            if entry & BOUND != 0
                && let Some(place) = self.tlb.find(m, page)
            {
                place.entry.remember(entry);
            }
        }
        for table in unlinked.into_iter().flatten() {
            self.tables = self.tables.saturating_sub(1);
            self.pool.push(frames, table);
        }
        true
    }

    /// Takes a cleared frame for good, leaving enough for the cache.
    ///
    /// # Errors
    /// [`Error::DonationSpent`].
    pub(crate) fn take<M: FrameMemory>(
        &mut self,
        memory: &M,
        frames: &mut FrameTable<'_>,
    ) -> Result<FrameNumber, Error> {
        if self.pool.count() + self.tables <= CACHE_MINIMUM {
            return Err(Error::DonationSpent);
        }
        let frame = self.pool.pop(frames).ok_or(Error::DonationSpent)?;
        memory.clear(frame);
        Ok(frame)
    }

    /// Adds a donated frame to the list and the pool.
    pub(crate) fn add(&mut self, frames: &mut FrameTable<'_>, frame: FrameNumber) {
        frames.update(frame, |record| record.donated = self.donated);
        self.donated = frame;
        self.pool.push(frames, frame);
    }
}
