//! The children: made, watched, disturbed and ended.

use crate::child;
use crate::tally::{Count, Tally};
use crate::worker::{DONE, EXITS, FAULTS, LOSES_STACK, Worker};
use exo_user::abi::request::BindRequest;
use exo_user::abi::tables::{EndReason, EnvState};
use exo_user::abi::upcall::{Event, FaultCode, PAGE_FAULT};
use exo_user::{
    Call, CapabilityName, EnvName, Error, FrameNumber, Kind, Rights, Start, binding, call,
    capability, contract, control, environment, frame, revocation, slice, tables, time,
};
use guest_probes::attempt::{self, INVALID_OPCODE};
use guest_probes::child::{own_name, request_named};
use guest_probes::fork::{self, Copies};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{granted, holds, same};

/// The counters of an environment, in its own space; behind them a parent has those of its children.
pub(crate) const TALLY: u64 = page(1000);
/// The page that a parent binds anew time and again while its child reads it.
pub(crate) const WINDOW: u64 = page(1100);
/// Where the parent itself reads and writes what is behind the window.
const PANES: u64 = page(1200);
/// What stands in every frame that is behind a window, and in one that no longer is.
const CLEAR: u64 = 0xc1ea_0c1e_a000_0000;
const FOUL: u64 = 0xf001_f001_f001_f001;
/// The most children of one.
const CHILDREN: usize = 3;
/// The frames that a child may hold itself.
const SPARE: u64 = 20;

/// A child.
struct Child {
    name: EnvName,
    copies: Copies,
    tally: FrameNumber,
    /// The frame behind its window.
    pane: Option<FrameNumber>,
    /// Whether it was ended by its parent.
    killed: bool,
    /// How many of its frames were asked for.
    asked: u64,
}

/// All children of a program.
pub(crate) struct Brood<'a> {
    start: &'a Start<'a>,
    own: CapabilityName,
    children: [Option<Child>; CHILDREN],
}

/// In a child: what is behind the window is what a parent has put there, or nothing.
pub(crate) fn look_through_window() {
    let mut pair = [WINDOW, CLEAR];
    let code = guest_probes::code!("mov rax, [rdi]", "mov rax, [rax]", "mov [rdi + 8], rax");
    // SAFETY: it reads the window and writes the second word of the pair.
    let fault = unsafe { attempt::attempt(code, pair.as_mut_ptr() as u64) };
    // SAFETY: the pair is on this stack.
    let word = unsafe { pair.as_ptr().add(1).read_volatile() };
    match fault {
        None => same("behind the window", word, CLEAR),
        Some(fault) => {
            let lost = FaultCode::from_bits_truncate(fault.code).contains(FaultCode::LOST);
            holds(
                format_args!("the window is closed: {fault:x?}"),
                fault.cause == PAGE_FAULT && fault.address == WINDOW && !lost,
            );
        }
    }
}

impl<'a> Brood<'a> {
    /// No children yet.
    pub(crate) fn new(start: &'a Start<'a>) -> Self {
        // Time for the children is what the program gives back of its own.
        let own = contract::name().0;
        let positions = tables::system().positions.max(1) as usize;
        let held = tables::slices().iter().filter(|(_, entry)| entry.holder == own);
        for (index, _) in held.skip(1).step_by(2) {
            let (cpu, position) = ((index / positions) as u32, (index % positions) as u32);
            granted("to give a slice back", slice::give_back(cpu, position, 0));
        }
        Self { start, own: own_name(), children: [const { None }; CHILDREN] }
    }

    /// Does something with a child, or to it.
    pub(crate) fn step(&mut self, worker: &mut Worker) {
        let index = worker.random.below(CHILDREN as u64) as usize;
        self.reap(index, worker);
        let Some(child) = &mut self.children[index] else {
            return self.create(index, worker);
        };
        match worker.random.below(64) {
            0 => self.kill(index, worker),
            1..=9 => child.change_pane(index, worker),
            10..=12 => child.ask(worker),
            13..=16 => child.protect(worker),
            17..=19 => child.give_time(worker),
            20..=26 => drop(environment::yield_to(child.name)),
            _ => {}
        }
    }

