//! The pager over a model of the kernel that forgets bindings and takes frames.

use super::*;
use crate::memory::page_table::Linear;
use crate::memory::replacement::{Clock, Fifo, Mru, Usage};
use crate::memory::resident::ResidentPlace;
use crate::memory::store::{Block, Compressed, Workspace};
use exo_user::FrameNumber;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

const PAGES: u32 = 200;

struct FakeFrame {
    held: bool,
    generation: u32,
    contents: *mut PageBytes,
}

/// Frames, bindings and an account.
struct FakeKernel {
    frames: Vec<FakeFrame>,
    bindings: BTreeMap<PageIndex, (HeldFrame, Access)>,
    used: BTreeSet<PageIndex>,
    blocks: BTreeMap<u32, HeldFrame>,
    limit: u64,
    unread: u64,
}

impl FakeKernel {
    fn new(frames: usize) -> Self {
        let frame = || FakeFrame {
            held: false,
            generation: 0,
            contents: Box::leak(Box::new([0xdd; PAGE_SIZE])),
        };
        Self {
            frames: (0..frames).map(|_| frame()).collect(),
            bindings: BTreeMap::new(),
            used: BTreeSet::new(),
            blocks: BTreeMap::new(),
            limit: frames as u64,
            unread: 0,
        }
    }

    fn held(&self) -> u64 {
        self.frames.iter().filter(|frame| frame.held).count() as u64
    }

    fn contents(&mut self, frame: HeldFrame) -> &'static mut PageBytes {
        // SAFETY: the memory is never freed, and the pager uses one reference to it at a time.
        unsafe { &mut *self.frames[frame.number.0 as usize].contents }
    }

    /// Ends a frame's life, as the kernel does when it is freed or repossessed.
    fn end(&mut self, frame: HeldFrame) {
        assert!(self.holds(frame));
        self.contents(frame).fill(0xdd);
        let entry = &mut self.frames[frame.number.0 as usize];
        entry.held = false;
        entry.generation += 1;
        self.bindings.retain(|_, bound| bound.0 != frame);
    }

    fn checked(&self, frame: HeldFrame) -> Result<(), BindError> {
        if self.holds(frame) { Ok(()) } else { Err(BindError::FrameGone) }
    }
}

impl Usage for FakeKernel {
    fn take_accessed(&mut self, resident: &Resident) -> bool {
        self.used.remove(&resident.page)
    }
}

impl Kernel for FakeKernel {
    fn allocate(&mut self) -> Option<HeldFrame> {
        if self.held() >= self.limit {
            return None;
        }
        let index = self.frames.iter().position(|frame| !frame.held)?;
        self.frames[index].held = true;
        let number = FrameNumber(index as u32);
        let frame = HeldFrame { number, generation: self.frames[index].generation };
        self.contents(frame).fill(0);
        Some(frame)
    }

    fn free(&mut self, frames: &[HeldFrame]) {
        assert!(frames.len() <= BATCH);
        for &frame in frames {
            if self.holds(frame) {
                self.end(frame);
            }
        }
    }

    fn holds(&self, frame: HeldFrame) -> bool {
        let entry = &self.frames[frame.number.0 as usize];
        entry.held && entry.generation == frame.generation
    }

    fn bind(&mut self, page: PageIndex, frame: HeldFrame, access: Access) -> Result<(), BindError> {
        self.checked(frame)?;
        self.bindings.insert(page, (frame, access));
        self.used.remove(&page);
        Ok(())
    }

    fn unbind(&mut self, page: PageIndex) {
        self.bindings.remove(&page);
    }

    fn window(&mut self, frame: HeldFrame) -> Result<&mut PageBytes, BindError> {
        self.checked(frame)?;
        Ok(self.contents(frame))
    }

    fn lend(&mut self, block: u32, frame: HeldFrame) -> Result<&'static mut PageBytes, BindError> {
        self.checked(frame)?;
        assert_eq!(self.blocks.insert(block, frame), None);
        Ok(self.contents(frame))
    }

    fn take_back(&mut self, block: u32) {
        assert!(self.blocks.remove(&block).is_some());
    }

    fn debt(&self) -> u64 {
        self.held().saturating_sub(self.limit)
    }

    fn read_losses(&mut self) -> u64 {
        core::mem::take(&mut self.unread)
    }
}

type TestPager =
    Pager<'static, Linear<'static>, Box<dyn Replacement>, Compressed<'static>, FakeKernel>;

