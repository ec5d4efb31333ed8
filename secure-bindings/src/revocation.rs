//! The life of address spaces, and taking frames back.
//!
//! The order of a break is the heart of it: hardware entry, translation caches, reverse map, then
//! the generation, and only then is the frame free.

use crate::binding::{Bindings, Shootdown};
use crate::frame::{END, FrameRecord, FrameTable, Link};
use crate::memory::{FrameMemory, TranslationCache};
use crate::record::Record;
use crate::space::{CACHE_MINIMUM, Space};
use crate::tables::{self, LEAF_SPAN, RECURSIVE_SLOT, SHARED_SLOT};
use crate::tlb::{FRAMES_MAX, Tlb};
use core::ops::Range;
use core::sync::atomic::Ordering;
use exo_abi::layout::{LOST_FRAMES, SOFTWARE_TLB, USER_END};
use exo_abi::name::PAGE_SIZE;
use exo_abi::tables::FrameState;
use exo_abi::{CapabilityName, Error, FrameNumber};

impl<'a, M: FrameMemory + TranslationCache> Bindings<'a, M> {
    /// How many frames an environment must be given for itself on a machine with `frames_total`
    /// frames, beyond those of its software TLB: root, directory of the software TLB, the tables
    /// of the shared pages, the control, contract and vector pages, the record of losses, and the
    /// least cache of hardware tables.
    pub const fn donation_minimum(frames_total: usize) -> usize {
        let bitmap_end =
            LOST_FRAMES - USER_END + Record::bitmap_pages(frames_total) as u64 * PAGE_SIZE;
        let bitmap_leaves = bitmap_end.div_ceil(LEAF_SPAN) as usize;
        let shared_tables = 2 + bitmap_leaves + 1;
        2 + shared_tables + 3 + Record::frames_for(frames_total) + CACHE_MINIMUM as usize
    }

    /// Creates the address space of environment slot `index` from frames that somebody holds. `tlb_frames` of them become its software TLB, which it
    /// can read. `common` gives the top-level entries that are the same in all spaces; of these
    /// the lower half is taken behind the shared pages only.
    ///
    /// Bindings to the donated frames are broken.
    ///
    /// # Errors
    /// [`Error::NoEnvironment`] beyond the last slot, [`Error::WrongState`] if it is taken,
    /// [`Error::BadArgument`] for a size of the software TLB that cannot be or a frame listed
    /// twice, [`Error::TooFewFrames`], [`Error::NoFrame`], [`Error::FramePinned`].
    pub fn create(
        &mut self,
        index: u16,
        donated: &[FrameNumber],
        tlb_frames: usize,
        common: impl Fn(usize) -> u64,
    ) -> Result<(), Error> {
        let m = self.machine;
        let place = self.spaces.get(usize::from(index)).ok_or(Error::NoEnvironment)?;
        if place.is_some() {
            return Err(Error::WrongState);
        }
        if !(1..=FRAMES_MAX).contains(&tlb_frames) {
            return Err(Error::BadArgument);
        }
        if donated.len() < Self::donation_minimum(self.frames.count()) + tlb_frames {
            return Err(Error::TooFewFrames);
        }
        self.frames.check_each(donated, Self::may_donate)?;
        let tlb = Tlb { directory: END, frames: tlb_frames as u16 };
        let mut space = Space::new(END, tlb);
        for &frame in donated {
            self.break_frame(frame, false);
            self.frames.donate(frame, index);
            space.pool.push(&mut self.frames, frame);
        }
        space.root = space.take(m, &mut self.frames)?;
        for (at, entry) in m.page(space.root).iter().enumerate() {
            let value = match at {
                0..=SHARED_SLOT => 0,
                RECURSIVE_SLOT => tables::recursive_entry(space.root),
                _ => common(at),
            };
            entry.store(value, Ordering::Relaxed);
        }
        space.tlb.directory = space.take(m, &mut self.frames)?;
        let directory = space.tlb.directory;
        for word in m.page(directory).iter().take(tlb_frames) {
            let frame = space.take(m, &mut self.frames)?;
            word.store(u64::from(frame.0), Ordering::Relaxed);
        }
        self.spaces[usize::from(index)] = Some(space);
        for (at, word) in m.page(directory).iter().enumerate().take(tlb_frames) {
            let frame = FrameNumber(word.load(Ordering::Relaxed) as u32);
            self.map_shared(index, SOFTWARE_TLB + at as u64 * PAGE_SIZE, frame, false)?;
        }
        Ok(())
    }

    /// Whether a frame may become kernel memory.
    fn may_donate(frames: &FrameTable<'_>, frame: FrameNumber) -> Result<(), Error> {
        match frames.state(frame) {
            Some(FrameState::Held) if frames.is_unpinned(frame) => Ok(()),
            Some(FrameState::Held | FrameState::Donated) => Err(Error::FramePinned),
            _ => Err(Error::NoFrame),
        }
    }

