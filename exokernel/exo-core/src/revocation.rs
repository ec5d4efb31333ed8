//! The abort protocol: ask, demand, repossess, tell; and the accounts that it balances.
//!
//! Limits are conserved, and what an environment holds above its limit is its debt. Asking lowers
//! the limit; giving back, of its own choice, lowers the debt. Past the deadline the kernel takes
//! names itself, a bounded number at each tick: first those on the owner's surrender list, then by
//! number. Of frames those go first that nobody has wired or pinned, then what was donated beyond the
//! least cache of tables, which costs nothing but time, then the others. Pinned frames cost the ring that
//! pins them, and a ring its filters. Each loss is in the record before the owner runs again.
//!
//! All kinds go the same way. What is a kind's own is how the next name that somebody holds is found
//! ([`Kernel::next_held`]), how it is known as theirs ([`Kernel::holds`]), and how it is broken
//! ([`Kernel::take`]).

use crate::call::Answer;
use crate::environment::Repossession;
use crate::kernel::{DEBTORS, Kernel};
use crate::machine::{FILTERS, Machine};
use crate::network::RINGS;
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use exo_abi::contract::{KINDS, Kind};
use exo_abi::control::{SURRENDER_COUNT, SURRENDER_SLOTS, SURRENDER_WORD, Surrender};
use exo_abi::tables::{Cause, EnvWord, StatisticsWord, SystemWord};
use exo_abi::upcall::Event;
use exo_abi::{EnvName, Error, FrameNumber};
use secure_bindings::account::Ask;

