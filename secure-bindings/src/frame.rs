//! The frame table: what each frame of the machine is, whose, and under which guard.
//!
//! Half of it, [`FrameEntry`], is mapped into every environment; the kernel alone sees the other
//! half, [`FrameRecord`].

use crate::free_map::FreeMap;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::tables::{FrameEntry, FrameState};
use exo_abi::{CapabilityName, Error, FrameNumber};

/// Where a binding is: a slot of the software TLB of an environment. Chains of these are the
/// reverse map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link(pub(crate) u32);

impl Link {
    /// The end of a chain. No software TLB has so many slots.
    pub const NONE: Self = Self(u32::MAX);

    /// The binding in `slot` of the software TLB of environment slot `space`.
    pub const fn new(space: u16, slot: u16) -> Self {
        Self((space as u32) << 16 | slot as u32)
    }

    /// The slot in a column of the row in whose first column this one is.
    pub(crate) const fn column(self, column: usize) -> Self {
        Self(self.0 + column as u32)
    }

    /// The environment slot.
    pub const fn space(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The slot of its software TLB.
    pub const fn slot(self) -> u16 {
        self.0 as u16
    }
}

/// The end of a list of frames.
pub(crate) const END: FrameNumber = FrameNumber(u32::MAX);
/// What the kernel alone knows about a frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameRecord {
    /// The guard of a frame that somebody holds, and otherwise the name of nothing.
    pub(crate) guard: CapabilityName,
    /// The first of the frame's bindings.
    pub(crate) chain: Link,
    /// Whether it is in the list that is being checked.
    checked: bool,
    /// The next frame in the pool of donated frames without a use.
    pub(crate) pooled: FrameNumber,
    /// How many of its bindings are wired.
    pub(crate) wired: u32,
}

impl FrameRecord {
    /// The record of a frame that nobody holds.
    pub const EMPTY: Self = Self {
        guard: CapabilityName::NOTHING,
        chain: Link::NONE,
        checked: false,
        pooled: END,
        wired: 0,
    };
}

/// All frames of the machine, by number.
pub struct FrameTable<'a> {
    exposed: &'a [AtomicU64],
    records: &'a mut [FrameRecord],
    free: FreeMap<'a>,
    free_count: u64,
}

impl<'a> FrameTable<'a> {
    /// A table in which every frame is reserved. `exposed` has two words for each frame, `records`
    /// one entry, `free_words` has [`FreeMap::words_for`] the number of frames.
    pub fn new(
        exposed: &'a [AtomicU64],
        records: &'a mut [FrameRecord],
        free_words: &'a mut [u64],
    ) -> Self {
        let count = records.len().min(exposed.len() / 2).min(END.0 as usize);
        let free = FreeMap::new(free_words, count);
        let (records, _) = records.split_at_mut(free.capacity().min(count));
        records.fill(FrameRecord::EMPTY);
        for word in exposed {
            word.store(0, Ordering::Relaxed);
        }
        Self { exposed, records, free, free_count: 0 }
    }

    /// How many frames there are, whatever they are.
    pub fn count(&self) -> usize {
        self.records.len()
    }

    /// How many frames nobody holds.
    pub fn free_count(&self) -> u64 {
        self.free_count
    }

    /// At boot: a reserved frame becomes free. Other frames stay what they are.
    pub fn add_free(&mut self, frame: FrameNumber) {
        if self.state(frame) == Some(FrameState::Reserved) {
            self.change(frame, |entry| entry.state = FrameState::Free as u8);
            self.free.set(frame.0 as usize);
            self.free_count += 1;
        }
    }

    /// At boot: a reserved frame, with what is in it, becomes held. Other frames stay what they
    /// are.
    pub fn adopt(&mut self, frame: FrameNumber, owner: u16, guard: CapabilityName) {
        if self.state(frame) == Some(FrameState::Reserved) {
            self.hold(frame, owner, guard);
        }
    }

    /// Takes `wanted`, or any free frame for [`FrameNumber::ANY`]. What is in the frame stays: the
    /// caller clears it.
    ///
    /// # Errors
    /// [`Error::NoFrame`], [`Error::FrameTaken`], [`Error::NoFreeFrames`].
    pub fn allocate(
        &mut self,
        wanted: FrameNumber,
        owner: u16,
        guard: CapabilityName,
    ) -> Result<FrameNumber, Error> {
        let frame = if wanted == FrameNumber::ANY {
            FrameNumber(self.free.first_free().ok_or(Error::NoFreeFrames)? as u32)
        } else {
            match self.state(wanted) {
                None | Some(FrameState::Reserved) => return Err(Error::NoFrame),
                Some(FrameState::Free) => wanted,
                Some(FrameState::Held | FrameState::Donated) => return Err(Error::FrameTaken),
            }
        };
        self.free.clear(frame.0 as usize);
        self.free_count -= 1;
        self.hold(frame, owner, guard);
        Ok(frame)
    }

    fn assign(&self, frame: FrameNumber, state: FrameState, owner: u16) {
        self.change(frame, |entry| (entry.state, entry.owner) = (state as u8, owner));
    }

