//! The bindings of a small machine beside a simple model of them, and what must hold after each
//! step. Everything is looked at from outside: through the tables that environments can read.

use crate::fake::{Access, FakeMachine};
use exo_abi::layout::{PAGE_TABLE, SOFTWARE_TLB, USER_END, USER_START};
use exo_abi::request::BindRequest;
use exo_abi::tables::FrameState;
use exo_abi::upcall::FaultCode;
use exo_abi::{CapabilityName, Error, FrameNumber, Rights};
use secure_bindings::tlb::{ENTRIES_WORD, ENTRY_WORDS, LOST, VALID};
use secure_bindings::{
    Bindings, FrameMemory, FrameRecord, FrameTable, FreeMap, Protect, Refill, TranslationCache,
    leaf_table, protect,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Frames of the machine; the first is reserved.
pub(crate) const FRAMES: usize = 400;
/// Places for environments.
pub(crate) const SPACES: u16 = 3;
const TLB_FRAMES: usize = 1;
const SLOTS: usize = TLB_FRAMES * 128;
/// The level at which the walk of [`World::leaves`] starts.
const ROOT_LEVEL: u32 = 3;

/// What the model knows of a bound page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bound {
    pub(crate) frame: FrameNumber,
    pub(crate) rights: Rights,
    pub(crate) granted: Rights,
    /// It was written since it was bound.
    pub(crate) written: bool,
}

/// What the model knows of an environment.
#[derive(Default, Clone, Debug)]
pub(crate) struct Model {
    pub(crate) pages: BTreeMap<u64, Bound>,
    pub(crate) lost: BTreeSet<u64>,
}

/// The machine, the bindings and the model.
pub(crate) struct World<'m> {
    pub(crate) machine: &'m FakeMachine,
    pub(crate) bindings: Bindings<'m, FakeMachine>,
    pub(crate) models: Vec<Option<Model>>,
    /// Holders of frames by the model: owner, and whether it is donated.
    pub(crate) held: BTreeMap<FrameNumber, (u16, bool)>,
    /// How often each frame was given back or taken.
    generations: Vec<u32>,
}

/// An entry of a software TLB, as its environment reads it.
#[derive(Clone, Copy, Debug)]
struct View {
    link: u32,
    head: u64,
    /// As the hardware's entry was, or is to be.
    binding: u64,
    frame: FrameNumber,
    next: u32,
    previous: u32,
}

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

/// The rights with which the binding in a leaf entry was made.
fn granted(entry: u64) -> Rights {
    Rights::from_bits_truncate((entry >> 52 & 7 | (entry >> 11 & 1) << 9) as u16)
}

/// The rights that a leaf entry of the hardware gives, and whether it is wired.
fn rights_now(entry: u64) -> Rights {
    let mut rights = Rights::empty();
    rights.set(Rights::READ, entry & 1 != 0);
    rights.set(Rights::WRITE, entry & 3 == 3);
    rights.set(Rights::EXECUTE, entry & 1 != 0 && entry >> 63 == 0);
    rights.set(Rights::WIRED, entry >> 9 & 1 != 0);
    rights
}

impl<'m> World<'m> {
    pub(crate) fn new(machine: &'m FakeMachine) -> Self {
        let exposed = (0..FRAMES * 2).map(|_| AtomicU64::new(9)).collect::<Vec<_>>();
        let records = vec![FrameRecord::EMPTY; FRAMES];
        let words = vec![0; FreeMap::words_for(FRAMES)];
        let mut frames = FrameTable::new(exposed.leak(), records.leak(), words.leak());
        for frame in 1..FRAMES as u32 {
            frames.add_free(FrameNumber(frame));
        }
        let spaces = (0..SPACES).map(|_| None).collect::<Vec<_>>().leak();
        Self {
            machine,
            bindings: Bindings::new(machine, frames, spaces),
            models: vec![None; SPACES.into()],
            held: BTreeMap::new(),
            generations: vec![0; FRAMES],
        }
    }

