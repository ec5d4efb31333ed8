//! Slices: who runs, for how long, and who is next.
//!
//! Each CPU has a vector of slice positions. A position belongs to the environment that was given
//! it, and comes round once in each turn of the vector. Positions that nobody holds, or whose
//! holder cannot run, are passed over, so that a CPU is idle only when nobody who holds one of its
//! slices can run. While a holder sleeps in a synchronous transfer, its heir runs in its place.
//!
//! A slice may end late: by an epilogue, or by a call that the kernel was in the middle of. Whoever
//! holds it owes the others that time, whoever has used it, and pays with slices. So everybody has
//! its share in the long run, whatever the others do.
//!
//! Nothing here needs the kernel's lock, but for the change of a position's holder.

use crate::board::{CpuCell, DOOMED, EnvCell};
use crate::call::Answer;
use crate::context::Context;
use crate::environment::Stage;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::processor::Processor;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use exo_abi::contract::Kind;
use exo_abi::request::NOBODY;
use exo_abi::tables::{EndReason, EnvState, EnvWord, StatisticsWord};
use exo_abi::upcall::Event;
use exo_abi::{EnvName, Error, Rights};

/// What part of a slice an environment has for its epilogue.
const GRACE_PART: u64 = 4;
/// How many slices in a row an environment may overrun before it is ended.
const OVERRUNS: u64 = 64;
/// The longest time between two ticks, in nanoseconds: how stale the exposed time can get.
const LONGEST_WAIT: u64 = 100_000_000;
/// How many environments a slice is handed on through, each waiting for the next.
const HEIRS: usize = 8;
/// How often in a slice others' sleep may end: looking for sleepers is done in the time of whoever
/// runs, and nobody loses more of its slice by it than this often.
const WAKES: u64 = 4;

/// What a CPU does after an entry to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It runs the environment whose registers are in the context.
    Run,
    /// Nobody can run: it halts until the next interrupt, and then looks again.
    Idle,
    /// What is left to do needs [`Kernel::resolve`].
    Resolve,
}

impl<'a, M: Machine> Processor<'a, M> {
    /// Gives the CPU up: to the environment that the argument names, or to whoever holds the next
    /// slice. Naming oneself is naming nobody.
    pub(crate) fn give_way(&self, context: &mut Context, cell: &EnvCell<'_>) -> Result<(), Error> {
        let target = EnvName(context.rdi);
        let named = !target.is_none() && target != cell.name();
        let forced = named && self.claim_guest(target)?;
        let (slot, now) = (target.index() as u16, self.machine.now());
        cell.rest(context, context.rsi);
        self.leave_cell(cell, now);
        self.release(cell, EnvState::Runnable);
        self.offer(cell);
        self.cpu.set_current(None);
        if !named {
            self.run_next(context, now);
        } else if now < self.cpu.slice_end() {
            self.run(slot, forced, context);
            self.set_alarm(now);
        } else {
            self.pass_over(slot, forced);
        }
        Ok(())
    }

    /// As [`claim_runnable`](Self::claim_runnable), to run it in a slice that is not its own. Who holds
    /// slices on other CPUs has to be there when they come: a slice that begins while it runs here for
    /// a microsecond would be lost.
    fn claim_guest(&self, name: EnvName) -> Result<bool, Error> {
        let cell = self.board.cells.get(name.index());
        match cell.filter(|cell| cell.homes.load(Relaxed) & !(1 << self.cpu.number) != 0) {
            Some(cell) => Err(self.refusal(name, Some(cell.state_word()))),
            None => self.claim_runnable(name),
        }
    }

    /// Claims an environment that can run; says whether it was stopped by force.
    fn claim_runnable(&self, name: EnvName) -> Result<bool, Error> {
        if self.claim(name, EnvState::Runnable).is_ok() {
            return Ok(false);
        }
        let claimed = self.claim(name, EnvState::Preempted);
        claimed.map(|_| true).map_err(|word| self.refusal(name, word))
    }