    fn hold(&mut self, frame: FrameNumber, owner: u16, guard: CapabilityName) {
        self.assign(frame, FrameState::Held, owner);
        self.update(frame, |record| record.guard = guard);
    }

    /// What everybody sees of the frame.
    ///
    /// # Errors
    /// [`Error::NoFrame`] beyond the table.
    pub fn entry(&self, frame: FrameNumber) -> Result<FrameEntry, Error> {
        let words = self.words(frame).ok_or(Error::NoFrame)?;
        Ok(FrameEntry::from_words([
            words[0].load(Ordering::Relaxed),
            words[1].load(Ordering::Relaxed),
        ]))
    }

    /// Asks `allow` for the guards of `count` frames from `first` on, once for those in a row that have
    /// the same.
    ///
    /// # Errors
    /// [`Error::NoFrame`] if nobody holds one of them, and what `allow` says.
    pub fn guards(
        &self,
        first: FrameNumber,
        count: u64,
        allow: impl Fn(&CapabilityName) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let first = first.0 as usize;
        let records = self.records.get(first..first + count as usize).ok_or(Error::NoFrame)?;
        let mut last = None;
        for record in records {
            if last != Some(record.guard) {
                if record.guard == CapabilityName::NOTHING {
                    return Err(Error::NoFrame);
                }
                allow(&record.guard)?;
                last = Some(record.guard);
            }
        }
        Ok(())
    }

    /// Whether `owner` may do what it likes with the frame.
    ///
    /// # Errors
    /// [`Error::NoFrame`] beyond the table or reserved, [`Error::NotOwner`] if it is free or
    /// somebody else's, [`Error::FramePinned`] if it is pinned or donated.
    pub fn owned(&self, frame: FrameNumber, owner: u16) -> Result<(), Error> {
        let entry = self.entry(frame)?;
        match FrameState::from_number(entry.state) {
            None | Some(FrameState::Reserved) => Err(Error::NoFrame),
            Some(FrameState::Free) => Err(Error::NotOwner),
            Some(_) if entry.owner != owner => Err(Error::NotOwner),
            Some(FrameState::Donated) => Err(Error::FramePinned),
            Some(FrameState::Held) if entry.pins != 0 => Err(Error::FramePinned),
            Some(FrameState::Held) => Ok(()),
        }
    }

    /// Whether all frames of a list pass a check, and none is there twice. They are marked meanwhile,
    /// since a list is too long to compare all with all.
    ///
    /// # Errors
    /// What `check` says, [`Error::BadArgument`] for a frame that is there twice.
    pub fn check_each(
        &mut self,
        list: &[FrameNumber],
        check: impl Fn(&Self, FrameNumber) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut checked = 0;
        let result = list.iter().try_for_each(|&frame| {
            check(self, frame)?;
            if self.record(frame).checked {
                return Err(Error::BadArgument);
            }
            self.update(frame, |record| record.checked = true);
            checked += 1;
            Ok(())
        });
        for &frame in &list[..checked] {
            self.update(frame, |record| record.checked = false);
        }
        result
    }

    /// A ring or a device begins to use the frame. A frame that was pinned 255 times stays pinned.
    pub fn pin(&mut self, frame: FrameNumber) {
        self.change(frame, |entry| entry.pins = entry.pins.saturating_add(1));
    }

    /// A ring or a device no longer uses the frame.
    pub fn unpin(&mut self, frame: FrameNumber) {
        self.change(frame, |entry| {
            if entry.pins != u8::MAX {
                entry.pins = entry.pins.saturating_sub(1);
            }
        });
    }

    /// A held frame becomes kernel memory of environment slot `owner`. Other frames stay what they
    /// are. It must have no bindings: [`Bindings::donate`](crate::Bindings::donate) sees to that.
    pub fn donate(&mut self, frame: FrameNumber, owner: u16) {
        if self.is_held(frame) {
            self.update(frame, |record| record.guard = CapabilityName::NOTHING);
            self.assign(frame, FrameState::Donated, owner);
        }
    }

    /// Kernel memory becomes a frame again that its donor holds. Nothing may use it any more.
    pub(crate) fn undonate(&mut self, frame: FrameNumber, owner: u16, guard: CapabilityName) {
        if self.state(frame) == Some(FrameState::Donated) {
            self.hold(frame, owner, guard);
        }
    }

    /// A held frame gets another owner and guard. Its bindings stay.
    pub fn set_owner(&mut self, frame: FrameNumber, owner: u16, guard: CapabilityName) {
        if self.is_held(frame) {
            self.hold(frame, owner, guard);
        }
    }

    /// The first frame with a number in `range`, none of which is beyond the table, that `owner` holds
    /// and has not donated; with `pinned_too`, though a ring or a device may use it.
    #[inline]
    pub fn next_held(
        &self,
        owner: u16,
        range: Range<u32>,
        pinned_too: bool,
    ) -> Option<FrameNumber> {
        // A constant mask is no work.
        if pinned_too { self.next(owner, range, 0xff_ffff) } else { self.next(owner, range, !0) }
    }