    pub(crate) fn allocate(
        &mut self,
        wanted: FrameNumber,
        owner: u16,
    ) -> Result<FrameNumber, Error> {
        let guard = CapabilityName::new(&[owner as u8]).unwrap();
        let result = self.bindings.frames.allocate(wanted, owner, guard);
        let expected = if wanted == FrameNumber::ANY {
            if self.held.len() == FRAMES - 1 { Some(Error::NoFreeFrames) } else { None }
        } else if wanted.0 == 0 || wanted.0 as usize >= FRAMES {
            Some(Error::NoFrame)
        } else {
            self.held.contains_key(&wanted).then_some(Error::FrameTaken)
        };
        assert_eq!(result.err(), expected);
        if let Ok(frame) = result {
            assert!(self.held.insert(frame, (owner, false)).is_none(), "given twice");
            assert_eq!(self.guard(frame), Some(guard));
        }
        result
    }

    fn guard(&self, frame: FrameNumber) -> Option<CapabilityName> {
        let found = Cell::new(None);
        let note = |guard: &CapabilityName| {
            found.set(Some(*guard));
            Ok(())
        };
        self.bindings.frames.guards(frame, 1, note).ok().and(found.get())
    }

    /// Creates an environment with `spare` frames beyond the least.
    pub(crate) fn create(&mut self, index: u16, spare: usize) -> Result<(), Error> {
        let count = Bindings::<FakeMachine>::donation_minimum(FRAMES) + TLB_FRAMES + spare;
        if self.models[usize::from(index)].is_some() || FRAMES - 1 - self.held.len() < count {
            return Ok(());
        }
        let list: Vec<_> =
            (0..count).map(|_| self.allocate(FrameNumber::ANY, 9).unwrap()).collect();
        self.bindings.create(index, &list, TLB_FRAMES, |_| 0)?;
        for frame in list {
            self.held.insert(frame, (index, true));
        }
        self.models[usize::from(index)] = Some(Model::default());
        secure_bindings::Record::create(&mut self.bindings, index).unwrap();
        // The control, contract and vector pages.
        for _ in 0..3 {
            self.bindings.take_donated(index).unwrap();
        }
        Ok(())
    }

    pub(crate) fn destroy(&mut self, index: u16) {
        self.bindings.destroy(index);
        if self.models[usize::from(index)].take().is_some() {
            let own = self.held.extract_if(.., |_, holder| holder.0 == index);
            for (frame, _) in own.collect::<Vec<_>>() {
                self.generations[frame.0 as usize] += 1;
                // Others may have bound what it held.
                self.forget(frame, false);
            }
        }
    }

    pub(crate) fn donate(&mut self, index: u16, frame: FrameNumber) {
        self.bindings.donate(index, frame);
        if self.models[usize::from(index)].is_some()
            && let Some(holder @ (_, false)) = self.held.get_mut(&frame)
        {
            *holder = (index, true);
            self.forget(frame, false);
        }
    }

    /// Takes kernel memory of an environment back, which then holds it.
    pub(crate) fn undonate(&mut self, index: u16) {
        let guard = CapabilityName::new(&[index as u8]).unwrap();
        let result = self.bindings.undonate(index, guard);
        let donated = self.held.values().filter(|&&holder| holder == (index, true)).count();
        let least = Bindings::<FakeMachine>::donation_minimum(FRAMES) + TLB_FRAMES;
        let expected = match self.models[usize::from(index)] {
            None => Some(Error::NoEnvironment),
            Some(_) => (donated <= least).then_some(Error::DonationSpent),
        };
        assert_eq!(result.err(), expected);
        if let Ok(frame) = result {
            assert_eq!(self.held.insert(frame, (index, false)), Some((index, true)));
            assert_eq!(self.guard(frame), Some(guard));
        }
    }