    fn create(&mut self, index: usize, worker: &mut Worker) {
        let slices = contract::account(Kind::Slices);
        let (mut request, frames, count) = request_named(self.own, "brood", SPARE);
        let free = slices.limit.saturating_sub(slices.held);
        request.limits[Kind::Slices as usize] = worker.random.below(3).min(free);
        // SAFETY: the frames are new, and nothing is bound to them.
        let created = unsafe { environment::create(&request, &frames[..count]) };
        let name = granted("a child", created);
        let tally = granted("a tally", frame::allocate_any(capability::OWN));
        let place = TALLY + 4096 * (1 + index as u64);
        granted("to bind it", ground::bind(place, tally, DATA | Rights::WIRED));
        for word in 0..512 {
            ground::store(place + 8 * word, 0);
        }
        granted("to share it", fork::share(name, TALLY, tally, DATA));
        let mut new =
            Child { name, copies: Copies::NONE, tally, pane: None, killed: false, asked: 0 };
        new.give_time(worker);
        let seed = worker.random.next();
        let started = fork::start(name, self.start, &mut new.copies, child, seed);
        granted("to start a child", started);
        self.children[index] = Some(new);
        worker.tally.add(Count::Created);
    }

    /// Ends a child, whatever it is doing, and waits for the event.
    fn kill(&mut self, index: usize, worker: &mut Worker) {
        let Some(child) = &mut self.children[index] else { return };
        child.killed = true;
        control::take(Event::ChildEnded);
        match environment::destroy(child.name, capability::OWN, DONE) {
            Ok(()) => {}
            Err(error) => holds(format_args!("to end a child: {error:?}"), false),
        }
        if worker.random.below(2) == 0 && child.state() == Some(EnvState::Ended) {
            let until = time::now() + 10 * time::SECOND;
            environment::sleep(until);
            holds("the end of a child wakes its parent", time::now() < until);
        }
        // The name is gone already if it had ended of its own: then that freed the slot.
        self.reap(index, worker);
    }

    /// Takes note of a child that has ended.
    fn reap(&mut self, index: usize, worker: &mut Worker) {
        let Some(child) = &mut self.children[index] else { return };
        let state = child.state();
        if state.is_some_and(|state| state != EnvState::Ended) {
            return;
        }
        let theirs = Tally::at(TALLY + 4096 * (1 + index as u64));
        if state.is_some() {
            if !child.killed {
                child.judge(theirs);
            }
            granted("to free a slot", environment::destroy(child.name, capability::OWN, 0));
        }
        worker.tally.take(theirs);
        child.copies.free();
        ground::free(&[child.tally]);
        if let Some(pane) = child.pane.take() {
            ground::free(&[pane]);
        }
        self.children[index] = None;
    }

    /// Ends all.
    pub(crate) fn end(&mut self, worker: &mut Worker) {
        for index in 0..CHILDREN {
            self.reap(index, worker);
            self.kill(index, worker);
            self.reap(index, worker);
        }
    }
}

impl Child {
    /// What it is doing; `None`: its slot is free.
    fn state(&self) -> Option<EnvState> {
        let entry = tables::environment_named(self.name)?;
        EnvState::from_number(entry.state).filter(|state| *state != EnvState::Free)
    }

    /// Looks whether it has ended as it said that it would.
    fn judge(&self, tally: Tally) {
        let entry = tables::environment_named(self.name).unwrap_or_default();
        let intent = tally.get(Count::Intent);
        let expected = match intent {
            EXITS => (EndReason::Exited as u64, DONE),
            FAULTS => (EndReason::Exception as u64, INVALID_OPCODE),
            LOSES_STACK => (EndReason::UpcallStack as u64, INVALID_OPCODE),
            _ => (EndReason::Exited as u64, 0),
        };
        let found = (entry.end_reason, entry.end_code);
        // Who loses its stack may be told of the end of a slice first.
        let by_event = intent == LOSES_STACK && found.0 == EndReason::UpcallStack as u64;
        if !by_event {
            same(
                format_args!("the end of {:?} at {:#x}", self.name, entry.end_rip),
                found,
                expected,
            );
        }
    }