    /// Stops who runs until an event is pending or the time in the argument has come.
    pub(crate) fn sleep(&self, context: &mut Context, cell: &EnvCell<'_>) -> Result<(), Error> {
        let until = context.rdi;
        let now = self.machine.now();
        if cell.pending(self.machine) != 0 || until <= now {
            context.answer(Ok(0));
            return Ok(());
        }
        cell.rest(context, context.rsi);
        cell.heir.store(0, Relaxed);
        cell.wake_at.store(until, Relaxed);
        self.leave_cell(cell, now);
        self.release_asleep(cell);
        self.cpu.set_current(None);
        Ok(())
    }

    /// Takes the CPU from who runs, with all its registers.
    pub(crate) fn preempt(&self, context: &Context, now: u64) {
        let Some(slot) = self.cpu.current() else { return };
        let cell = self.board.cell(slot);
        cell.save(*context);
        self.leave_cell(cell, now);
        self.release(cell, EnvState::Preempted);
        self.offer(cell);
        self.cpu.set_current(None);
    }

    /// Lets go of an environment that is being ended, if it runs here, and of the address space of
    /// whom this CPU has run last if nobody does: that may be ended too. To be called before this CPU
    /// answers another one.
    pub fn drop_doomed(&self) {
        let Some(slot) = self.cpu.current() else { return self.machine.deactivate() };
        let cell = self.board.cell(slot);
        if cell.state_word() & DOOMED == 0 {
            return;
        }
        self.charge(self.machine.now());
        self.machine.deactivate();
        self.cpu.set_current(None);
        self.release(cell, EnvState::Runnable);
    }

    /// The timer has fired. `context` is what was interrupted. Returns whether debts may be due: see
    /// [`Kernel::collect`].
    pub fn tick(&self, context: &Context) -> bool {
        let now = self.machine.now();
        self.expose_time(now);
        if now >= self.board.next_wake.load(Relaxed) {
            self.wake_sleepers(now);
        }
        match self.cpu.current() {
            Some(slot) if now >= self.cpu.slice_end() => {
                self.end_slice(context, self.board.cell(slot), now);
            }
            _ => self.charge(now),
        }
        self.set_alarm(now);
        now >= self.board.next_due.load(Relaxed)
    }

    /// The slice is over. Who can be told gets the grace to save its registers itself. From who
    /// can't, because it doesn't want to know or holds events back, the CPU is taken without
    /// reproach. Who has been told before, and has not given the CPU up since, overruns. Who was
    /// entered by a transfer in another's epilogue has what is left of it, or two could hand the CPU
    /// to and fro for ever.
    fn end_slice(&self, context: &Context, cell: &EnvCell<'_>, now: u64) {
        let told = cell.was_told();
        let epilogue = self.cpu.epilogue.load(Relaxed) != 0;
        let over = !epilogue || now >= self.cpu.slice_end() + self.board.slice / GRACE_PART;
        if !told && !epilogue && cell.would_deliver(self.machine, Event::SliceEnd) {
            self.cpu.epilogue.store(1, Relaxed);
            cell.note_told();
            cell.post(self.machine, Event::SliceEnd);
        } else if told && over {
            self.overrun(context, cell, now);
        } else if over {
            self.preempt(context, now);
        }
    }

    /// The epilogue has not ended in time: the rest is done by force.
    fn overrun(&self, context: &Context, cell: &EnvCell<'_>, now: u64) {
        cell.count(EnvWord::Excess, now - self.cpu.slice_end());
        self.cpu.charge_owed(cell.name().index() as u16, self.board.slice, self.board.slice);
        if cell.count_overrun() > OVERRUNS {
            self.cpu.set_verdict(EndReason::Overrun, OVERRUNS + 1);
        } else {
            self.preempt(context, now);
        }
    }