    /// Maps a page that the kernel provides, at an address of the range that begins with
    /// [`layout::CONTROL`](exo_abi::layout::CONTROL): readable by the environment, perhaps
    /// writable, never executable, and for good. Tables come from the pool.
    ///
    /// # Errors
    /// [`Error::NoEnvironment`], [`Error::NoFrame`], [`Error::BadAddress`] outside of the range or
    /// where a page is mapped already, [`Error::DonationSpent`].
    pub fn map_shared(
        &mut self,
        index: u16,
        address: u64,
        frame: FrameNumber,
        writable: bool,
    ) -> Result<(), Error> {
        let m = self.machine;
        self.frames.entry(frame)?;
        let (space, frames) = self.split(index).ok_or(Error::NoEnvironment)?;
        let in_range = address >> 39 == SHARED_SLOT as u64;
        if !in_range || !address.is_multiple_of(PAGE_SIZE) {
            return Err(Error::BadAddress);
        }
        let root = space.root;
        let supply = || space.take(m, frames).ok();
        let leaf = tables::build(m, root, address, supply).ok_or(Error::DonationSpent)?;
        let entry = &leaf[tables::index(address, 0)];
        if entry.load(Ordering::Relaxed) != 0 {
            return Err(Error::BadAddress);
        }
        entry.store(tables::shared_entry(frame, writable), Ordering::Release);
        Ok(())
    }

    /// Takes a cleared frame out of the pool for good. The last frames stay, for hardware tables.
    ///
    /// # Errors
    /// [`Error::NoEnvironment`], [`Error::DonationSpent`].
    pub fn take_donated(&mut self, index: u16) -> Result<FrameNumber, Error> {
        let m = self.machine;
        let (space, frames) = self.split(index).ok_or(Error::NoEnvironment)?;
        space.take(m, frames)
    }

    /// Makes a held frame kernel memory of environment slot `index`, and breaks every binding to
    /// it. A frame that is pinned, free or donated already stays what it is: the caller has asked
    /// [`FrameTable::owned`](crate::FrameTable::owned) before.
    pub fn donate(&mut self, index: u16, frame: FrameNumber) {
        if self.space(index).is_none() || Self::may_donate(&self.frames, frame).is_err() {
            return;
        }
        self.break_frame(frame, false);
        self.frames.donate(frame, index);
        if let Some((space, frames)) = self.split(index) {
            space.pool.push(frames, frame);
        }
    }

    /// Makes some kernel memory of an environment a frame again that it holds, under this guard: what the
    /// cache of hardware tables can do without.
    ///
    /// # Errors
    /// [`Error::NoEnvironment`], [`Error::DonationSpent`] if that would leave too little.
    pub fn undonate(&mut self, index: u16, guard: CapabilityName) -> Result<FrameNumber, Error> {
        let frame = self.take_donated(index)?;
        self.frames.undonate(frame, index, guard);
        Ok(frame)
    }

    /// Takes the frame out of every address space. When this returns, no CPU reaches it by a
    /// binding. With `lost`, faults on the pages say from now on that their frame was taken. The
    /// frame stays held.
    pub fn break_frame(&mut self, frame: FrameNumber, lost: bool) {
        let m = self.machine;
        let mut link = self.frames.record(frame).chain;
        while link != Link::NONE {
            let Some(space) = self.space_mut(link.space()) else { break };
            let entry = space.tlb.entry(m, link.slot());
            let page = entry.page();
            let (tlb, slot) = (space.tlb, link.slot());
            link = entry.links().0;
            // First the software TLB, then the hardware: see `refill`.
            if lost {
                entry.lose();
            } else {
                tlb.empty(m, slot);
            }
            if let Some(hardware) = space.entry(m, page) {
                Shootdown::new(m, space.root).clear(hardware, page);
            }
        }
        self.frames.unchain_all(frame);
    }

    /// Takes from all environments but one what they have bound of the frames that `name`, or one
    /// below it, guards. Looks at these frames only.
    pub fn revoke(&mut self, name: &CapabilityName, index: u16, frames: Range<u32>) {
        let m = self.machine;
        for frame in frames.map(FrameNumber) {
            let FrameRecord { chain: mut link, guard, .. } = *self.frames.record(frame);
            while name.is_prefix_of(&guard)
                && let Some(entry) = self.entry_at(link)
                && let Some(space) = self.space(link.space())
            {
                let (next, mut shootdown) = (entry.links().0, Shootdown::new(m, space.root));
                if link.space() != index {
                    self.remove(link, &mut shootdown);
                }
                shootdown.finish();
                link = next;
            }
        }
    }

    /// Gives a held frame back: breaks it, then makes it free under a new generation. Returns
    /// whether it did; a frame that is pinned, donated or free stays what it is.
    pub fn free(&mut self, frame: FrameNumber) -> bool {
        self.take_back(frame, false)
    }

    /// Takes a held frame by force: like [`free`](Self::free), but faults on the pages say that
    /// their frame was lost.
    pub fn repossess(&mut self, frame: FrameNumber) -> bool {
        self.take_back(frame, true)
    }

    fn take_back(&mut self, frame: FrameNumber, lost: bool) -> bool {
        if !self.frames.is_unpinned(frame) {
            return false;
        }
        self.break_frame(frame, lost);
        self.frames.release(frame);
        true
    }

    /// Ends an address space: takes every binding away and frees all that the environment holds or has
    /// donated, in a step for each entry of the software TLB and each frame. No CPU may have it active.
    pub fn destroy(&mut self, index: u16) {
        let m = self.machine;
        let Some(space) = self.space(index) else { return };
        let (root, tlb) = (space.root, space.tlb);
        for entry in m.page(root) {
            entry.store(0, Ordering::Relaxed);
        }
        m.flush_space(root);
        for slot in 0..tlb.slots() {
            let entry = tlb.entry(m, slot);
            if entry.is_valid() {
                self.unchain(entry);
            }
        }
        self.spaces[usize::from(index)] = None;
        let (mut from, all) = (0, self.frames.count() as u32);
        while let Some(frame) = self.frames.next_owned(index, from..all) {
            self.break_frame(frame, false);
            self.frames.release(frame);
            from = frame.0 + 1;
        }
    }
}
