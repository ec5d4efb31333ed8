//! The abort protocol: ask, demand, repossess, tell; and the accounts that it balances.
//!
//! Limits are conserved, and what an environment holds above its limit is its debt. Asking lowers
//! the limit; giving back, of its own choice, lowers the debt. Past the deadline the kernel takes
//! frames itself, a bounded number at each tick, in a fixed order: those that the owner has not
//! wired by number, then the wired ones. Pinned frames cost the ring that pins them. Donated
//! frames are the owner's tables and are never taken. Each loss is in the record before the
//! owner runs again.

use crate::environment::Repossession;
use crate::exposed::SystemWord;
use crate::kernel::Kernel;
use crate::machine::Machine;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use exo_abi::contract::Kind;
use exo_abi::tables::{EnvWord, StatisticsWord};
use exo_abi::upcall::Event;
use exo_abi::{EnvName, Error, FrameNumber};
use secure_bindings::Scan;
use secure_bindings::account::Ask;

/// How many frames one step takes at most.
const STEP_FRAMES: u64 = 32;
/// How many entries of the frame table one search looks at.
const STEP_ENTRIES: usize = 4096;

impl<M: Machine> Kernel<'_, M> {
    /// Charges an environment's account.
    pub(crate) fn hold(&mut self, slot: u16, kind: Kind, count: u64) -> Result<(), Error> {
        self.environment_mut(slot).accounts.take(kind, count)?;
        self.expose_accounts(slot);
        Ok(())
    }

    /// Credits an environment's account with what it no longer holds.
    pub(crate) fn release(&mut self, slot: u16, kind: Kind, count: u64) {
        let accounts = &mut self.environment_mut(slot).accounts;
        let before = accounts.get(kind).surrendered;
        accounts.give(kind, count);
        let surrendered = accounts.get(kind).surrendered - before;
        self.count(StatisticsWord::Surrendered, surrendered);
        self.expose_accounts(slot);
    }

    pub(crate) fn revoke(
        &mut self,
        caller: u16,
        from: u16,
        kind: Kind,
        count: u64,
        [own, wall]: [u64; 2],
    ) -> Result<u64, Error> {
        if kind != Kind::Frames {
            return Err(Error::BadKind);
        }
        if from == caller || count == 0 {
            return Err(Error::BadArgument);
        }
        let now = self.machine.now();
        let own_now = self.board.cell(from).run_time();
        let victim = self.environment_mut(from);
        let notice = victim.notice;
        let debt = victim.accounts.ask(kind, Ask { count, now, own_now, own, wall, notice })?;
        victim.repossession = Repossession::default();
        self.environment_mut(caller).accounts.grant_in(kind, count);
        self.count(StatisticsWord::Asks, 1);
        self.expose_accounts(caller);
        self.expose_accounts(from);
        if debt > 0 {
            self.note_dues();
            self.post(from, Event::Revoke);
            // They have alarms to set.
            self.board.call_idle(self.machine);
        }
        Ok(debt)
    }

    pub(crate) fn grant(
        &mut self,
        caller: u16,
        environment: EnvName,
        kind: Kind,
        count: u64,
    ) -> Result<u64, Error> {
        let to = self.find_alive(environment)?;
        self.environment_mut(caller).accounts.grant_out(kind, count)?;
        self.environment_mut(to).accounts.grant_in(kind, count);
        self.expose_accounts(caller);
        self.expose_accounts(to);
        Ok(0)
    }

    pub(crate) fn acknowledge(
        &mut self,
        caller: u16,
        kind: Kind,
        epoch: u64,
    ) -> Result<u64, Error> {
        if kind != Kind::Frames {
            return Err(Error::BadKind);
        }
        let machine = self.machine;
        self.environment_mut(caller).losses.acknowledge(machine, kind, epoch)?;
        Ok(0)
    }

    /// Takes from everybody whose debt is due, one step each. Whoever lets it come to that pays for
    /// the time, and whoever runs meanwhile gets it back.
    pub(crate) fn repossess_due(&mut self, now: u64) {
        let cpu = self.board.here(self.machine);
        let mut last = now;
        for slot in 0..self.environments.len() as u16 {
            let environment = self.environment(slot);
            let own_now = self.board.cell(slot).run_time();
            let due = environment.accounts.overdue(Kind::Frames, now, own_now);
            let alive = environment.alive();
            let payer = self.payer(slot);
            let homes = self.board.cell(payer).homes.load(Relaxed);
            if due > 0 && alive && (homes == 0 || homes & 1 << cpu.number != 0) {
                self.repossess_step(slot, due, now);
                let done = self.machine.now();
                cpu.charge_owed(payer, done.saturating_sub(last));
                last = done;
            }
        }
        cpu.prolong(last.saturating_sub(now));
        self.note_dues();
    }

    /// In whose time frames are taken from an environment: its own, or if it has none that of the
    /// nearest of its forebears that has some.
    fn payer(&self, slot: u16) -> u16 {
        let mut payer = slot;
        while self.board.cell(payer).homes.load(Relaxed) == 0
            && let Some(parent) = self.environment(payer).parent
        {
            payer = parent;
        }
        payer
    }

    /// Takes note whether anybody has a debt. Some are due by their owners' run time, which nobody
    /// else follows, so that all are looked at with each tick.
    fn note_dues(&self) {
        let mut alive = self.environments.iter().filter(|environment| environment.alive());
        let indebted = alive.any(|environment| environment.accounts.next_due().is_some());
        self.board.next_due.store(if indebted { 0 } else { u64::MAX }, SeqCst);
    }

    fn repossess_step(&mut self, slot: u16, due: u64, now: u64) {
        let (machine, mut taken) = (self.machine, 0);
        while taken < due.min(STEP_FRAMES) {
            let Some(frame) = self.next_victim(slot) else { break };
            if self.bindings.frames.entry(frame).is_ok_and(|entry| entry.pins > 0) {
                self.break_ring_over(slot, frame);
            }
            if !self.bindings.repossess(frame) {
                continue;
            }
            let environment = self.environment_mut(slot);
            let epoch = environment.losses.note(machine, Kind::Frames, frame.0.into(), now);
            environment.accounts.lose(Kind::Frames, epoch);
            taken += 1;
        }
        if taken > 0 {
            self.count(StatisticsWord::Repossessed, taken);
            self.post(slot, Event::Lost);
            self.expose_accounts(slot);
        }
    }

    /// The next frame to take from an environment, by the order in the module's text. `None`: the
    /// search goes on at the next tick, or there is nothing left to take.
    fn next_victim(&mut self, slot: u16) -> Option<FrameNumber> {
        loop {
            let Repossession { next, wired_too } = self.environment(slot).repossession;
            let frame = match self.bindings.frames.next_held(slot, next, STEP_ENTRIES) {
                Scan::Found(frame) => frame,
                Scan::More(next) => {
                    self.environment_mut(slot).repossession.next = next;
                    return None;
                }
                Scan::End => {
                    self.environment_mut(slot).repossession =
                        Repossession { next: FrameNumber(0), wired_too: true };
                    return None;
                }
            };
            self.environment_mut(slot).repossession.next = FrameNumber(frame.0 + 1);
            let pinned = self.bindings.frames.entry(frame).is_ok_and(|entry| entry.pins > 0);
            if wired_too || !pinned && !self.bindings.wired(frame) {
                return Some(frame);
            }
        }
    }

    /// Writes an environment's accounts where it and everybody can read them.
    pub(crate) fn expose_accounts(&self, slot: u16) {
        let environment = self.environment(slot);
        environment.accounts.write_to(self.machine.page(environment.pages.contract));
        let frames = environment.accounts.get(Kind::Frames);
        for (word, value) in [
            (EnvWord::Frames, frames.held),
            (EnvWord::FramesLimit, frames.limit),
            (EnvWord::FramesFloor, frames.floor),
            (EnvWord::Asks, frames.asks),
            (EnvWord::Surrendered, frames.surrendered),
            (EnvWord::Repossessed, frames.repossessed),
            (EnvWord::Filters, environment.accounts.get(Kind::Filters).held),
            (EnvWord::Rings, environment.accounts.get(Kind::Rings).held),
        ] {
            self.exposed.set_environment(slot, word, value);
        }
        self.expose_free();
    }

    /// Writes how many frames are free.
    pub(crate) fn expose_free(&self) {
        let free = self.bindings.frames.free_count();
        self.exposed.set_system(SystemWord::FramesFree, free);
    }
}