impl Replacement for Box<dyn Replacement> {
    fn victim(&mut self, resident: &mut ResidentSet<'_>, usage: &mut dyn Usage) -> Option<Seat> {
        (**self).victim(resident, usage)
    }
}

fn pager(policy: Box<dyn Replacement>, frames: usize) -> TestPager {
    let table = Linear::new(vec![0; PAGES as usize].leak());
    let resident = ResidentSet::new(vec![ResidentPlace::default(); frames].leak());
    let blocks = (0..frames).map(|_| Block::EMPTY).collect::<Vec<_>>().leak();
    let store = Compressed::new(blocks, Box::leak(Box::new(Workspace::EMPTY)));
    Pager::new(table, policy, store, FakeKernel::new(frames), resident)
}

/// A page full of a value, with some noise that does not compress.
fn contents(value: u64) -> PageBytes {
    let mut page = [value as u8; PAGE_SIZE];
    let mut state = value;
    for byte in &mut page[..(value % 16 * 64) as usize] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(value | 1);
        *byte = (state >> 56) as u8;
    }
    page[..8].copy_from_slice(&value.to_le_bytes());
    page
}

/// A program that uses its memory, and remembers what it should hold.
struct Program {
    pager: TestPager,
    /// The value of each page that was written; `None` when it was lost for good.
    expected: BTreeMap<PageIndex, Option<u64>>,
}

impl Program {
    fn new(policy: Box<dyn Replacement>, frames: usize) -> Self {
        Self { pager: pager(policy, frames), expected: BTreeMap::new() }
    }

    /// Reaches a page as the hardware does: by its binding, after a fault if there is none.
    fn reach(&mut self, page: PageIndex, access: Access) -> Result<&mut PageBytes, MemoryError> {
        let sufficient = |bound: &(HeldFrame, Access)| access == Access::Read || bound.1 == access;
        if !self.pager.kernel.bindings.get(&page).is_some_and(sufficient) {
            self.pager.fault(page, access)?;
        }
        let bound = self.pager.kernel.bindings[&page];
        assert!(sufficient(&bound), "the fault was answered");
        self.pager.kernel.used.insert(page);
        Ok(self.pager.kernel.contents(bound.0))
    }

    fn write(&mut self, page: u32, value: u64) {
        let page = PageIndex(page);
        match self.reach(page, Access::Write) {
            Ok(memory) => {
                *memory = contents(value);
                self.expected.insert(page, Some(value));
            }
            Err(error) => self.check_error(page, error),
        }
    }

    fn read(&mut self, page: u32) {
        let page = PageIndex(page);
        let expected = self.expected.get(&page).copied();
        match self.reach(page, Access::Read) {
            Ok(memory) => {
                let right = match expected {
                    None => *memory == [0; PAGE_SIZE],
                    Some(value) => value.is_some_and(|value| *memory == contents(value)),
                };
                assert!(right, "page {page:?} holds what {expected:?} says");
            }
            Err(error) => self.check_error(page, error),
        }
    }

    fn check_error(&mut self, page: PageIndex, error: MemoryError) {
        match error {
            MemoryError::PageLost => assert_eq!(self.expected.get(&page), Some(&None)),
            MemoryError::OutOfMemory => assert!(self.pager.resident() <= KEPT),
            MemoryError::Refused(error) => panic!("{error:?}"),
        }
    }

    /// Takes as many frames by force as are owed, wired ones excepted.
    fn repossess(&mut self) {
        while self.pager.kernel.debt() > 0 {
            let resident = self.pager.resident.iter().nth(self.pager.resident.len() / 2);
            let Some((_, Resident { page, frame, original })) = resident else { return };
            if !self.pager.kernel.holds(frame) {
                self.pager.take_losses();
                continue;
            }
            self.pager.kernel.end(frame);
            self.pager.kernel.unread += 1;
            if original == Original::None {
                self.expected.insert(page, None);
            }
        }
    }