    /// As [`next_held`](Self::next_held), donated or not.
    pub(crate) fn next_owned(&self, owner: u16, range: Range<u32>) -> Option<FrameNumber> {
        const { assert!(FrameState::Held as u8 | 1 == FrameState::Donated as u8) };
        self.next(owner, range, 0xfe_ffff)
    }

    #[inline(always)]
    fn next(&self, owner: u16, range: Range<u32>, mask: u32) -> Option<FrameNumber> {
        let words =
            self.exposed.as_chunks::<2>().0.get(range.start as usize..range.end as usize)?;
        let wanted = u32::from(owner) | (FrameState::Held as u32) << 16;
        let held =
            |words: &[AtomicU64; 2]| words[0].load(Ordering::Relaxed) as u32 & mask == wanted;
        let others = || words.as_chunks::<8>().0.iter().take_while(|eight| !eight.iter().any(held));
        // Mostly it is the first, or far away.
        let passed = if words.first().is_some_and(held) { 0 } else { 8 * others().count() };
        Some(FrameNumber(range.start + (passed + words[passed..].iter().position(held)?) as u32))
    }

    /// What the frame is, or `None` beyond the table.
    pub(crate) fn state(&self, frame: FrameNumber) -> Option<FrameState> {
        let word = self.words(frame)?[0].load(Ordering::Relaxed);
        FrameState::from_number((word >> 16) as u8)
    }

    /// Whether somebody holds the frame.
    fn is_held(&self, frame: FrameNumber) -> bool {
        self.state(frame) == Some(FrameState::Held)
    }

    /// Whether somebody holds the frame, and no ring or device uses it.
    pub(crate) fn is_unpinned(&self, frame: FrameNumber) -> bool {
        let held = |words: &[AtomicU64; 2]| words[0].load(Ordering::Relaxed) >> 16 & 0xffff;
        self.words(frame).map(held) == Some(FrameState::Held as u64)
    }

    /// Whether a binding to the frame is wired.
    pub fn is_wired(&self, frame: FrameNumber) -> bool {
        self.record(frame).wired != 0
    }

    /// Makes the frame free under a new generation. The caller has broken every binding to it.
    pub(crate) fn release(&mut self, frame: FrameNumber) {
        let Some(words) = self.words(frame) else { return };
        let word = words[0].load(Ordering::Relaxed);
        let state = FrameState::from_number((word >> 16) as u8);
        if !matches!(state, Some(FrameState::Held | FrameState::Donated)) {
            return;
        }
        let generation = (word >> 32).wrapping_add(1);
        words[0].store((FrameState::Free as u64) << 16 | generation << 32, Ordering::Relaxed);
        words[1].store(0, Ordering::Relaxed);
        if let Some(record) = self.records.get_mut(frame.0 as usize) {
            *record = FrameRecord::EMPTY;
        }
        self.free.set(frame.0 as usize);
        self.free_count += 1;
    }

    /// What the kernel alone knows about the frame.
    pub(crate) fn record(&self, frame: FrameNumber) -> &FrameRecord {
        self.records.get(frame.0 as usize).unwrap_or(&FrameRecord::EMPTY)
    }

    /// Changes that, if there is such a frame.
    pub(crate) fn update(&mut self, frame: FrameNumber, change: impl FnOnce(&mut FrameRecord)) {
        let _ = self.records.get_mut(frame.0 as usize).map(change);
    }

    /// The words that everybody sees, and what the kernel alone knows, of `count` frames that there
    /// are.
    #[inline]
    pub(crate) fn run(
        &mut self,
        first: FrameNumber,
        count: u64,
    ) -> impl Iterator<Item = (&[AtomicU64; 2], &mut FrameRecord)> {
        let first = first.0 as usize;
        let range = first..first + count as usize;
        let words = self.exposed.as_chunks().0.get(range.clone()).unwrap_or(&[]);
        words.iter().zip(self.records.get_mut(range).unwrap_or(&mut []))
    }

    /// Counts a binding less, behind which the chain goes on with `next` if it was the first.
    pub(crate) fn chain_out(&mut self, frame: FrameNumber, next: Option<Link>, wired: bool) {
        for (words, record) in self.run(frame, 1) {
            record.chain = next.unwrap_or(record.chain);
            record.wired -= u32::from(wired);
            words[1].store(words[1].load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        }
    }

    /// All bindings of the frame have gone.
    pub(crate) fn unchain_all(&mut self, frame: FrameNumber) {
        for (words, record) in self.run(frame, 1) {
            (record.chain, record.wired) = (Link::NONE, 0);
            words[1].store(0, Ordering::Relaxed);
        }
    }

    fn words(&self, frame: FrameNumber) -> Option<&[AtomicU64; 2]> {
        let index = frame.0 as usize;
        if index >= self.records.len() {
            return None;
        }
        self.exposed.as_chunks::<2>().0.get(index)
    }

    fn change(&self, frame: FrameNumber, change: impl FnOnce(&mut FrameEntry)) {
        if let (Some(words), Ok(mut entry)) = (self.words(frame), self.entry(frame)) {
            change(&mut entry);
            for (word, value) in words.iter().zip(entry.to_words()) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }
}