    /// Puts another frame behind the window, or none, and makes the old one foul.
    fn change_pane(&mut self, index: usize, worker: &mut Worker) {
        let place = PANES + 8192 * index as u64;
        let new = granted("a pane", frame::allocate_any(capability::OWN));
        granted("to see it", ground::bind(place, new, DATA));
        ground::store(place, CLEAR);
        let changed = if worker.random.below(4) == 0 {
            let unbind = Call::Unbind {
                environment: self.name,
                capability: capability::OWN,
                page: WINDOW,
                count: 1,
            };
            // SAFETY: the page is another's.
            unsafe { call::call(unbind) }.map(|_| false)
        } else {
            let request = BindRequest::new(WINDOW, new, DATA, capability::OWN);
            binding::bind_for(self.name, capability::OWN, &[request]).map(|()| true)
        };
        worker.tally.add(Count::Bound);
        let kept = match changed {
            Ok(kept) => kept,
            Err(error) => {
                let ended = error == Error::WrongState || error == Error::TlbFull;
                holds(format_args!("to bind for a child: {error:?}"), ended);
                return ground::free(&[new]);
            }
        };
        let old = if kept { self.pane.replace(new) } else { self.pane.take() };
        if let Some(old) = old {
            // From here on nobody sees it: it is another's as soon as it is free.
            ground::free(&[old]);
            let again = granted("the next frame", frame::allocate_any(capability::OWN));
            granted("to see it", ground::bind(place + 4096, again, DATA));
            ground::store(place + 4096, FOUL);
            ground::free(&[again]);
        }
        if !kept {
            ground::free(&[new]);
        }
    }

    /// Takes the right to write to the window away, or gives it back.
    fn protect(&mut self, worker: &mut Worker) {
        let rights = if worker.random.below(2) == 0 { Rights::READ } else { DATA };
        let (page, count) = (WINDOW, 1);
        let (environment, capability) = (self.name, capability::OWN);
        // SAFETY: the page is another's.
        let result =
            unsafe { call::call(Call::Protect { environment, capability, page, count, rights }) };
        let known = [Ok(0), Err(Error::PageNotBound), Err(Error::WrongState)];
        holds(format_args!("to protect: {result:?}"), known.contains(&result));
    }

    /// Asks for frames, in time or too soon, and gives the right to them back.
    fn ask(&mut self, worker: &mut Worker) {
        if self.asked > 0 {
            match revocation::grant(self.name, Kind::Frames, self.asked) {
                Ok(()) => self.asked = 0,
                Err(error) => same("a grant", error, Error::WrongState),
            }
            return;
        }
        let count = 1 + worker.random.below(SPARE - 8);
        let wall = worker.random.below(5) * time::MILLISECOND;
        match revocation::revoke(self.name, capability::REVOKE, Kind::Frames, count, wall, wall) {
            Ok(_) => {
                self.asked = count;
                worker.tally.add(Count::Revoked);
            }
            Err(error) => same("an ask", error, Error::WrongState),
        }
    }

    /// Takes a position for it, or one of its positions away.
    fn give_time(&mut self, worker: &mut Worker) {
        let system = tables::system();
        let cpu = worker.random.below(system.cpus) as u32;
        let position = worker.random.below(system.positions) as u32;
        // One of a child's or of its own would go from one to the other.
        let index = u64::from(cpu) * system.positions + u64::from(position);
        if tables::slices().get(index as usize).is_none_or(|entry| entry.holder != 0) {
            return;
        }
        let result = slice::take(cpu, position, self.name, capability::OWN);
        let known = [Ok(()), Err(Error::SliceTaken), Err(Error::OverLimit), Err(Error::WrongState)];
        holds(format_args!("to give it time: {result:?}"), known.contains(&result));
        // The last stays, so that a sleep that ends late is the kernel's fault.
        let held = tables::environment_named(self.name).map_or(0, |entry| entry.slices);
        if worker.random.below(4) == 0 && held > 1 {
            let entries = tables::slices().iter();
            if let Some((index, _)) = { entries }.find(|(_, entry)| entry.holder == self.name.0) {
                let positions = system.positions as usize;
                let (cpu, position) = (index / positions, index % positions);
                // It may have moved it itself.
                let _ = slice::give_back(cpu as u32, position as u32, capability::OWN);
            }
        }
    }
}
