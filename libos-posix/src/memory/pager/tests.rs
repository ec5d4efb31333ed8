//! The pager over a model of the kernel that forgets bindings and takes frames.

use super::*;
use crate::memory::page_table::{Extent, Extents, Hashed, Linear, Slot, TableFull};
use crate::memory::replacement::{Clock, Fifo, Lru, Mru, Usage, WorkingSet};
use crate::memory::resident::ResidentPlace;
use crate::memory::store::{Block, Compressed, Workspace};
use exo_user::FrameNumber;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

mod fake_kernel;

use fake_kernel::FakeKernel;

const PAGES: u32 = 200;

type TestPager =
    Pager<'static, Box<dyn PageTable>, Box<dyn Replacement>, Compressed<'static>, FakeKernel>;

impl PageTable for Box<dyn PageTable> {
    fn pages(&self) -> u32 {
        (**self).pages()
    }

    fn get(&self, page: PageIndex) -> Entry {
        (**self).get(page)
    }

    fn set(&mut self, page: PageIndex, entry: Entry) -> Result<(), TableFull> {
        (**self).set(page, entry)
    }

    fn next(&self, pages: Range<u32>) -> Option<PageIndex> {
        (**self).next(pages)
    }

    fn protect(&mut self, pages: Range<u32>, protection: Protection) -> Result<(), TableFull> {
        (**self).protect(pages, protection)
    }
}

/// A kind of page table, with room for this many pages in use.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Linear,
    Hashed(usize),
    Extents(usize),
}

impl Kind {
    fn table(self) -> Box<dyn PageTable> {
        match self {
            Self::Linear => Box::new(Linear::new(vec![0; PAGES as usize].leak())),
            Self::Hashed(places) => {
                Box::new(Hashed::new(vec![Slot::default(); places].leak(), PAGES))
            }
            Self::Extents(places) => {
                Box::new(Extents::new(vec![Extent::default(); places].leak(), PAGES))
            }
        }
    }
}

impl Replacement for Box<dyn Replacement> {
    fn victim(&mut self, resident: &mut ResidentSet<'_>, usage: &mut dyn Usage) -> Option<Seat> {
        (**self).victim(resident, usage)
    }
}

fn pager(kind: Kind, policy: Box<dyn Replacement>, frames: usize) -> TestPager {
    let resident = ResidentSet::new(vec![ResidentPlace::default(); frames].leak());
    let blocks = (0..frames).map(|_| Block::EMPTY).collect::<Vec<_>>().leak();
    let store = Compressed::new(blocks, Box::leak(Box::new(Workspace::EMPTY)));
    let mut pager = Pager::new(kind.table(), policy, store, FakeKernel::new(frames), resident);
    pager.add_snapshot_table(kind.table());
    pager
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
    /// What that was when the snapshot was taken.
    snapshot: Option<BTreeMap<PageIndex, Option<u64>>>,
    /// What was written to or discarded since.
    changed: BTreeSet<PageIndex>,
    protected: BTreeMap<PageIndex, Protection>,
}

/// Whether a page holds what is expected of it.
fn is_right(page: &PageBytes, expected: Option<Option<u64>>) -> bool {
    match expected {
        None => *page == [0; PAGE_SIZE],
        Some(value) => value.is_some_and(|value| *page == contents(value)),
    }
}

impl Program {
    fn new(policy: Box<dyn Replacement>, frames: usize) -> Self {
        Self::with_table(Kind::Linear, policy, frames)
    }

    fn with_table(kind: Kind, policy: Box<dyn Replacement>, frames: usize) -> Self {
        let pager = pager(kind, policy, frames);
        Self {
            pager,
            expected: BTreeMap::new(),
            snapshot: None,
            changed: BTreeSet::new(),
            protected: BTreeMap::new(),
        }
    }

    /// Reaches a page as the hardware does: by its binding, after a fault if there is none.
    fn reach(&mut self, page: PageIndex, access: Access) -> Result<&mut PageBytes, MemoryError> {
        let sufficient = |bound: &(HeldFrame, Access, Access)| bound.1 >= access;
        if !self.pager.kernel.bindings.get(&page).is_some_and(sufficient) {
            self.pager.fault(page, access)?;
        }
        let bound = self.pager.kernel.bindings[&page];
        assert!(sufficient(&bound), "the fault was answered");
        self.pager.kernel.used.insert(page);
        self.pager.kernel.steps += 1;
        Ok(self.pager.kernel.contents(bound.0))
    }

    fn write(&mut self, page: u32, value: u64) {
        let page = PageIndex(page);
        match self.reach(page, Access::Write) {
            Ok(memory) => {
                *memory = contents(value);
                self.expected.insert(page, Some(value));
                self.changed.insert(page);
            }
            Err(error) => self.check_error(page, error),
        }
    }