    /// Wakes who wanted to be woken by now, and finds out who is next.
    fn wake_sleepers(&self, now: u64) {
        self.cpu.woken.store(now, Relaxed);
        self.board.next_wake.store(u64::MAX, SeqCst);
        for cell in self.board.cells {
            if !cell.is_asleep() {
                continue;
            }
            let at = cell.wake_at.load(Relaxed);
            if at <= now {
                self.wake_due(cell, now);
            } else {
                self.board.next_wake.fetch_min(at, SeqCst);
            }
        }
    }

    /// Wakes a sleeper whose time has come. It may have run meanwhile and sleep anew: only once
    /// claimed, its time does not change any more.
    fn wake_due(&self, cell: &EnvCell<'_>, now: u64) {
        if self.claim(cell.name(), EnvState::Asleep).is_err() {
            return;
        }
        if cell.wake_at.load(Relaxed) <= now {
            self.release(cell, EnvState::Runnable);
            self.offer(cell);
        } else {
            self.let_sleep(cell);
        }
    }

    /// Asks for the next tick.
    #[inline]
    fn set_alarm(&self, now: u64) {
        let mut at = now + LONGEST_WAIT;
        at = at.min(self.board.next_due.load(Relaxed).max(now + self.board.slice));
        let runs = self.cpu.current().is_some();
        if runs {
            let grace = if self.cpu.epilogue.load(Relaxed) != 0 {
                self.board.slice / GRACE_PART
            } else {
                0
            };
            at = at.min(self.cpu.slice_end() + grace);
        }
        let wake = self.board.next_wake.load(Relaxed);
        if wake < at {
            let soonest = self.cpu.woken.load(Relaxed) + self.board.slice / WAKES;
            at = if runs { wake.max(soonest).min(at) } else { wake };
        }
        self.machine.set_alarm(now, at);
    }

    /// Asks for the next tick of a slice that has just begun.
    pub fn set_slice_alarm(&self) {
        self.set_alarm(self.cpu.since.load(Relaxed));
    }

    /// After each entry to the kernel: finds somebody to run if nobody does, then delivers events.
    /// Afterwards `context` is what is to run.
    pub fn leave(&self, context: &mut Context) -> Next {
        if self.cpu.is_judged() {
            return Next::Resolve;
        }
        if self.cpu.current().is_none() && !self.find_somebody(context) {
            return Next::Idle;
        }
        self.deliver(context)
    }

    /// Runs somebody on a CPU that runs nobody. Returns whether anybody can run.
    #[inline(never)]
    fn find_somebody(&self, context: &mut Context) -> bool {
        let now = self.machine.now();
        self.charge(now);
        if self.run_next(context, now) {
            return true;
        }
        // Who becomes runnable from here on sees the bit, or is seen by the second look.
        self.board.idle.fetch_or(1 << self.cpu.number, SeqCst);
        let found = self.run_next(context, now);
        if found {
            self.board.idle.fetch_and(!(1 << self.cpu.number), SeqCst);
        } else {
            self.machine.deactivate();
            self.cpu.set_slice_end(0);
            self.set_alarm(now);
        }
        found
    }

    /// Takes note that an idle CPU looks again.
    pub fn stir(&self) {
        self.board.idle.fetch_and(!(1 << self.cpu.number), SeqCst);
        self.charge(self.machine.now());
    }

    /// Begins the next slice. Returns whether there is somebody to run.
    #[inline]
    fn run_next(&self, context: &mut Context, now: u64) -> bool {
        self.bill(now);
        let Some((slot, forced)) = self.next_holder() else { return false };
        self.cpu.set_slice_end(now + self.board.slice);
        self.run(slot, forced, context);
        self.set_alarm(now);
        true
    }

    /// Runs a claimed environment for the rest of the slice.
    #[inline]
    fn run(&self, slot: u16, forced: bool, context: &mut Context) {
        self.cpu.epilogue.store(0, Relaxed);
        self.cpu.count(StatisticsWord::Switches, 1);
        self.load(slot, forced, context);
    }