    pub(crate) fn give_up(&mut self, frame: FrameNumber, force: bool) {
        let done = if force { self.bindings.repossess(frame) } else { self.bindings.free(frame) };
        let held = matches!(self.held.get(&frame), Some((_, false)));
        assert_eq!(done, held);
        if held {
            self.held.remove(&frame);
            self.generations[frame.0 as usize] += 1;
            self.forget(frame, force);
        }
    }

    fn forget(&mut self, frame: FrameNumber, lost: bool) {
        for model in self.models.iter_mut().flatten() {
            let gone: Vec<_> =
                model.pages.iter().filter(|(_, bound)| bound.frame == frame).collect();
            let gone: Vec<_> = gone.into_iter().map(|(&page, _)| page).collect();
            for page in gone {
                model.pages.remove(&page);
                if lost {
                    model.lost.insert(page);
                }
            }
        }
    }

    pub(crate) fn bind(&mut self, index: u16, requests: &[(u64, FrameNumber, Rights)]) -> bool {
        let before = self.models[usize::from(index)].clone();
        let mut list: Vec<BindRequest> = Vec::new();
        for &(page, frame, rights) in requests {
            let request = BindRequest::new(page, frame, rights, 0);
            if !list.last_mut().is_some_and(|last| last.append(&request)) {
                list.push(request);
            }
        }
        // What the short way has not bound, it leaves as it is.
        let soon = match list[..] {
            [one] if one.count() == 1 => self.bindings.bind_one(index, one, |_, _| Ok(())),
            _ => None,
        };
        let result = match soon {
            Some(()) => Ok(()),
            None => self.bindings.bind_all(index, list.into_iter(), |_, _| Ok(())),
        };
        let Some(model) = &mut self.models[usize::from(index)] else {
            assert_eq!(result, Err(Error::NoEnvironment));
            return false;
        };
        let bad = |&(page, frame, rights): &(u64, FrameNumber, Rights)| {
            if page & !0xfff == 0 || page >= USER_END {
                Some(Error::BadAddress)
            } else if rights.contains(Rights::WRITE | Rights::EXECUTE) {
                Some(Error::WriteExecute)
            } else if !matches!(self.held.get(&frame), Some((_, false))) {
                Some(Error::NoFrame)
            } else {
                None
            }
        };
        match requests.iter().find_map(bad) {
            Some(error) => assert_eq!(result, Err(error)),
            None if result.is_err() => assert_eq!(result, Err(Error::TlbFull)),
            None => {
                for &(page, frame, rights) in requests {
                    let bound = Bound { frame, rights, granted: rights, written: false };
                    model.pages.insert(page, bound);
                    model.lost.remove(&page);
                }
            }
        }
        if result.is_err() {
            assert_eq!(before.map(|model| model.pages), Some(model.pages.clone()));
        }
        // Making place is only a binding's right, and only at the cost of what isn't wired.
        let present: BTreeSet<_> =
            self.entries(index).into_iter().map(|view| view.head & !0xfff).collect();
        let Some(model) = &mut self.models[usize::from(index)] else { return false };
        model
            .pages
            .retain(|page, bound| present.contains(page) || bound.rights.contains(Rights::WIRED));
        model.lost.retain(|page| present.contains(page));
        result.is_ok()
    }

    pub(crate) fn unbind(&mut self, index: u16, page: u64, count: u64) {
        let bound = self.bindings.unbind(index, page, count);
        let Some(model) = &mut self.models[usize::from(index)] else { return };
        let before = model.pages.len();
        let end = page.saturating_add(count.saturating_mul(4096));
        model.pages.retain(|at, _| !(page..end).contains(at));
        model.lost.retain(|at| !(page..end).contains(at));
        assert_eq!(bound, (before - model.pages.len()) as u64);
    }

