//! The record of losses: what was taken from an environment by force.
//!
//! Lost names are set in a bitmap with a bit for each name that the machine has, which can never
//! overflow; every loss goes into a ring too, which can. Each kind of resource has an epoch that
//! goes up with each loss, so that a reader notices what came while it read.

use crate::binding::Bindings;
use crate::memory::{FrameMemory, TranslationCache};
use core::sync::atomic::Ordering;
use exo_abi::contract::{KINDS, LOSS_SLOTS, LOSSES_WORD, Loss};
use exo_abi::layout::{LOSS_RING, LOST_FRAMES_PAGES, LOST_NAMES};
use exo_abi::name::PAGE_SIZE;
use exo_abi::{Error, FrameNumber, Kind};

/// The bits of a page of the bitmap.
const PAGE_BITS: usize = PAGE_SIZE as usize * 8;
/// The words of a page.
const WORDS: usize = 512;

/// The record of one environment, in frames that it donated.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    ring: FrameNumber,
    /// A frame with the number of each frame of the bitmap, a word each.
    directory: FrameNumber,
    pages: usize,
    count: u64,
    epochs: [u64; KINDS],
    /// The words of the bitmap with bits of each kind in them: first, and behind the last.
    touched: [(usize, usize); KINDS],
}

/// No word of the bitmap.
const UNTOUCHED: (usize, usize) = (usize::MAX, 0);

impl Record {
    /// The record of nobody.
    pub const EMPTY: Self = Self {
        ring: FrameNumber(0),
        directory: FrameNumber(0),
        pages: 0,
        count: 0,
        epochs: [0; KINDS],
        touched: [UNTOUCHED; KINDS],
    };

    /// How many pages the bitmap has on a machine with `frames_total` frames: one is for the other
    /// kinds. What its directory has no place for, 64 GiB on, is only recorded in the ring.
    pub const fn bitmap_pages(frames_total: usize) -> usize {
        let pages = 1 + frames_total.div_ceil(PAGE_BITS);
        let most =
            if WORDS < LOST_FRAMES_PAGES as usize { WORDS } else { LOST_FRAMES_PAGES as usize };
        if pages < most { pages } else { most }
    }

    /// How many frames a record is made of: ring, directory, bitmap.
    pub const fn frames_for(frames_total: usize) -> usize {
        2 + Self::bitmap_pages(frames_total)
    }

    /// An empty record of environment slot `index`, made of frames that it donated and mapped
    /// where it can read it.
    ///
    /// # Errors
    /// [`Error::DonationSpent`], [`Error::NoEnvironment`].
    pub fn create(
        bindings: &mut Bindings<'_, impl FrameMemory + TranslationCache>,
        index: u16,
    ) -> Result<Self, Error> {
        let ring = bindings.take_donated(index)?;
        bindings.map_shared(index, LOSS_RING, ring, false)?;
        let directory = bindings.take_donated(index)?;
        let pages = Self::bitmap_pages(bindings.frames.count());
        for (page, word) in bindings.machine.page(directory).iter().enumerate().take(pages) {
            let frame = bindings.take_donated(index)?;
            let address = LOST_NAMES + page as u64 * PAGE_SIZE;
            bindings.map_shared(index, address, frame, false)?;
            word.store(u64::from(frame.0), Ordering::Relaxed);
        }
        Ok(Self { ring, directory, pages, ..Self::EMPTY })
    }

    /// The epoch of a kind: how many losses of it there have been.
    pub fn epoch(&self, kind: Kind) -> u64 {
        self.epochs[kind as usize]
    }

    /// Records the loss of what has this number at `time`, in nanoseconds since boot, and returns the kind's new
    /// epoch.
    pub fn note(&mut self, memory: &impl FrameMemory, kind: Kind, number: u32, time: u64) -> u64 {
        if let Some(bit) = kind.lost_bit(number) {
            self.with_word(memory, bit / 64, |bits| bits | 1 << (bit % 64));
            let touched = &mut self.touched[kind as usize];
            *touched = (touched.0.min(bit / 64), touched.1.max(bit / 64 + 1));
        }
        let epoch = self.epochs[kind as usize] + 1;
        self.epochs[kind as usize] = epoch;
        let ring = memory.page(self.ring);
        let slot = (self.count % LOSS_SLOTS as u64) as usize;
        let loss = Loss { epoch, kind: kind as u64, name: kind.name(number), time };
        for (word, value) in
            ring[LOSSES_WORD..].as_chunks::<4>().0[slot].iter().zip(loss.to_words())
        {
            word.store(value, Ordering::Relaxed);
        }
        self.count += 1;
        // Who sees the count sees the loss.
        ring[0].store(self.count, Ordering::Release);
        epoch
    }

    /// Takes note that the losses of a kind up to `epoch` have been read, and clears their bitmap.
    /// Takes a step for each word between the first and the last loss.
    ///
    /// # Errors
    /// [`Error::StaleEpoch`] if it is not the current epoch.
    pub fn acknowledge(
        &mut self,
        memory: &impl FrameMemory,
        kind: Kind,
        epoch: u64,
    ) -> Result<(), Error> {
        if epoch != self.epochs[kind as usize] {
            return Err(Error::StaleEpoch);
        }
        let (first, end) = core::mem::replace(&mut self.touched[kind as usize], UNTOUCHED);
        for word in first..end {
            self.with_word(memory, word, |_| 0);
        }
        Ok(())
    }

    fn with_word(&self, memory: &impl FrameMemory, word: usize, change: impl FnOnce(u64) -> u64) {
        let page = word / WORDS;
        if page < self.pages {
            let frame = memory.page(self.directory)[page % WORDS].load(Ordering::Relaxed);
            let word = &memory.page(FrameNumber(frame as u32))[word % WORDS];
            word.store(change(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }
}