    fn read(&mut self, page: u32) {
        let page = PageIndex(page);
        let expected = self.expected.get(&page).copied();
        match self.reach(page, Access::Read) {
            Ok(memory) => {
                assert!(is_right(memory, expected), "page {page:?} holds what {expected:?} says");
            }
            Err(error) => self.check_error(page, error),
        }
    }

    fn check_error(&mut self, page: PageIndex, error: MemoryError) {
        match error {
            MemoryError::PageLost => assert_eq!(self.expected.get(&page), Some(&None)),
            MemoryError::OutOfMemory => assert!(self.pager.resident() <= KEPT),
            MemoryError::TableFull => assert_eq!(self.pager.place(page), Place::Zero),
            MemoryError::Protected => assert!(self.protected.contains_key(&page)),
            MemoryError::Refused(error) => panic!("{error:?}"),
        }
    }

    fn protect(&mut self, page: u32, count: u32, protection: Protection) {
        let done = self.pager.protect(page..page + count, protection);
        for page in (page..PAGES.min(page + count)).map(PageIndex) {
            let now = self.pager.table.get(page).protection;
            assert!(now == protection || done == Err(MemoryError::TableFull));
            match now {
                Protection::ReadWrite => drop(self.protected.remove(&page)),
                now => drop(self.protected.insert(page, now)),
            }
        }
    }

    fn take_snapshot(&mut self) {
        self.pager.take_snapshot().unwrap();
        self.snapshot = Some(self.expected.clone());
        self.changed.clear();
    }

    /// Reads every page as it was, if the snapshot is not spoiled.
    fn read_snapshot(&mut self) {
        let mut memory = [0; PAGE_SIZE];
        for page in (0..PAGES).map(PageIndex) {
            let result = self.pager.read_snapshot(page, &mut memory);
            let Some(snapshot) = &self.snapshot else {
                assert_eq!(result, Err(SnapshotError::NotTaken));
                continue;
            };
            let expected = snapshot.get(&page).copied();
            match result {
                Ok(()) => assert!(is_right(&memory, expected), "{page:?} was {expected:?}"),
                Err(SnapshotError::PageLost) => assert_eq!(expected, Some(None)),
                Err(error) => assert_eq!(error, SnapshotError::Spoiled),
            }
        }
    }

    /// Takes so many listed frames by force, and the limit with them.
    fn take_listed(&mut self, count: usize) {
        let listed = core::mem::take(&mut self.pager.kernel.listed);
        for (index, (place, frame)) in listed.into_iter().enumerate() {
            if index < count && self.pager.kernel.holds(frame) {
                self.pager.kernel.end(frame);
                self.pager.kernel.unread += 1;
                self.pager.kernel.limit -= 1;
            } else {
                self.pager.kernel.listed.insert(place, frame);
            }
        }
    }

    /// Takes as many frames by force as are owed, wired ones excepted.
    fn repossess(&mut self) {
        while self.pager.kernel.debt() > 0 {
            let resident = self.pager.resident.iter().nth(self.pager.resident.len() / 2);
            let Some((_, Resident { page, frame, original, .. })) = resident else { return };
            if !self.pager.kernel.holds(frame) {
                self.pager.take_losses();
                continue;
            }
            self.pager.kernel.end(frame);
            self.pager.kernel.unread += 1;
            if original == Original::None {
                self.expected.insert(page, None);
                if let Some(snapshot) = &mut self.snapshot
                    && self.pager.kept_place(page).is_none()
                {
                    snapshot.insert(page, None);
                }
            }
        }
    }