    pub(crate) fn protect(&mut self, index: u16, page: u64, count: u64, rights: Rights) {
        // As on the current CPU: what can be done without the lock is done without.
        let root = self.bindings.root(index).filter(|_| count % 2 == 1);
        let leaf = root.and_then(|root| leaf_table(self.machine, root, page));
        let done = leaf.map(|leaf| protect(self.machine, leaf, page, count, rights));
        let result = match (root, done) {
            (Some(_), Some(Protect::Done)) => Ok(()),
            (Some(root), Some(Protect::Narrowed)) => {
                self.machine.flush_space(root);
                Ok(())
            }
            _ => self.bindings.protect(index, page, count, rights),
        };
        let Some(model) = &mut self.models[usize::from(index)] else { return };
        let pages: Vec<_> = (0..count).map(|step| page + step * 4096).collect();
        if rights.contains(Rights::WRITE | Rights::EXECUTE) {
            assert_eq!(result, Err(Error::WriteExecute));
        } else if pages
            .iter()
            .all(|page| model.pages.get(page).is_some_and(|bound| bound.granted.contains(rights)))
        {
            assert_eq!(result, Ok(()));
            for page in pages {
                model.pages.get_mut(&page).unwrap().rights = rights;
            }
        } else {
            assert!(matches!(result, Err(Error::PageNotBound | Error::NotDominated)));
        }
    }

    /// A program touches a page, and the kernel answers the faults that it can.
    pub(crate) fn touch(&mut self, index: u16, address: u64, access: Access) {
        let Some(root) = self.bindings.root(index) else { return };
        let mut seen = self.machine.touch(root, address, access);
        let code = match access {
            Access::Read => FaultCode::empty(),
            Access::Write => FaultCode::WRITE,
            Access::Fetch => FaultCode::FETCH,
        };
        let mut fault = None;
        if seen.is_none() {
            match self.bindings.refill(index, address, code) {
                Refill::Done => {
                    seen = self.machine.touch(root, address, access);
                    assert!(seen.is_some(), "refilled, and still a fault");
                }
                Refill::Refused(code) => fault = Some(code),
                Refill::Locked => panic!("there is always a table"),
            }
        }
        let Some(model) = &mut self.models[usize::from(index)] else { return };
        let needed = match access {
            Access::Read => Rights::READ,
            Access::Write => Rights::WRITE,
            Access::Fetch => Rights::EXECUTE,
        };
        let page = address & !0xfff;
        if !(USER_START..USER_END).contains(&page) {
            return assert_eq!((seen, fault), (None, Some(code | FaultCode::PROTECTION)));
        }
        match model.pages.get_mut(&page) {
            Some(bound) if bound.rights.contains(needed) => {
                assert_eq!(seen, Some(bound.frame));
                bound.written |= access == Access::Write;
            }
            Some(_) => assert_eq!((seen, fault), (None, Some(code | FaultCode::PROTECTION))),
            None if model.lost.contains(&page) => {
                assert_eq!((seen, fault), (None, Some(code | FaultCode::LOST)));
            }
            None => assert_eq!((seen, fault), (None, Some(code))),
        }
    }

    /// The kernel copies to or from a page.
    pub(crate) fn translate(&mut self, index: u16, address: u64, access: Rights) {
        let found = self.bindings.translate(index, address, access);
        let Some(model) = &mut self.models[usize::from(index)] else {
            assert_eq!(found, None);
            return;
        };
        let bound = model.pages.get_mut(&(address & !0xfff));
        let bound = bound.filter(|bound| bound.rights.contains(access));
        assert_eq!(found, bound.as_ref().map(|bound| bound.frame));
        if let Some(bound) = bound {
            bound.written |= access.contains(Rights::WRITE);
        }
    }

    /// A word of the first frame of a software TLB, as its environment reads it.
    fn word(&self, index: u16, word: usize) -> u64 {
        let Some(root) = self.bindings.root(index) else { return 0 };
        self.machine.peek(root, SOFTWARE_TLB + word as u64 * 8).expect("readable")
    }