/// The work of one step, whoever's names it takes, so that no tick takes longer. One is an entry of the
/// frame table that is looked at: about five instructions.
const STEP: u32 = 2560;
/// The work of a name that is taken, of one that is looked at, and of a frame that is saved. With a ring
/// go its filters: that is a whole step.
const TAKEN: u32 = 128;
const LOOKED_AT: u32 = 4;
const SAVED: u32 = 512;

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
        if surrendered > 0 {
            self.count(StatisticsWord::Surrendered, surrendered);
            let asker = self.environment(slot).repossessions[kind as usize].asker;
            let what = (Cause::Surrendered, kind);
            self.note_move(self.machine.now(), what, (slot, asker), surrendered);
        }
        self.expose_accounts(slot);
    }

    /// As [`Kernel::release`], for the name with this number. While names are taken by force, it is a
    /// loss.
    pub(crate) fn release_one(&mut self, slot: u16, kind: Kind, number: u32) {
        let Some(now) = self.taking else { return self.release(slot, kind, 1) };
        let machine = self.machine;
        let environment = self.environment_mut(slot);
        let epoch = environment.losses.note(machine, kind, number, now);
        environment.accounts.lose(kind, epoch);
        let asker = environment.repossessions[kind as usize].asker;
        self.note_move(now, (Cause::Repossessed, kind), (slot, asker), kind.name(number));
        self.count(StatisticsWord::Repossessed, 1);
    }

    /// Writes down for everybody what moved, and between whom.
    fn note_move(&self, now: u64, what: (Cause, Kind), who: (u16, EnvName), count: u64) {
        let what = what.0 as u64 | (what.1 as u64) << 8;
        let victim = self.environment(who.0).name.0;
        self.exposed.append_move([now, victim, who.1.0, what, count]);
    }

    pub(crate) fn revoke(
        &mut self,
        caller: u16,
        from: u16,
        kind: Kind,
        count: u64,
        [own, wall]: [u64; 2],
    ) -> Answer {
        if kind == Kind::Environments {
            return Err(Error::BadKind);
        }
        if from == caller || count == 0 {
            return Err(Error::BadArgument);
        }
        let now = self.machine.now();
        let own_now = self.board.cell(from).run_time();
        let asker = self.environment(caller).name;
        let victim = self.environment_mut(from);
        let notice = victim.notice;
        let debt = victim.accounts.ask(kind, Ask { count, now, own_now, own, wall, notice })?;
        victim.repossessions[kind as usize] = Repossession::by(asker);
        self.note_move(now, (Cause::Asked, kind), (from, asker), count);
        self.environment_mut(caller).accounts.grant_in(kind, count);
        self.count(StatisticsWord::Asks, 1);
        self.expose_accounts(caller);
        self.expose_accounts(from);
        if debt > 0 {
            self.debtors[usize::from(from / 64)] |= 1 << (from % 64);
            self.board.next_due.store(0, SeqCst);
            self.post(from, Event::Revoke);
            // They have alarms to set.
            self.here().call_idle();
        }
        Ok(debt)
    }

    pub(crate) fn grant(
        &mut self,
        caller: u16,
        environment: EnvName,
        kind: Kind,
        count: u64,
    ) -> Answer {
        let to = self.find_alive(environment)?;
        self.environment_mut(caller).accounts.grant_out(kind, count)?;
        self.environment_mut(to).accounts.grant_in(kind, count);
        let giver = self.environment(caller).name;
        self.note_move(self.machine.now(), (Cause::Granted, kind), (to, giver), count);
        self.expose_accounts(caller);
        self.expose_accounts(to);
        Ok(0)
    }

    pub(crate) fn acknowledge(&mut self, caller: u16, kind: Kind, epoch: u64) -> Answer {
        if kind == Kind::Environments {
            return Err(Error::BadKind);
        }
        let machine = self.machine;
        self.environment_mut(caller).losses.acknowledge(machine, kind, epoch)?;
        Ok(0)
    }

    /// Takes from everybody whose debt is due, one step each. Whoever lets it come to that pays for
    /// the time, and whoever runs meanwhile gets it back. As long as anybody has a debt, all are looked
    /// at with each tick: some are due by their owners' run time, which nobody else follows.
    pub(crate) fn repossess_due(&mut self, now: u64, cpus: u64) {
        let (mut last, turn) = (now, self.turn);
        self.work = STEP;
        // Who found the work all done is the first next time.
        let order = slots(self.debtors).filter(|&slot| slot >= turn);
        for slot in order.chain(slots(self.debtors).filter(|&slot| slot < turn)) {
            let environment = self.environment(slot);
            if !environment.alive() || environment.accounts.next_due().is_none() {
                self.debtors[usize::from(slot / 64)] &= !(1 << (slot % 64));
                continue;
            }
            if self.work == 0 {
                self.turn = slot;
                break;
            }
            let own_now = self.board.cell(slot).run_time();
            let due = Kind::ALL.map(|kind| environment.accounts.overdue(kind, now, own_now));
            let homes = self.board.cell(self.payer(slot)).homes.load(Relaxed);
            if due != [0; KINDS] && (homes == 0 || homes & cpus != 0) {
                for (kind, due) in Kind::ALL.into_iter().zip(due) {
                    self.repossess_step(slot, kind, due, now);
                }
                let done = self.machine.now();
                self.charge(slot, done.saturating_sub(last), cpus);
                last = done;
            }
        }
        self.here().cpu.prolong(last.saturating_sub(now));
        let next = if self.debtors == [0; DEBTORS] { u64::MAX } else { 0 };
        self.board.next_due.store(next, SeqCst);
    }

    /// Charges time that was used for an environment: where who pays has slices, since it pays with these,
    /// and on one of these CPUs if it has some there.
    pub(crate) fn charge(&self, slot: u16, time: u64, cpus: u64) {
        let payer = self.payer(slot);
        let homes = self.board.cell(payer).homes.load(Relaxed);
        let home = if homes & cpus != 0 { homes & cpus } else { homes };
        let cpu = self.board.cpus.get(home.trailing_zeros() as usize);
        cpu.unwrap_or(self.here().cpu).charge_owed(payer, time, self.board.slice);
    }

    /// Who pays for what is done for an environment: itself, or if it has no slices the nearest of its
    /// forebears that has some.
    fn payer(&self, slot: u16) -> u16 {
        let mut payer = slot;
        while self.board.cell(payer).homes.load(Relaxed) == 0
            && let Some(parent) = self.environment(payer).parent
        {
            payer = parent;
        }
        payer
    }

    fn repossess_step(&mut self, slot: u16, kind: Kind, due: u64, now: u64) {
        let mut left = due;
        self.taking = Some(now);
        let control = self.machine.page(self.environment(slot).pages.control);
        let listed = control[SURRENDER_COUNT].load(Relaxed).min(SURRENDER_SLOTS as u64);
        let mut list = 0..listed as usize;
        while left > 0 && self.work > 0 {
            let listed = list.find_map(|entry| self.next_listed(slot, kind, entry));
            let Some(number) = listed.or_else(|| self.next_victim(slot, kind)) else {
                break;
            };
            self.spend(if kind == Kind::Rings { STEP } else { TAKEN });
            left -= u64::from(self.take(slot, kind, number));
        }
        self.taking = None;
        if left < due {
            if matches!(kind, Kind::Filters | Kind::Rings) {
                self.load_filters();
            }
            self.post(slot, Event::Lost);
            self.expose_accounts(slot);
        }
    }

    /// Takes a name that an environment holds; says whether it could be taken.
    fn take(&mut self, slot: u16, kind: Kind, number: u32) -> bool {
        match kind {
            Kind::Frames => {
                let frame = FrameNumber(number);
                if !self.bindings.repossess(frame) {
                    // Unless it is donated, a ring is in the way.
                    self.break_ring_over(slot, frame);
                    if !self.bindings.repossess(frame) {
                        return false;
                    }
                }
                self.release_one(slot, kind, number);
            }
            Kind::Slices => {
                let cpu = &self.board.cpus[number as usize >> 6];
                self.break_slice(cpu, number & 63, slot);
            }
            Kind::Filters => self.drop_filter(slot, number),
            Kind::Rings => self.break_ring(slot, number as usize),
            Kind::Environments => {}
        }
        true
    }

    /// Whether an environment holds the name with this number, and a frame for nothing but itself.
    fn holds(&self, slot: u16, kind: Kind, number: u32) -> bool {
        match kind {
            Kind::Frames => self.bindings.frames.owned(FrameNumber(number), slot).is_ok(),
            Kind::Slices => {
                let cpu = self.board.cpus.get(number as usize >> 6);
                let holder = cpu.and_then(|cpu| cpu.slices.get(number as usize & 63));
                holder.is_some_and(|name| name.load(Relaxed) == self.environment(slot).name.0)
            }
            Kind::Filters => self.filter_holder(number) == Some(slot),
            Kind::Rings => self.own_ring(slot, number.into()).is_ok(),
            Kind::Environments => false,
        }
    }

    /// What an entry of an environment's surrender list names, if it is of this kind. The entry is
    /// struck out, and believed only so far as it names what the environment holds.
    fn next_listed(&mut self, slot: u16, kind: Kind, entry: usize) -> Option<u32> {
        self.spend(LOOKED_AT);
        let page = self.machine.page(self.environment(slot).pages.control);
        let words = &page[SURRENDER_WORD + 2 * entry..];
        let listed = [words[0].load(Acquire), words[1].load(Relaxed)];
        let surrender = Surrender::from_words(listed).filter(|entry| entry.kind == kind)?;
        // Whoever changes the list meanwhile has another entry there, which is looked at next time.
        words[0].compare_exchange(listed[0], 0, Relaxed, Relaxed).ok()?;
        let number =
            kind.number(surrender.name).filter(|&number| self.holds(slot, kind, number))?;
        if kind == Kind::Frames && surrender.save != FrameNumber(0) {
            self.save(slot, FrameNumber(number), surrender.save)?;
        }
        Some(number)
    }

    /// Copies a frame that is about to be taken to another one of its owner's. From before on nobody
    /// writes to it. `None`: the other is no place for it.
    fn save(&mut self, slot: u16, from: FrameNumber, to: FrameNumber) -> Option<()> {
        self.bindings.frames.owned(to, slot).ok().filter(|()| to != from)?;
        self.spend(SAVED);
        self.bindings.break_frame(from, true);
        for (word, saved) in self.machine.page(from).iter().zip(self.machine.page(to)) {
            saved.store(word.load(Relaxed), Relaxed);
        }
        Some(())
    }

    /// The next name to take from an environment, by the order in the module's text. `None`: the
    /// search goes on at the next tick, or there is nothing left to take.
    fn next_victim(&mut self, slot: u16, kind: Kind) -> Option<u32> {
        while self.work > 0 {
            let at = self.environment(slot).repossessions[kind as usize];
            let (found, next) = self.next_held(slot, kind, at);
            let progress = &mut self.environment_mut(slot).repossessions[kind as usize];
            progress.next = next.unwrap_or(0);
            let Some(number) = found else {
                if next.is_some() || kind != Kind::Frames || at.wired_too {
                    return None;
                }
                let spare = self.undonate(slot);
                let progress = &mut self.environment_mut(slot).repossessions[kind as usize];
                progress.wired_too = spare.is_none();
                return spare;
            };
            let is_wired = || self.bindings.frames.is_wired(FrameNumber(number));
            if kind != Kind::Frames || at.wired_too || !is_wired() {
                return Some(number);
            }
        }
        None
    }

    /// Makes a frame of an environment's kernel memory, when those have gone that nobody has wired, one
    /// that can be taken as they were. A table may have to be emptied for it: that is a whole step.
    fn undonate(&mut self, slot: u16) -> Option<u32> {
        let environment = &mut self.environments[usize::from(slot)];
        let frame = self.bindings.undonate(slot, environment.guard).ok()?;
        self.board.cell(slot).count(EnvWord::FramesDonated, u64::MAX);
        // The others need not be looked for again.
        let frames = &mut environment.repossessions[Kind::Frames as usize];
        frames.next = self.bindings.frames.count() as u32;
        self.spend(STEP);
        Some(frame.0)
    }

    /// The number of the next name that an environment holds, if a short search finds one, and where
    /// it goes on.
    fn next_held(&mut self, slot: u16, kind: Kind, at: Repossession) -> (Option<u32>, Option<u32>) {
        let Repossession { next: from, wired_too, .. } = at;
        let frames = &self.bindings.frames;
        let (count, cost) = match kind {
            Kind::Frames => (frames.count(), 1),
            Kind::Slices => (self.board.cpus.len() << 6, LOOKED_AT),
            Kind::Filters => (FILTERS, LOOKED_AT),
            Kind::Rings => (RINGS, LOOKED_AT),
            Kind::Environments => (0, LOOKED_AT),
        };
        let end = from.saturating_add(self.work / cost).min(count as u32);
        let found = match kind {
            Kind::Frames => frames.next_held(slot, from..end, wired_too).map(|frame| frame.0),
            _ => (from..end).find(|&number| self.holds(slot, kind, number)),
        };
        let next = found.map(|number| number + 1).or((end < count as u32).then_some(end));
        // At the end of a table, all that was left may have been looked at.
        self.spend(LOOKED_AT + next.map_or(self.work, |next| (next - from) * cost));
        (found, next)
    }

    /// Does so much of a step's work.
    fn spend(&mut self, work: u32) {
        self.work = self.work.saturating_sub(work);
    }

    /// Writes an environment's accounts where it and everybody can read them.
    pub(crate) fn expose_accounts(&self, slot: u16) {
        let environment = self.environment(slot);
        environment.accounts.write_to(self.machine.page(environment.pages.contract));
        let (cell, frames) = (self.board.cell(slot), environment.accounts.get(Kind::Frames));
        for (word, value) in [
            (EnvWord::Frames, frames.held),
            (EnvWord::FramesLimit, frames.limit),
            (EnvWord::FramesFloor, frames.floor),
            (EnvWord::Asks, environment.accounts.total(|account| account.asks)),
            (EnvWord::Surrendered, environment.accounts.total(|account| account.surrendered)),
            (EnvWord::Repossessed, environment.accounts.total(|account| account.repossessed)),
            (EnvWord::Debt, environment.accounts.total(|account| account.debt)),
            (EnvWord::Filters, environment.accounts.get(Kind::Filters).held),
            (EnvWord::Rings, environment.accounts.get(Kind::Rings).held),
        ] {
            cell.expose(word, value);
        }
        self.expose_free();
    }

    /// Writes how many frames are free.
    pub(crate) fn expose_free(&self) {
        let free = self.bindings.frames.free_count();
        self.exposed.set_system(SystemWord::FramesFree, free);
    }
}

/// The slots in a bitmap.
fn slots(mut bits: [u64; DEBTORS]) -> impl Iterator<Item = u16> {
    core::iter::from_fn(move || {
        let word = bits.iter().position(|&word| word != 0)?;
        let slot = word as u16 * 64 + bits[word].trailing_zeros() as u16;
        bits[word] &= bits[word] - 1;
        Some(slot)
    })
}