    /// Claims the next environment that can run, by the order of the positions; says whether it was
    /// stopped by force. One that owes the others a slice pays with this one. What all of them owe
    /// they owe nobody.
    #[inline]
    fn next_holder(&self) -> Option<(u16, bool)> {
        let mut least = u64::MAX;
        let found = self.next_in_turn(&mut least);
        if found.is_some() || least == u64::MAX {
            return found;
        }
        self.cpu.forgive(least - least % self.board.slice);
        self.next_in_turn(&mut least)
    }

    /// As [`next_holder`](Self::next_holder), with each position once. Lowers `least` to what is left
    /// of the debts of those that were passed over for them.
    #[inline]
    fn next_in_turn(&self, least: &mut u64) -> Option<(u16, bool)> {
        let owing = self.is_anybody_owing();
        let first = self.cpu.position.load(Relaxed) + 1;
        let mut held = self.cpu.held.load(Relaxed).rotate_right(first as u32);
        while held != 0 {
            let position = (first + u64::from(held.trailing_zeros())) % 64;
            held &= held - 1;
            let Some(holder) = self.cpu.slices.get(position as usize) else { continue };
            let holder = EnvName(holder.load(Relaxed));
            let Some(cell) = self.board.cells.get(holder.index()) else { continue };
            if cell.is_asleep() && cell.heir.load(Relaxed) == 0 {
                continue;
            }
            let claimed = if cell.claim(self.cpu.number, holder, EnvState::Runnable).is_ok() {
                Some((holder.index() as u16, false))
            } else {
                self.claim_holder(holder)
            };
            let Some((slot, forced)) = claimed else { continue };
            let owed = if owing { self.cpu.owed(holder.index()) } else { 0 };
            if owed < self.board.slice {
                self.cpu.begin(position, holder);
                return claimed;
            }
            self.cpu.pay(holder.index() as u16, self.board.slice);
            self.pass_over(slot, forced);
            *least = (owed - self.board.slice).min(*least);
        }
        None
    }

    /// Lets go of whom was claimed for a slice that its holder pays with.
    #[cold]
    fn pass_over(&self, slot: u16, forced: bool) {
        let cell = self.board.cell(slot);
        let back = if forced { EnvState::Preempted } else { EnvState::Runnable };
        self.release(cell, back);
        self.offer(cell);
    }

    /// Claims the holder of a position, or whoever it waits for.
    #[inline(never)]
    fn claim_holder(&self, holder: EnvName) -> Option<(u16, bool)> {
        let mut name = holder;
        for _ in 0..HEIRS {
            let slot = name.index() as u16;
            if let Ok(forced) = self.claim_runnable(name) {
                return Some((slot, forced));
            }
            let cell = self.board.cells.get(name.index())?;
            // A position's name may be gone already, and its slot be another's.
            if cell.name() != name || !cell.is_asleep() {
                return None;
            }
            name = EnvName(cell.heir.load(Relaxed));
            if name.is_none() {
                return None;
            }
        }
        None
    }
}

impl CpuCell<'_> {
    /// The next slice is this position's, which this environment holds.
    fn begin(&self, position: u64, holder: EnvName) {
        self.position.store(position, Relaxed);
        self.holder.store(holder.index() as u64, Relaxed);
    }

    /// Takes note of an interrupt.
    pub fn count_interrupt(&self) {
        self.count(StatisticsWord::Interrupts, 1);
    }
}