    fn entries(&self, index: u16) -> Vec<View> {
        let view = |slot: usize| {
            let [head, binding, links] =
                [0, 1, 2].map(|word| self.word(index, ENTRIES_WORD + ENTRY_WORDS * slot + word));
            View {
                link: u32::from(index) << 16 | slot as u32,
                head,
                binding,
                frame: FrameNumber(((binding & 0x000f_ffff_ffff_f000) >> 12) as u32),
                next: links as u32,
                previous: (links >> 32) as u32,
            }
        };
        (0..SLOTS).map(view).filter(|view| view.head != 0).collect()
    }

    /// Whether the tags and the counts of a software TLB are those of its entries.
    fn check_tags(&self, index: u16, entries: &[View]) -> Result<(), String> {
        let used: BTreeSet<_> = entries.iter().map(|view| view.link as usize & 0xffff).collect();
        for slot in 0..SLOTS {
            let tag = self.word(index, slot / 8) >> (8 * (slot % 8)) & 0xff;
            ensure!((tag != 0) == used.contains(&slot), "slot {slot} has the tag {tag:#x}");
        }
        let end = used.iter().max().map_or(0, |slot| slot / 16 + 1);
        ensure!(self.word(index, 16) == end as u64, "the empty rows begin with {end}");
        Ok(())
    }