    fn check(&self) {
        let kernel = &self.pager.kernel;
        let mut frames: Vec<_> = self.pager.resident.iter().map(|(_, r)| r.frame).collect();
        frames.extend(self.pager.store.blocks().map(|(_, frame)| frame));
        frames.extend(self.pager.spare);
        let names: BTreeSet<_> = frames.iter().map(|frame| frame.number).collect();
        let alive = frames.iter().filter(|&&frame| kernel.holds(frame)).count();
        assert_eq!(alive as u64, kernel.held(), "no frame is forgotten");
        assert!(kernel.unread > 0 || names.len() == frames.len(), "no frame has two uses");
        for (seat, resident) in self.pager.resident.iter() {
            assert_eq!(self.pager.place(resident.page), Place::Resident(seat));
            if let Some(bound) = kernel.bindings.get(&resident.page) {
                assert_eq!(bound.0, resident.frame);
                assert_eq!(bound.1 == Access::Write, resident.original == Original::None);
            }
        }
        for page in kernel.bindings.keys() {
            assert!(matches!(self.pager.place(*page), Place::Resident(_)));
        }
    }
}

#[test]
fn a_working_set_that_fits_faults_once_for_each_page() {
    let mut program = Program::new(Box::new(Fifo), 40);
    for round in 0..5 {
        for page in 0..40 {
            program.write(page, u64::from(page) + round);
        }
    }
    let statistics = program.pager.statistics();
    assert_eq!((statistics.faults, statistics.zeroed, statistics.evicted), (40, 40, 0));
}

#[test]
fn four_times_the_memory_comes_back_unchanged() {
    for policy in [Box::new(Fifo) as Box<dyn Replacement>, Box::new(Clock), Box::new(Mru)] {
        let mut program = Program::new(policy, 50);
        for round in 0..4 {
            for page in 0..PAGES {
                program.write(page, u64::from(page * 16 + round));
                program.check();
            }
            for page in (0..PAGES).rev() {
                program.read(page);
            }
        }
        let statistics = program.pager.statistics();
        assert!(statistics.loaded > 0 && statistics.lost == 0);
        assert_eq!(
            statistics.evicted,
            statistics.zeroed + statistics.loaded - program.pager.resident() as u64
        );
    }
}

#[test]
fn pages_that_are_only_read_cost_no_store() {
    let mut program = Program::new(Box::new(Fifo), 20);
    for page in 0..PAGES {
        program.read(page);
    }
    assert_eq!(program.pager.statistics().stored, 0);
    assert_eq!(program.pager.store_frames(), 0);
    // A page that comes back and is only read again is not stored again.
    (0..30).for_each(|page| program.write(page, u64::from(page)));
    (0..30).for_each(|page| program.read(page));
    (0..30).for_each(|page| program.read(page));
    assert!(program.pager.statistics().stored <= 30);
}

#[test]
fn what_is_asked_for_is_given_back_by_choice() {
    let mut program = Program::new(Box::new(Fifo), 60);
    (0..60).for_each(|page| program.write(page, u64::from(page) * 16));
    program.pager.kernel.limit = 40;
    assert_eq!(program.pager.settle(), 20);
    assert_eq!(program.pager.kernel.debt(), 0);
    assert_eq!(program.pager.statistics().surrendered, 20);
    // The oldest went, as the policy says.
    assert!(matches!(program.pager.place(PageIndex(1)), Place::Stored(_)));
    assert!(matches!(program.pager.place(PageIndex(59)), Place::Resident(_)));
    (0..60).for_each(|page| program.read(page));
    program.check();
}

#[test]
fn a_loss_costs_what_was_written_and_no_more() {
    let mut program = Program::new(Box::new(Fifo), 40);
    (0..60).for_each(|page| program.write(page, u64::from(page) * 16));
    // These come back from the store, and are clean.
    (0..20).for_each(|page| program.read(page));
    program.pager.kernel.limit = 10;
    program.repossess();
    (0..60).for_each(|page| program.read(page));
    let statistics = program.pager.statistics();
    assert!(statistics.lost > statistics.lost_for_good, "{statistics:?}");
    assert_eq!(statistics.told, statistics.lost);
    let gone = program.expected.values().filter(|value| value.is_none()).count();
    assert_eq!(statistics.lost_for_good, gone as u64);
    program.check();
}

#[test]
fn a_number_that_comes_back_is_another_frame() {
    let mut program = Program::new(Box::new(Fifo), 40);
    (0..30).for_each(|page| program.write(page, u64::from(page) * 16));
    // The frame of page 5 is taken, and its number is given out again before the loss is read.
    let Place::Resident(seat) = program.pager.place(PageIndex(5)) else { panic!() };
    let frame = program.pager.resident.get(seat).unwrap().frame;
    program.pager.kernel.end(frame);
    let again = program.pager.kernel.allocate().unwrap();
    assert_eq!(again.number, frame.number);
    assert_eq!(program.pager.fault(PageIndex(5), Access::Read), Err(MemoryError::PageLost));
    program.pager.kernel.free(&[again]);
    assert_eq!(program.pager.statistics().lost_for_good, 1);
    program.check();
}