impl<M: Machine> Kernel<'_, M> {
    /// Moves an environment to another stage of its life.
    pub(crate) fn set_stage(&mut self, slot: u16, stage: Stage) {
        let generation = u64::from(self.environment(slot).name.generation());
        let word = match stage {
            Stage::Free => EnvState::Free as u64,
            Stage::Created => EnvState::Created as u64,
            Stage::Started => generation << 32 | EnvState::Preempted as u64,
            Stage::Ended => EnvState::Ended as u64,
        };
        self.environment_mut(slot).stage = stage;
        self.board.cell(slot).word(EnvWord::State).store(word, SeqCst);
    }

    pub(crate) fn slice(
        &mut self,
        caller: u16,
        place: (u32, u32),
        environment: EnvName,
        capability: u32,
    ) -> Answer {
        let cpu = self.board.cpus.get(place.0 as usize).ok_or(Error::NoSlice)?;
        let entry = cpu.slices.get(place.1 as usize).ok_or(Error::NoSlice)?;
        let holder = EnvName(entry.load(Relaxed));
        let bit = 1 << place.1;
        let from =
            if holder.is_none() {
                None
            } else {
                let held = self.target(caller, holder, capability, Rights::CONTROL);
                Some(held.map_err(
                    |error| if environment == NOBODY { error } else { Error::SliceTaken },
                )?)
            };
        if environment == NOBODY {
            let from = from.ok_or(Error::SliceTaken)?;
            self.break_slice(cpu, place.1, from);
            return Ok(0);
        }
        let to = self.living_target(caller, environment, capability, Rights::CONTROL)?;
        if from == Some(to) {
            return Err(Error::SliceTaken);
        }
        self.hold(to, Kind::Slices, 1)?;
        self.board.cell(to).count(EnvWord::Slices, 1);
        // It waits a turn, or who moves on in each of its slices would have those of a whole turn.
        cpu.charge_owed(to, self.board.slice, self.board.slice);
        entry.store(self.environment(to).name.0, Relaxed);
        cpu.held.fetch_or(bit, SeqCst);
        self.board.cell(to).homes.fetch_or(1 << cpu.number, SeqCst);
        if let Some(from) = from {
            self.release_slice(cpu, place.1, from);
        }
        self.here().call_idle();
        Ok(0)
    }

    /// Leaves a position of a CPU to nobody. Who runs in it may do so until it ends.
    pub(crate) fn break_slice(&mut self, cpu: &CpuCell<'_>, position: u32, from: u16) {
        cpu.held.fetch_and(!(1 << position), SeqCst);
        cpu.slices[position as usize].store(0, Relaxed);
        self.release_slice(cpu, position, from);
    }

    /// Takes note that an environment no longer holds a position of a CPU.
    fn release_slice(&mut self, cpu: &CpuCell<'_>, position: u32, from: u16) {
        let name = self.environment(from).name.0;
        if cpu.slices.iter().all(|holder| holder.load(Relaxed) != name) {
            self.board.cell(from).homes.fetch_and(!(1 << cpu.number), SeqCst);
        }
        let number = (cpu.number as u32) << 6 | position;
        self.release_one(from, Kind::Slices, number);
        self.board.cell(from).count(EnvWord::Slices, u64::MAX);
    }

    /// Takes every slice of an environment that ends.
    pub(crate) fn release_slices(&mut self, slot: u16) {
        let name = self.environment(slot).name;
        let board = self.board;
        for cpu in board.cpus {
            for (position, entry) in (0..).zip(cpu.slices) {
                if entry.load(Relaxed) == name.0 {
                    self.break_slice(cpu, position, slot);
                }
            }
        }
    }

    /// Ends what could not go on without the lock, or delivers what could not be delivered.
    pub fn resolve(&mut self, context: &mut Context) {
        let cpu = self.here().cpu;
        let Some(slot) = cpu.current() else {
            cpu.take_verdict();
            return;
        };
        match cpu.take_verdict() {
            Some((reason, code)) => self.destroy(slot, reason, code),
            None => self.deliver(context, slot),
        }
    }

    /// Takes what is due from everybody who has slices on one of these CPUs, or none.
    pub fn collect(&mut self, cpus: u64) {
        self.repossess_due(self.machine.now(), cpus);
    }
}