    /// All present leaf entries below the shared pages: page address and entry.
    fn leaves(&self, index: u16) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        if let Some(root) = self.bindings.root(index) {
            self.collect(root, ROOT_LEVEL, 0, &mut found);
        }
        found
    }

    fn collect(&self, table: FrameNumber, level: u32, base: u64, found: &mut Vec<(u64, u64)>) {
        for (at, entry) in self.machine.page(table).iter().enumerate() {
            let (value, address) = (entry.load(Relaxed), base + ((at as u64) << (12 + 9 * level)));
            if value == 0 || address >= USER_END {
                continue;
            }
            if level == 0 {
                found.push((address, value));
            } else if value & 1 != 0 {
                let next = FrameNumber(((value & 0x000f_ffff_ffff_f000) >> 12) as u32);
                self.collect(next, level - 1, address, found);
            }
        }
    }

    /// Everything that must hold between two calls.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_frames()?;
        let mut links = BTreeMap::new();
        for index in 0..SPACES {
            self.check_space(index)?;
            for view in self.entries(index).iter().filter(|view| view.head & VALID != 0) {
                links.insert(view.link, *view);
            }
        }
        self.check_chains(&links)?;
        match self.machine.stale() {
            Some((root, page)) => Err(format!("a CPU still uses {page:#x} of {root:?}")),
            None => Ok(()),
        }
    }

    fn check_frames(&self) -> Result<(), String> {
        let frames = &self.bindings.frames;
        for frame in (1..FRAMES as u32).map(FrameNumber) {
            let entry = frames.entry(frame).map_err(|error| format!("{error:?}"))?;
            let expected = match self.held.get(&frame) {
                None => (FrameState::Free as u8, 0),
                Some(&(owner, false)) => (FrameState::Held as u8, owner),
                Some(&(owner, true)) => (FrameState::Donated as u8, owner),
            };
            ensure!((entry.state, entry.owner) == expected, "{frame:?}: {entry:?}");
            let generation = self.generations[frame.0 as usize];
            ensure!(entry.generation == generation, "{frame:?}: {entry:?}, not {generation}");
        }
        let free = FRAMES - 1 - self.held.len();
        ensure!(frames.free_count() == free as u64, "{} free", frames.free_count());
        Ok(())
    }

    fn check_space(&self, index: u16) -> Result<(), String> {
        let Some(model) = &self.models[usize::from(index)] else { return Ok(()) };
        let (entries, leaves) = (self.entries(index), self.leaves(index));
        self.check_tags(index, &entries)?;
        let hardware: BTreeMap<_, _> = leaves.iter().copied().collect();
        let mut pages = BTreeSet::new();
        for view in &entries {
            let page = view.head & !0xfff;
            ensure!(pages.insert(page), "{page:#x} has two entries");
            if view.head & LOST != 0 {
                ensure!(model.lost.contains(&page), "{page:#x} was not lost");
                continue;
            }
            ensure!(view.head & VALID != 0, "{page:#x} is a claim that nobody took back");
            let Some(bound) = model.pages.get(&page) else {
                return Err(format!("{page:#x} is bound, and should not be"));
            };
            // The hardware's entry says what holds, if there is one.
            let entry = *hardware.get(&page).unwrap_or(&view.binding);
            let seen = (view.frame, rights_now(entry), granted(view.binding));
            let expected = (bound.frame, bound.rights, bound.granted);
            ensure!(seen == expected, "{view:?} instead of {bound:?}");
            ensure!(!bound.written || entry >> 6 & 1 != 0, "the write to {page:#x} was forgotten");
            let entry = self.bindings.frames.entry(view.frame).map_err(|e| format!("{e:?}"))?;
            ensure!(entry.state == FrameState::Held as u8, "{page:#x} leads to {entry:?}");
        }
        for page in model.pages.keys() {
            ensure!(pages.contains(page), "{page:#x} went without a reason");
        }
        for (page, entry) in leaves {
            let Some(bound) = model.pages.get(&page) else {
                return Err(format!("the hardware has {page:#x}, the software TLB has not"));
            };
            let frame = (entry & 0x000f_ffff_ffff_f000) >> 12;
            ensure!(frame == u64::from(bound.frame.0), "{page:#x} is another frame");
            let writable = entry & 2 != 0;
            let executable = entry >> 63 == 0;
            ensure!(!writable || bound.rights.contains(Rights::WRITE), "{page:#x} writable");
            ensure!(!executable || bound.rights.contains(Rights::EXECUTE), "{page:#x} executable");
            let root = self.bindings.root(index).ok_or("no root")?;
            let own = self.machine.peek(root, PAGE_TABLE + (page >> 12) * 8);
            ensure!(own == Some(entry), "the environment cannot read its entry");
        }
        Ok(())
    }

    fn check_chains(&self, links: &BTreeMap<u32, View>) -> Result<(), String> {
        for frame in (0..FRAMES as u32).map(FrameNumber) {
            let members: Vec<_> = links.values().filter(|view| view.frame == frame).collect();
            let entry = self.bindings.frames.entry(frame).map_err(|e| format!("{e:?}"))?;
            ensure!(entry.bindings as usize == members.len(), "{frame:?} counts {entry:?}");
            let wired = members.iter().any(|view| view.binding >> 9 & 1 != 0);
            ensure!(self.bindings.frames.is_wired(frame) == wired, "{frame:?} wired: {wired}");
            let Some(first) = members.iter().find(|view| view.previous == u32::MAX) else {
                ensure!(members.is_empty(), "{frame:?}: a chain without a head");
                continue;
            };
            let (mut at, mut steps) = (**first, 1);
            while let Some(next) = links.get(&at.next) {
                ensure!(next.previous == at.link, "{frame:?}: a neighbour disagrees");
                ensure!(next.frame == frame, "{frame:?}: a stranger in the chain");
                (at, steps) = (*next, steps + 1);
                ensure!(steps <= members.len(), "{frame:?}: a ring");
            }
            ensure!(at.next == u32::MAX && steps == members.len(), "{frame:?}: a torn chain");
        }
        Ok(())
    }

    /// Ends everything, and looks whether every frame came back.
    pub(crate) fn end(mut self) -> Result<(), String> {
        for index in 0..SPACES {
            self.destroy(index);
            self.check()?;
        }
        for owner in 0..10 {
            let all = FRAMES as u32;
            while let Some(frame) = self.bindings.frames.next_held(owner, 0..all, true) {
                self.give_up(frame, false);
            }
        }
        ensure!(self.bindings.frames.free_count() == FRAMES as u64 - 1, "frames are missing");
        self.machine.flush_space(FrameNumber(0));
        self.check()
    }
}
