//! A CPU, as the code that runs on it sees it: what it is doing, and what it shares with the others.

use crate::board::{Board, CpuCell, DOOMED, EnvCell, GENERATION, running};
use crate::context::Context;
use crate::machine::Machine;
use core::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use exo_abi::tables::{EnvState, EnvWord, StatisticsWord, SystemWord};
use exo_abi::{EnvName, Error};

/// The CPU that asks. Nothing here takes the kernel's lock, and only where it says so anything wants
/// it to be held.
#[derive(Debug)]
pub struct Processor<'a, M> {
    /// What it runs on.
    pub machine: &'a M,
    /// What it shares.
    pub board: &'a Board<'a>,
    /// Its own cell.
    pub cpu: &'a CpuCell<'a>,
}

impl<'a, M: Machine> Processor<'a, M> {
    /// The CPU that calls.
    pub fn here(machine: &'a M, board: &'a Board<'a>) -> Self {
        Self { machine, board, cpu: &board.cpus[machine.cpu()] }
    }

    /// Claims the environment with this name, if its state is `from`.
    ///
    /// # Errors
    /// The state word that it has instead, or `None` if there is no such slot.
    pub(crate) fn claim(&self, name: EnvName, from: EnvState) -> Result<&EnvCell<'a>, Option<u64>> {
        let cell = self.board.cells.get(name.index()).ok_or(None)?;
        cell.claim(self.cpu.number, name, from).map_err(Some)?;
        Ok(cell)
    }

    /// Gives a claim of this CPU's up.
    pub(crate) fn release(&self, cell: &EnvCell<'_>, to: EnvState) {
        // By addition, so that a doom that comes at the same time stays.
        cell.word(EnvWord::State)
            .fetch_add((to as u64).wrapping_sub(running(self.cpu.number)), AcqRel);
    }

    /// Makes a claimed environment a sleeper, unless an event is pending.
    pub(crate) fn release_asleep(&self, cell: &EnvCell<'_>) {
        let until = cell.wake_at.load(Relaxed);
        self.release(cell, EnvState::Asleep);
        self.settle_sleeper(cell, until);
    }

    /// Sees to it that an environment that has just become a sleeper wakes when it is to.
    pub(crate) fn settle_sleeper(&self, cell: &EnvCell<'_>, until: u64) {
        self.board.next_wake.fetch_min(until, SeqCst);
        if cell.pending(self.machine) != 0 {
            self.wake(cell);
        }
    }

    /// Wakes a sleeper, and lets the idle CPUs know.
    pub(crate) fn wake(&self, cell: &EnvCell<'_>) {
        if cell.wake() {
            self.call_idle();
        }
    }

    /// Lets those idle CPUs know of an environment that has become runnable that might run it: where
    /// it holds slices, or any if it holds none, since it then runs in the place of another.
    pub(crate) fn offer(&self, cell: &EnvCell<'_>) {
        let (idle, homes) = (self.board.idle.load(SeqCst), cell.homes.load(Relaxed));
        let called = if homes == 0 { idle } else { idle & homes };
        if called != 0 {
            self.kick(called);
        }
    }

    /// Makes the other CPUs that have nobody to run look again.
    pub(crate) fn call_idle(&self) {
        self.kick(self.board.idle.load(SeqCst));
    }

    fn kick(&self, mut idle: u64) {
        while idle != 0 {
            let cpu = idle.trailing_zeros() as usize;
            idle &= idle - 1;
            if cpu != self.cpu.number {
                self.machine.kick(cpu);
            }
        }
    }

    /// Sees to it that nobody runs an environment, or ever will. Under the lock.
    pub(crate) fn doom(&self, slot: u16) {
        let cell = self.board.cell(slot);
        cell.word(EnvWord::State).fetch_or(DOOMED, SeqCst);
        self.drop_doomed();
        while let Some(cpu) = cell.runs_on() {
            self.machine.kick(cpu);
            self.machine.pause();
        }
        // A CPU that has just let go may still be on the way out of its address space: it has said
        // that it uses another, and not yet loaded that. The kernel itself is in the old one's tables.
        self.machine.quiesce();
    }

    /// Wakes those who wait for an environment that has ended. Under the lock.
    pub(crate) fn bereave(&self, name: EnvName) {
        for cell in self.board.cells {
            self.let_down(cell, name);
        }
    }

    /// Wakes an environment if it waits for another that has ended.
    fn let_down(&self, cell: &EnvCell<'_>, name: EnvName) {
        let waits = || cell.heir.load(Relaxed) == name.0;
        // Once claimed, it does not change any more.
        if !waits() || self.claim(cell.name(), EnvState::Asleep).is_err() {
            return;
        }
        if waits() {
            cell.heir.store(0, Relaxed);
            cell.status.store(Error::StaleEnvironment as u64, Relaxed);
            self.release(cell, EnvState::Runnable);
            self.call_idle();
        } else {
            self.release_asleep(cell);
        }
    }

    /// Gives a claim of a sleeper up that was not used. Whom it waits for may have ended meanwhile,
    /// and [`Processor::bereave`] have passed over a claimed environment.
    pub(crate) fn let_sleep(&self, cell: &EnvCell<'_>) {
        self.release_asleep(cell);
        self.look_after(cell);
    }

    /// Does what others would have done to an environment while this CPU had a claim of it that was of no
    /// use and that the short way has given back.
    pub fn reconsider(&self, cell: &EnvCell<'_>) {
        self.settle_sleeper(cell, cell.wake_at.load(Relaxed));
        self.look_after(cell);
        self.offer(cell);
    }

    fn look_after(&self, cell: &EnvCell<'_>) {
        let heir = EnvName(cell.heir.load(Relaxed));
        if let Some(other) = self.board.cells.get(heir.index())
            && !heir.is_none()
            && other.state_word() & GENERATION != heir.0 & GENERATION
        {
            self.let_down(cell, heir);
        }
    }

    /// Goes on with an environment that rested and is already the one that runs.
    pub fn resume(&self, cell: &EnvCell<'_>, context: &mut Context) {
        cell.load_rested(context);
        self.cpu.loaded.store(1, Relaxed);
    }

    /// Loads a claimed environment: it runs from now on, with the registers in `context`.
    pub(crate) fn load(&self, slot: u16, forced: bool, context: &mut Context) {
        let cell = self.board.cell(slot);
        if forced {
            cell.load_saved(context);
            self.cpu.loaded.store(1, Relaxed);
        } else {
            self.resume(cell, context);
        }
        self.enter(cell, slot);
    }

    /// Makes a claimed environment the one that runs.
    #[inline]
    pub(crate) fn enter(&self, cell: &EnvCell<'_>, slot: u16) {
        self.cpu.set_current(Some(slot));
        self.machine
            .set_segment_bases([&cell.bases[0], &cell.bases[1]].map(|base| base.load(Relaxed)));
        self.machine.switch_vectors(slot);
        self.machine.activate(cell.root());
    }

    /// Keeps the segment bases of who runs, and charges its time.
    #[inline]
    pub(crate) fn leave_cell(&self, cell: &EnvCell<'_>, now: u64) {
        self.cpu.charge(cell, now);
        let bases = self.machine.segment_bases();
        cell.bases[0].store(bases[0], Relaxed);
        cell.bases[1].store(bases[1], Relaxed);
    }

    /// Charges the time since the last charge to who has run.
    pub(crate) fn charge(&self, now: u64) {
        match self.cpu.current() {
            Some(slot) => self.cpu.charge(self.board.cell(slot), now),
            None => {
                self.cpu
                    .count(StatisticsWord::Idle, now.saturating_sub(self.cpu.since.load(Relaxed)));
                self.cpu.since.store(now, Relaxed);
            }
        }
    }

    /// Writes the time of a tick where everybody can read it.
    pub(crate) fn expose_time(&self, now: u64) {
        self.board.exposed.raise_system(SystemWord::Time, now);
    }
}
