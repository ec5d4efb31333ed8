//! Slices: who runs, for how long, and who is next.
//!
//! Each CPU has a vector of slice positions. A position belongs to the environment that was given
//! it, and comes round once in each turn of the vector. Positions that nobody holds, or whose
//! holder cannot run, are passed over, so that the CPU is idle only when nobody can run.

use crate::context::Context;
use crate::kernel::Kernel;
use crate::machine::Machine;
use exo_abi::contract::Kind;
use exo_abi::request::NOBODY;
use exo_abi::tables::{EndReason, EnvState, EnvWord, StatisticsWord};
use exo_abi::upcall::Event;
use exo_abi::{EnvName, Error, Rights};

/// What part of a slice an environment has for its epilogue.
const GRACE_PART: u64 = 4;
/// How many slices in a row an environment may overrun before it is ended.
const OVERRUNS: u32 = 64;
/// The longest time between two ticks, in nanoseconds: how stale the exposed time can get.
const LONGEST_WAIT: u64 = 100_000_000;

/// What a CPU is doing.
#[derive(Debug, Default)]
pub(crate) struct Cpu {
    /// Who runs.
    pub(crate) current: Option<u16>,
    /// Whether who runs has given the CPU up, and to whom in particular.
    give_way: Option<Option<u16>>,
    /// The position whose slice this is.
    position: usize,
    /// When the slice ends.
    slice_end: u64,
    /// Whether the slice has ended and the epilogue runs.
    epilogue: bool,
    /// The instruction and the address of the last fault that a refill has answered.
    pub(crate) refilled: (u64, u64),
    /// Since when `current` runs, or nobody does.
    since: u64,
}

