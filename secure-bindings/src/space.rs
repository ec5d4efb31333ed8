//! An address space: its donated frames, its software TLB, its hardware tables as a cache of that.

use crate::frame::{END, FrameTable};
use crate::memory::{FrameMemory, Page, TranslationCache};
use crate::pool::Pool;
use crate::tables::{self, BOUND, DEPTH, LEAF_SPAN};
use crate::tlb::Tlb;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::name::PAGE_SIZE;
use exo_abi::{Error, FrameNumber};

/// The pages that one instruction can need at once: its own bytes, what it reads and what it writes,
/// each across the end of a page.
const PAGES_AT_ONCE: u32 = 6;

/// The frames that always remain for the cache of hardware tables: a table of each level below the
/// root for every page that one instruction can need. With fewer, refills for one page could take
/// the tables of another for ever.
pub(crate) const CACHE_MINIMUM: u32 = PAGES_AT_ONCE * DEPTH;

/// How many entries of a table are looked at at once.
const ROW: usize = 16;

/// The address space of one environment.
#[derive(Debug)]
pub struct Space {
    /// The top-level table.
    pub(crate) root: FrameNumber,
    pub(crate) tlb: Tlb,
    pub(crate) pool: Pool,
    /// How many frames are hardware tables of the cache.
    pub(crate) tables: u32,
    /// Where the search for an entry that may go begins; it moves on with each.
    pub(crate) hand: u16,
    /// Where the search for a leaf table that may go begins.
    reclaim: u64,
    /// Leaf tables that were looked for, each with the number of its span of addresses.
    known: [Cell<(u64, FrameNumber)>; KNOWN],
}

/// How many leaf tables are remembered. What is done to one page often needs another one's: a list is
/// read where the program keeps it, and a frame is mapped by several.
const KNOWN: usize = 8;
/// No leaf table.
const UNKNOWN: (u64, FrameNumber) = (u64::MAX, END);

impl Space {
    /// A space with nothing in it yet.
    pub(crate) fn new(root: FrameNumber, tlb: Tlb) -> Self {
        let known = [const { Cell::new(UNKNOWN) }; KNOWN];
        Self { root, tlb, pool: Pool::EMPTY, tables: 0, hand: 0, reclaim: 0, known }
    }

    /// The leaf table of a page, or how many tables are missing.
    #[inline(always)]
    pub(crate) fn table<'m, M: FrameMemory>(&self, m: &'m M, page: u64) -> Result<&'m Page, u32> {
        let span = page / LEAF_SPAN;
        let known = &self.known[span as usize % KNOWN];
        let (of, mut leaf) = known.get();
        if of != span {
            leaf = tables::walk(m, self.root, page)?;
            known.set((span, leaf));
        }
        Ok(m.page(leaf))
    }

    /// The hardware's entry of a page, if there is a table for it.
    #[inline]
    pub(crate) fn entry<'m, M: FrameMemory>(&self, m: &'m M, page: u64) -> Option<&'m AtomicU64> {
        Some(&self.table(m, page).ok()?[tables::index(page, 0)])
    }

    /// The leaf table of a page, building the tables that are missing from the pool. With
    /// `reclaim`, other tables are dropped if the pool is too small; that succeeds as long as
    /// [`CACHE_MINIMUM`] holds.
    #[inline]
    pub(crate) fn leaf<'m, M: FrameMemory + TranslationCache>(
        &mut self,
        m: &'m M,
        frames: &mut FrameTable<'_>,
        page: u64,
        reclaim: bool,
    ) -> Option<&'m Page> {
        match self.table(m, page) {
            Ok(leaf) => Some(leaf),
            Err(missing) => self.build(m, frames, (page, missing), reclaim),
        }
    }

    #[inline(never)]
    fn build<'m, M: FrameMemory + TranslationCache>(
        &mut self,
        m: &'m M,
        frames: &mut FrameTable<'_>,
        (page, mut missing): (u64, u32),
        reclaim: bool,
    ) -> Option<&'m Page> {
        loop {
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
            // More may be missing than before.
            missing = self.table(m, page).err()?;
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
        self.known = [const { Cell::new(UNKNOWN) }; KNOWN];
        m.flush_space(self.root);
        for (row, entries) in leaf.as_chunks::<ROW>().0.iter().enumerate() {
            // Most tables are mostly empty.
            let any = entries.iter().fold(0, |any, entry| any | entry.load(Ordering::Relaxed));
            for (column, entry) in entries.iter().enumerate().filter(|_| any & BOUND != 0) {
                let (word, page) = (entry.load(Ordering::Relaxed), (ROW * row + column) as u64);
                if word & BOUND != 0
                    && let Some(place) = self.tlb.find(m, start + page * PAGE_SIZE)
                {
                    place.entry.set_hardware(word);
                }
            }
        }
        for table in unlinked.into_iter().flatten() {
            self.tables = self.tables.saturating_sub(1);
            self.pool.push(frames, table);
        }
        true
    }

    /// Takes a cleared frame for good, leaving enough for the cache, which may lose a table by it.
    ///
    /// # Errors
    /// [`Error::DonationSpent`].
    pub(crate) fn take<M: FrameMemory + TranslationCache>(
        &mut self,
        m: &M,
        frames: &mut FrameTable<'_>,
    ) -> Result<FrameNumber, Error> {
        if self.pool.count() + self.tables <= CACHE_MINIMUM {
            return Err(Error::DonationSpent);
        }
        if self.pool.count() == 0 {
            self.reclaim_tables(m, frames);
        }
        let frame = self.pool.pop(frames).ok_or(Error::DonationSpent)?;
        m.clear(frame);
        Ok(frame)
    }
}