#[test]
fn lost_blocks_lose_the_pages_in_them() {
    let mut program = Program::new(Box::new(Fifo), 30);
    (0..60).for_each(|page| program.write(page, u64::from(page) * 16 + 15));
    let frame = *program.pager.kernel.blocks.values().next().unwrap();
    program.pager.kernel.end(frame);
    program.pager.kernel.unread = 1;
    let results: Vec<_> =
        (0..60).map(|page| program.pager.fault(PageIndex(page), Access::Read)).collect();
    let lost = results.iter().filter(|result| **result == Err(MemoryError::PageLost)).count();
    assert!((1..10).contains(&lost), "{lost}");
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 60 - lost);
    assert_eq!(program.pager.statistics().lost_blocks, 1);
    let first = results.iter().position(Result::is_err).unwrap() as u32;
    assert_eq!(program.pager.next_lost(PageIndex(0)), Some(PageIndex(first)));
    assert_eq!(program.pager.next_lost(PageIndex(60)), None);
    // Discarded, lost pages are fresh ones.
    program.pager.discard(0..PAGES);
    program.expected.clear();
    (0..60).for_each(|page| program.read(page));
    program.check();
}

#[test]
fn what_does_not_compress_runs_out_of_memory_and_nothing_else() {
    let mut program = Program::new(Box::new(Fifo), 20);
    let mut noise = [0; PAGE_SIZE];
    let mut state = 1_u64;
    let mut results = Vec::new();
    for page in 0..40 {
        for byte in &mut noise {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let result = program.reach(PageIndex(page), Access::Write).map(|memory| *memory = noise);
        results.push(result);
        program.check();
    }
    let fit = results.iter().take_while(|result| result.is_ok()).count();
    assert!(fit >= 18, "{fit}");
    assert!(results[fit..].iter().all(|result| *result == Err(MemoryError::OutOfMemory)));
}

#[derive(Clone, Debug)]
enum Step {
    Read(u32),
    Write(u32, u64),
    /// The kernel drops a binding.
    Forget(u32),
    Discard(u32, u32),
    /// Somebody asks, and is answered.
    Ask(u64),
    /// Somebody asks, and the answer comes too late.
    Force(u64),
    Grant(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..PAGES).prop_map(Step::Read),
        8 => (0..PAGES, 1..u64::MAX).prop_map(|(page, value)| Step::Write(page, value)),
        3 => (0..PAGES).prop_map(Step::Forget),
        1 => (0..PAGES, 1..20_u32).prop_map(|(page, count)| Step::Discard(page, count)),
        1 => (1..20_u64).prop_map(Step::Ask),
        1 => (1..20_u64).prop_map(Step::Force),
        2 => (1..20_u64).prop_map(Step::Grant),
    ]
}

fn policy() -> impl Strategy<Value = Box<dyn Replacement>> {
    (0..3).prop_map(|kind| match kind {
        0 => Box::new(Fifo) as Box<dyn Replacement>,
        1 => Box::new(Clock),
        _ => Box::new(Mru),
    })
}

impl std::fmt::Debug for dyn Replacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a policy")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn memory_is_memory_whatever_is_taken(
        policy in policy(),
        frames in 20..80_usize,
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let mut program = Program::new(policy, frames);
        for step in steps {
            match step {
                Step::Read(page) => program.read(page),
                Step::Write(page, value) => program.write(page, value),
                Step::Forget(page) => { program.pager.kernel.bindings.remove(&PageIndex(page)); }
                Step::Discard(page, count) => {
                    program.pager.discard(page..page + count);
                    let pages = PageIndex(page)..PageIndex(page + count);
                    program.expected.retain(|page, _| !pages.contains(page));
                }
                Step::Ask(count) => {
                    let limit = &mut program.pager.kernel.limit;
                    *limit = limit.saturating_sub(count).max(18);
                    program.pager.settle();
                }
                Step::Force(count) => {
                    let limit = &mut program.pager.kernel.limit;
                    *limit = limit.saturating_sub(count).max(18);
                    program.repossess();
                }
                Step::Grant(count) => {
                    let limit = &mut program.pager.kernel.limit;
                    *limit = (*limit + count).min(frames as u64);
                }
            }
            program.check();
        }
        (0..PAGES).for_each(|page| program.read(page));
    }
}