impl Kernel<'_> {
    /// Whether there is nobody to run. The caller then halts the CPU until the next interrupt.
    pub fn idle(&self) -> bool {
        self.cpu.current.is_none()
    }

    pub(crate) fn set_state(&mut self, slot: u16, state: EnvState) {
        self.environment_mut(slot).state = state;
        self.exposed.set_environment(slot, EnvWord::State, state as u64);
    }

    /// Ends the current environment's turn, for good if it has ended.
    pub(crate) fn stop_current(&mut self, slot: u16) {
        if self.cpu.current == Some(slot) {
            self.cpu.give_way = Some(None);
        }
    }

    pub(crate) fn give_way(&mut self, caller: u16, target: EnvName) -> Result<u64, Error> {
        let to = if target.is_none() {
            None
        } else {
            let slot = self.find_alive(target)?;
            if self.environment(slot).state != EnvState::Runnable && slot != caller {
                return Err(Error::NotRunnable);
            }
            Some(slot)
        };
        self.give_up(caller, EnvState::Runnable);
        self.cpu.give_way = Some(to);
        Ok(0)
    }

    pub(crate) fn sleep(
        &mut self,
        machine: &impl Machine,
        caller: u16,
        until: u64,
    ) -> Result<u64, Error> {
        let pending = self.pending(machine, caller);
        if pending == 0 && until > machine.now() {
            self.environment_mut(caller).wake_at = until;
            self.give_up(caller, EnvState::Asleep);
            self.cpu.give_way = Some(None);
        }
        Ok(0)
    }

    pub(crate) fn slice(
        &mut self,
        machine: &impl Machine,
        caller: u16,
        cpu: u32,
        position: u32,
        environment: EnvName,
        capability: u32,
    ) -> Result<u64, Error> {
        if position as usize >= self.positions || cpu > 0 {
            return Err(Error::NoSlice);
        }
        let position = position as usize;
        let holder = self.exposed.holder(position);
        if environment == NOBODY {
            if holder.is_none() {
                return Err(Error::SliceTaken);
            }
            let from = self.target(caller, holder, capability, Rights::CONTROL)?;
            self.exposed.set_holder(position, EnvName::NONE);
            self.release_slice(machine, from);
            return Ok(0);
        }
        let to = self.living_target(caller, environment, capability, Rights::CONTROL)?;
        if !holder.is_none() {
            return Err(Error::SliceTaken);
        }
        self.hold(machine, to, Kind::Slices, 1)?;
        self.exposed.set_holder(position, self.environment(to).name);
        self.exposed.count_environment(to, EnvWord::Slices, 1);
        Ok(0)
    }

    fn release_slice(&mut self, machine: &impl Machine, from: u16) {
        self.release(machine, from, Kind::Slices, 1);
        self.exposed.count_environment(from, EnvWord::Slices, u64::MAX);
    }

    /// Takes every slice of an environment that ends.
    pub(crate) fn release_slices(&mut self, machine: &impl Machine, slot: u16) {
        let name = self.environment(slot).name;
        for position in 0..self.positions {
            if self.exposed.holder(position) == name {
                self.exposed.set_holder(position, EnvName::NONE);
                self.release_slice(machine, slot);
            }
        }
    }

    /// Charges the time since the last charge to who has run.
    fn charge(&mut self, machine: &impl Machine, now: u64) {
        let passed = now.saturating_sub(self.cpu.since);
        self.cpu.since = now;
        match self.cpu.current {
            Some(slot) => {
                let environment = self.environment_mut(slot);
                environment.run_time += passed;
                let run_time = environment.run_time;
                self.exposed.set_environment(slot, EnvWord::RunTime, run_time);
                // The contract page of one that has just ended is somebody else's soon.
                if self.environment(slot).alive() {
                    self.expose_clock(machine, slot);
                }
            }
            None => self.exposed.count(StatisticsWord::Idle, passed),
        }
    }

    /// The timer has fired. Afterwards `context` is what is to run.
    pub fn tick<M: Machine>(&mut self, machine: &mut M, context: &mut Context) {
        let now = machine.now();
        self.exposed.count(StatisticsWord::Interrupts, 1);
        self.expose_time(now);
        self.charge(machine, now);
        self.wake_sleepers(now);
        self.repossess_due(machine, now);
        if let Some(slot) = self.cpu.current
            && now >= self.cpu.slice_end
            && self.cpu.give_way.is_none()
        {
            self.end_slice(machine, slot, now);
        }
        self.leave(machine, context);
        self.set_alarm(machine, now);
    }

    /// The slice is over. Who can be told gets the grace to save its registers itself. From who
    /// can't, because it doesn't want to know or holds events back, the CPU is taken without
    /// reproach. Who has been told before, and has not given the CPU up since, overruns.
    fn end_slice(&mut self, machine: &mut impl Machine, slot: u16, now: u64) {
        let grace = self.slice / GRACE_PART;
        if self.cpu.epilogue && now < self.cpu.slice_end + grace {
            return;
        }
        if self.environment(slot).epilogue {
            self.overrun(machine, slot, now);
        } else if self.would_deliver(machine, slot, Event::SliceEnd) {
            self.cpu.epilogue = true;
            self.environment_mut(slot).epilogue = true;
            self.post(machine, slot, Event::SliceEnd);
        } else {
            self.set_state(slot, EnvState::Runnable);
            self.cpu.give_way = Some(None);
        }
    }

    /// Takes note that an environment gives the CPU up by its own will.
    fn give_up(&mut self, slot: u16, state: EnvState) {
        let environment = self.environment_mut(slot);
        environment.epilogue = false;
        environment.overruns = 0;
        self.set_state(slot, state);
    }

    /// The epilogue has not ended in time: the rest is done by force.
    fn overrun(&mut self, machine: &mut impl Machine, slot: u16, now: u64) {
        let excess = now - self.cpu.slice_end;
        let environment = self.environment_mut(slot);
        environment.excess += excess;
        environment.overruns += 1;
        environment.forfeit += 1;
        let (overruns, excess) = (environment.overruns, environment.excess);
        self.exposed.set_environment(slot, EnvWord::Excess, excess);
        if overruns > OVERRUNS {
            self.destroy(machine, slot, EndReason::Overrun, overruns.into());
        } else {
            self.set_state(slot, EnvState::Runnable);
            self.cpu.give_way = Some(None);
        }
    }

    fn wake_sleepers(&mut self, now: u64) {
        for slot in 0..self.environments.len() as u16 {
            let environment = self.environment(slot);
            if environment.state == EnvState::Asleep && environment.wake_at <= now {
                self.set_state(slot, EnvState::Runnable);
            }
        }
    }

    /// Asks for the next tick.
    fn set_alarm(&mut self, machine: &mut impl Machine, now: u64) {
        let mut at = now + LONGEST_WAIT;
        if self.cpu.current.is_some() {
            let grace = if self.cpu.epilogue { self.slice / GRACE_PART } else { 0 };
            at = at.min(self.cpu.slice_end + grace);
        }
        for environment in self.environments.iter() {
            if environment.state == EnvState::Asleep {
                at = at.min(environment.wake_at);
            }
            if environment.alive() {
                let due = environment.accounts.next_due().unwrap_or(u64::MAX);
                at = at.min(due.max(now + self.slice));
            }
        }
        machine.set_alarm(at);
    }

    /// After each entry to the kernel: switches if who runs has given way, then delivers events.
    pub(crate) fn leave(&mut self, machine: &mut impl Machine, context: &mut Context) {
        loop {
            if let Some(target) = self.cpu.give_way.take() {
                self.put_away(machine, context);
                self.run_next(machine, context, target);
            } else if self.cpu.current.is_none() {
                self.run_next(machine, context, None);
            }
            let Some(slot) = self.cpu.current else { return };
            self.deliver(machine, context, slot);
            if self.cpu.give_way.is_none() {
                return;
            }
        }
    }

    /// Saves who has run until now.
    fn put_away(&mut self, machine: &mut impl Machine, context: &Context) {
        let now = machine.now();
        self.charge(machine, now);
        let Some(slot) = self.cpu.current.take() else { return };
        if !self.environment(slot).alive() {
            return;
        }
        let bases = machine.segment_bases();
        let environment = self.environment_mut(slot);
        environment.context = *context;
        environment.bases = bases;
    }

    /// Finds who runs next, and loads it.
    fn run_next(&mut self, machine: &mut impl Machine, context: &mut Context, target: Option<u16>) {
        let now = machine.now();
        let directed = target
            .filter(|&slot| self.environment(slot).state == EnvState::Runnable)
            .filter(|_| now < self.cpu.slice_end);
        let next = directed.or_else(|| {
            let next = self.next_holder();
            self.cpu.slice_end = now + self.slice;
            next
        });
        self.cpu.epilogue = false;
        let Some(slot) = next else {
            machine.deactivate();
            return self.set_alarm(machine, now);
        };
        self.cpu.current = Some(slot);
        self.set_state(slot, EnvState::Running);
        self.withdraw(machine, slot, Event::SliceEnd);
        self.exposed.count(StatisticsWord::Switches, 1);
        let environment = self.environment(slot);
        *context = environment.context;
        let (bases, vectors) = (environment.bases, environment.pages.vectors);
        machine.set_segment_bases(bases);
        machine.switch_vectors(vectors);
        if let Some(root) = self.bindings.root(slot) {
            machine.activate(root);
        }
        self.expose_clock(machine, slot);
        self.set_alarm(machine, now);
    }

    /// The next position whose holder can run. One that has forfeited slices pays with this one,
    /// unless nobody else can run.
    fn next_holder(&mut self) -> Option<u16> {
        let mut last_resort = None;
        for step in 1..=self.positions {
            let position = (self.cpu.position + step) % self.positions;
            let holder = self.exposed.holder(position);
            if holder.is_none() {
                continue;
            }
            let slot = holder.index() as u16;
            if self.environment(slot).state != EnvState::Runnable {
                continue;
            }
            if self.environment(slot).forfeit > 0 {
                self.environment_mut(slot).forfeit -= 1;
                last_resort = last_resort.or(Some((position, slot)));
                continue;
            }
            self.cpu.position = position;
            return Some(slot);
        }
        let (position, slot) = last_resort?;
        self.cpu.position = position;
        Some(slot)
    }

    /// When the current slice ends, for the contract page.
    pub(crate) fn slice_end(&self) -> u64 {
        self.cpu.slice_end
    }

    /// An interrupt that was no tick has been handled. Afterwards `context` is what is to run.
    pub fn after_interrupt<M: Machine>(&mut self, machine: &mut M, context: &mut Context) {
        self.exposed.count(StatisticsWord::Interrupts, 1);
        self.leave(machine, context);
    }
}