    fn check(&self) {
        if self.pager.snapshot.as_ref().is_some_and(|kept| kept.taken) {
            let noted = |&page: &PageIndex| self.pager.next_changed(page) == Some(page);
            assert!(self.changed.iter().all(noted), "every change is noted");
        }
        let kernel = &self.pager.kernel;
        let mut frames: Vec<_> = self.pager.resident.iter().map(|(_, r)| r.frame).collect();
        frames.extend(self.pager.store.blocks().map(|(_, frame)| frame));
        frames.extend(self.pager.spare);
        frames.extend(self.pager.reserve.places.iter().flatten());
        let names: BTreeSet<_> = frames.iter().map(|frame| frame.number).collect();
        let alive = frames.iter().filter(|&&frame| kernel.holds(frame)).count();
        assert_eq!(alive as u64, kernel.held(), "no frame is forgotten");
        assert!(kernel.unread > 0 || names.len() == frames.len(), "no frame has two uses");
        for (seat, resident) in self.pager.resident.iter() {
            assert_eq!(self.pager.place(resident.page), Place::Resident(seat));
            if let Some(bound) = kernel.bindings.get(&resident.page) {
                assert_eq!(bound.0, resident.frame);
                assert!(Some(bound.1) <= resident.access(), "{resident:?} is bound as {bound:?}");
                let protection = self.protected.get(&resident.page).copied().unwrap_or_default();
                assert_eq!(resident.protection, protection);
            }
        }
        let listed = |(&place, &frame): (&u8, &HeldFrame)| {
            self.pager.reserve.places[usize::from(place)] == Some(frame)
        };
        assert!(kernel.listed.iter().all(listed), "nothing in use is listed");
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
    let kinds = [Kind::Linear, Kind::Hashed(1024), Kind::Extents(1024)];
    for (index, kind) in (0..5).flat_map(|index| kinds.map(|kind| (index, kind))) {
        let mut program = Program::with_table(kind, policy_of(index), 50);
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
fn what_is_ready_is_taken_without_harm() {
    for policy in [Box::new(Fifo) as Box<dyn Replacement>, Box::new(Clock), Box::new(Lru)] {
        let mut program = Program::new(policy, 90);
        program.pager.keep_ready(16);
        for step in 0..4000_u64 {
            let page = (step * step / 7 + step) as u32 % 100;
            if step % 3 == 0 {
                program.write(page, step * 16);
            } else {
                program.read(page);
            }
            if step % 100 == 50 {
                program.take_listed(10);
            } else if step % 300 == 0 {
                program.pager.kernel.limit = 90;
            }
            program.check();
        }
        let statistics = program.pager.statistics();
        assert!(statistics.told > 300 && statistics.lost_for_good == 0, "{statistics:?}");
        assert!(program.expected.values().all(Option::is_some));
    }
}

#[test]
fn an_ask_for_what_is_ready_is_left_to_the_kernel() {
    let mut program = Program::new(Box::new(Fifo), 60);
    program.pager.keep_ready(16);
    (0..80).for_each(|page| program.write(page, u64::from(page)));
    assert_eq!(program.pager.ready(), 16);
    program.pager.kernel.limit = 44;
    assert_eq!(program.pager.settle(), 0);
    program.pager.kernel.limit = 40;
    assert_eq!(program.pager.settle(), 20);
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

#[test]
fn a_barrier_is_noticed_once_and_costs_a_call_for_each_run() {
    let mut program = Program::new(Box::new(Fifo), 60);
    (0..40).for_each(|page| program.write(page, u64::from(page)));
    program.protect(0, 40, Protection::Read);
    assert_eq!(program.pager.kernel.calls, 1);
    (0..40).for_each(|page| program.read(page));
    assert_eq!(program.pager.statistics().faults, 40, "to read is no fault");
    let write = |program: &mut Program, page| program.pager.fault(PageIndex(page), Access::Write);
    assert_eq!(write(&mut program, 7), Err(MemoryError::Protected));
    program.protect(7, 1, Protection::ReadWrite);
    program.write(7, 1);
    assert_eq!(program.pager.statistics().faults, 41, "the right came with the call");
    assert_eq!(write(&mut program, 8), Err(MemoryError::Protected));
    // The protection stays while the page is elsewhere.
    program.pager.kernel.limit = 20;
    program.pager.settle();
    assert!(matches!(program.pager.place(PageIndex(8)), Place::Stored(_)));
    program.read(8);
    assert_eq!(write(&mut program, 8), Err(MemoryError::Protected));
    program.check();
}

#[test]
fn a_guard_page_is_no_page() {
    let mut program = Program::new(Box::new(Fifo), 20);
    program.protect(10, 5, Protection::None);
    assert_eq!(program.pager.fault(PageIndex(12), Access::Read), Err(MemoryError::Protected));
    program.write(9, 1);
    program.write(15, 1);
    assert_eq!(program.pager.resident(), 2);
    program.protect(9, 1, Protection::None);
    assert!(!program.pager.kernel.bindings.contains_key(&PageIndex(9)));
    program.protect(9, 6, Protection::ReadWrite);
    (9..16).for_each(|page| program.read(page));
}

#[test]
fn a_snapshot_costs_a_copy_of_what_is_written_to() {
    let mut program = Program::new(Box::new(Fifo), 60);
    (0..40).for_each(|page| program.write(page, u64::from(page) * 16));
    program.take_snapshot();
    assert_eq!(program.pager.kernel.calls, 1, "the pages follow one another");
    (0..5).for_each(|page| program.write(page, 1000 + u64::from(page)));
    (0..5).for_each(|page| program.write(page, 2000 + u64::from(page)));
    assert_eq!(program.pager.statistics().copied, 5);
    let kept: Vec<_> = (0..PAGES)
        .filter(|&page| program.pager.next_changed(PageIndex(page)) == Some(PageIndex(page)))
        .collect();
    assert_eq!(kept, [0, 1, 2, 3, 4]);
    program.read_snapshot();
    program.pager.forget_contents();
    program.snapshot = None;
    program.read_snapshot();
    (5..8).for_each(|page| program.write(page, 3000));
    assert_eq!(program.pager.statistics().copied, 5, "what changes is noted and not copied");
    assert_eq!(program.pager.next_changed(PageIndex(4)), Some(PageIndex(4)));
    assert_eq!(program.pager.next_changed(PageIndex(7)), Some(PageIndex(7)));
    assert_eq!(program.pager.next_changed(PageIndex(8)), None);
    program.pager.release_snapshot();
    program.read_snapshot();
    (0..40).for_each(|page| program.read(page));
    program.check();
}

#[test]
fn a_snapshot_takes_copies_that_there_are() {
    let mut program = Program::new(Box::new(Fifo), 20);
    (0..60).for_each(|page| program.write(page, u64::from(page) * 16));
    (0..10).for_each(|page| program.read(page));
    program.take_snapshot();
    // These have a copy in the store, whether they are resident or not.
    (0..30).for_each(|page| program.write(page, 1000 + u64::from(page)));
    assert_eq!(program.pager.statistics().copied, 0);
    program.read_snapshot();
    program.take_snapshot();
    program.read_snapshot();
    program.check();
}

#[test]
fn a_snapshot_without_room_is_spoiled_and_the_program_goes_on() {
    let mut program = Program::new(Box::new(Fifo), 20);
    let noise = |seed: u64| {
        let mut state = seed;
        core::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
    };
    for page in 0..18 {
        *program.reach(PageIndex(page), Access::Write).unwrap() = noise(u64::from(page));
    }
    program.pager.take_snapshot().unwrap();
    for page in 0..18 {
        *program.reach(PageIndex(page), Access::Write).unwrap() = noise(100);
    }
    let mut memory = [0; PAGE_SIZE];
    let spoiled = program.pager.read_snapshot(PageIndex(0), &mut memory);
    assert_eq!(spoiled, Err(SnapshotError::Spoiled));
    // What has changed is still known.
    for page in 0..18 {
        assert_eq!(program.pager.next_changed(PageIndex(page)), Some(PageIndex(page)));
    }
    assert_eq!(program.pager.next_changed(PageIndex(18)), None);
    program.check();
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
    Protect(u32, u32, Protection),
    Snapshot,
    ReadSnapshot,
    ForgetContents,
    ReleaseSnapshot,
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
        2 => (0..PAGES, 1..30_u32, protection())
            .prop_map(|(page, count, protection)| Step::Protect(page, count, protection)),
        1 => Just(Step::Snapshot),
        1 => Just(Step::ReadSnapshot),
        1 => Just(Step::ForgetContents),
        1 => Just(Step::ReleaseSnapshot),
    ]
}

fn policy_of(index: u32) -> Box<dyn Replacement> {
    match index {
        0 => Box::new(Fifo),
        1 => Box::new(Clock),
        2 => Box::new(Lru),
        3 => Box::new(WorkingSet { window: 40 }),
        _ => Box::new(Mru),
    }
}

fn policy() -> impl Strategy<Value = Box<dyn Replacement>> {
    (0..5_u32).prop_map(policy_of)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Linear),
        (64..1024_usize).prop_map(Kind::Hashed),
        (64..1024_usize).prop_map(Kind::Extents),
    ]
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![Just(Protection::ReadWrite), Just(Protection::Read), Just(Protection::None)]
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
        kind in kind(),
        policy in policy(),
        frames in 20..80_usize,
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let mut program = Program::with_table(kind, policy, frames);
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
                Step::Protect(page, count, protection) => program.protect(page, count, protection),
                Step::Snapshot => program.take_snapshot(),
                Step::ReadSnapshot => program.read_snapshot(),
                Step::ForgetContents => {
                    program.pager.forget_contents();
                    program.snapshot = None;
                }
                Step::ReleaseSnapshot => {
                    program.pager.release_snapshot();
                    program.snapshot = None;
                }
            }
            program.check();
        }
        program.read_snapshot();
        (0..PAGES).for_each(|page| program.read(page));
        // Nothing keeps room in the store but the pages themselves.
        program.pager.release_snapshot();
        program.pager.discard(0..PAGES);
        prop_assert_eq!(program.pager.resident(), 0);
        while let Some(frame) = program.pager.shrink_store() {
            program.pager.kernel.free(&[frame]);
        }
        prop_assert_eq!(program.pager.store_frames(), 0);
    }
}
