//! The life of an environment: creation, start, capabilities, end.

use crate::call::{Answer, Span};
use crate::context::Context;
use crate::environment::{Environment, KernelPages, Stage};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::user_memory::read_words;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::contract::{ContractPage, Kind};
use exo_abi::layout::{CONTRACT, CONTROL, LABEL, USER_END, USER_START};
use exo_abi::request::{ENVIRONMENT_WORDS, EnvironmentRequest};
use exo_abi::rights::Capability;
use exo_abi::tables::{EndReason, EnvWord, StatisticsWord};
use exo_abi::upcall::Event;
use exo_abi::{EnvName, Error, Rights};
use secure_bindings::{Accounts, CapabilityTable, Record};

/// What the kernel calls itself on the console.
const KERNEL_LABEL: &[u8] = b"kernel";
/// The most frames of an environment's software TLB.
pub(crate) const TLB_FRAMES_MAX: u64 = 256;
/// How many frames one call looks at for a name that is taken back.
const REVOKE_STEP: u64 = 1024;

/// What a new environment is made of, checked.
pub(crate) struct Plan {
    pub(crate) parent: Option<u16>,
    pub(crate) guard: Capability,
    pub(crate) limits: [u64; Kind::ALL.len()],
    pub(crate) floors: [u64; Kind::ALL.len()],
    pub(crate) notice: u64,
    pub(crate) tlb_frames: usize,
    pub(crate) label: [u8; LABEL],
}

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn create(&mut self, caller: u16, address: u64) -> Answer {
        let mut words = [0; ENVIRONMENT_WORDS];
        read_words(&self.bindings, self.machine, caller, address, &mut words)?;
        let request = EnvironmentRequest::from_words(&words);
        let plan = self.check_plan(caller, &request)?;
        let donation = Span { start: request.donation, count: request.donation_count };
        let count = self.read_own_frames(caller, donation)?;
        let minimum = self.donation_minimum() + plan.tlb_frames;
        if count < minimum {
            return Err(Error::TooFewFrames);
        }
        let accounts = self.accounts_after(caller, &plan, count as u64)?;
        let slot = self.free_slot().ok_or(Error::NoFreeEnvironments)?;
        for index in 0..count {
            self.bindings.frames.set_owner(self.lists.scratch[index], slot, plan.guard.name);
        }
        self.furnish(slot, &plan, count)?;
        self.environment_mut(caller).accounts = accounts;
        self.expose_accounts(caller);
        self.hold(slot, Kind::Frames, count as u64)?;
        Ok(self.environment(slot).name.0)
    }

    fn check_plan(&self, caller: u16, request: &EnvironmentRequest) -> Result<Plan, Error> {
        let guard = Capability::from_words(request.guard).ok_or(Error::BadArgument)?;
        let slot = u32::try_from(request.capability).map_err(|_| Error::NoCapability)?;
        let capability = self.environment(caller).capabilities.get(slot)?;
        if !capability.rights.contains(Rights::CONTROL) || !capability.dominates(&guard) {
            return Err(Error::NotDominated);
        }
        if request.tlb_frames == 0 || request.tlb_frames > TLB_FRAMES_MAX {
            return Err(Error::BadArgument);
        }
        let above = |(floor, limit): (&u64, &u64)| floor > limit;
        if request.floors.iter().zip(&request.limits).any(above) {
            return Err(Error::BelowFloor);
        }
        self.check_label(caller, &request.label)?;
        Ok(Plan {
            parent: Some(caller),
            guard,
            limits: request.limits,
            floors: request.floors,
            notice: request.notice,
            tlb_frames: request.tlb_frames as usize,
            label: request.label,
        })
    }

    /// Refuses a label that would be read as something else on the console, or as the kernel or a
    /// forebear, whose lines are believed.
    fn check_label(&self, creator: u16, label: &[u8; LABEL]) -> Result<(), Error> {
        let length = label.iter().position(|&byte| byte == 0).unwrap_or(LABEL);
        let (text, rest) = label.split_at(length);
        let shown = |&byte: &u8| byte.is_ascii_graphic() && byte != b'[' && byte != b']';
        if !text.iter().all(shown) || rest.iter().any(|&byte| byte != 0) || text == KERNEL_LABEL {
            return Err(Error::BadArgument);
        }
        let mut forebear = Some(creator);
        while let Some(slot) = forebear {
            if self.board.cell(slot).label() == *label && !text.is_empty() {
                return Err(Error::BadArgument);
            }
            forebear = self.environment(slot).parent;
        }
        Ok(())
    }

    /// What the creator's accounts will be when it has given `donated` frames and what the plan
    /// promises.
    fn accounts_after(&self, caller: u16, plan: &Plan, donated: u64) -> Result<Accounts, Error> {
        if plan.limits[Kind::Frames as usize] < donated {
            return Err(Error::OverLimit);
        }
        let mut accounts = self.environment(caller).accounts;
        accounts.give(Kind::Frames, donated);
        accounts.take(Kind::Environments, 1)?;
        for kind in Kind::ALL {
            accounts.grant_out(kind, plan.limits[kind as usize])?;
        }
        Ok(accounts)
    }

    /// A slot for a new environment: the one that was freed longest ago, so that names live long.
    fn free_slot(&self) -> Option<u16> {
        let free = |slot: &u16| self.environment(*slot).stage == Stage::Free;
        (0..self.environments.len() as u16)
            .filter(free)
            .min_by_key(|&slot| self.environment(slot).name.generation())
    }

    /// Builds an environment in a free slot from the first `count` frames in the scratch list,
    /// which are already its own.
    pub(crate) fn furnish(&mut self, slot: u16, plan: &Plan, count: usize) -> Result<(), Error> {
        let donated = &self.lists.scratch[..count];
        let common = |index| self.machine.common_entry(index);
        self.bindings.create(slot, donated, plan.tlb_frames, common)?;
        let pages = KernelPages {
            control: self.bindings.take_donated(slot)?,
            contract: self.bindings.take_donated(slot)?,
            vectors: self.bindings.take_donated(slot)?,
        };
        let losses = Record::create(&mut self.bindings, slot)?;
        self.bindings.map_shared(slot, CONTROL, pages.control, true)?;
        self.bindings.map_shared(slot, CONTRACT, pages.contract, false)?;
        let generation = self.environment(slot).name.generation() + 1;
        let mut capabilities = CapabilityTable::EMPTY;
        capabilities.set(0, plan.guard)?;
        let none = Environment::EMPTY.templates;
        *self.environment_mut(slot) = Environment {
            name: EnvName::new(slot.into(), generation),
            templates: plan.parent.map_or(none, |parent| self.environment(parent).templates),
            parent: plan.parent,
            guard: plan.guard.name,
            capabilities,
            accounts: Accounts::new(&plan.limits, &plan.floors),
            notice: plan.notice,
            losses,
            pages,
            ..Environment::EMPTY
        };
        let root = self.bindings.root(slot).ok_or(Error::NoEnvironment)?;
        let tlb = self.bindings.tlb(slot).ok_or(Error::NoEnvironment)?;
        let cell = self.board.cell(slot);
        cell.furnish(self.machine, root, tlb, [pages.control, pages.vectors]);
        for cpu in self.board.cpus {
            cpu.pay(slot, cpu.owed(slot.into()));
        }
        let contract = self.machine.page(pages.contract);
        const { assert!(offset_of!(ContractPage, notice) == 8) };
        contract[0].store(self.environment(slot).name.0, Relaxed);
        contract[1].store(plan.notice, Relaxed);
        cell.clear(&plan.label);
        self.board.cell(slot).expose(EnvWord::Name, self.environment(slot).name.0);
        let parent = plan.parent.map_or(0, |parent| self.environment(parent).name.0);
        self.board.cell(slot).expose(EnvWord::Parent, parent);
        self.board.cell(slot).expose(EnvWord::FramesDonated, count as u64);
        self.count(StatisticsWord::Created, 1);
        self.set_stage(slot, Stage::Created);
        Ok(())
    }

    pub(crate) fn start(&mut self, child: u16, entry: u64, stack: u64, argument: u64) -> Answer {
        if self.environment(child).stage != Stage::Created {
            return Err(Error::WrongState);
        }
        if !(USER_START..USER_END).contains(&entry) || stack > USER_END {
            return Err(Error::BadAddress);
        }
        let board = self.board;
        board.cell(child).save(Context::start(entry, stack, argument));
        self.set_stage(child, Stage::Started);
        self.here().call_idle();
        Ok(0)
    }

    pub(crate) fn capability_grant(
        &mut self,
        caller: u16,
        to: u16,
        destination: u32,
        source: u32,
        words: [u64; 2],
    ) -> Answer {
        let capability = Capability::from_words(words).ok_or(Error::BadArgument)?;
        if !capability.rights.is_empty() {
            self.environment(caller).capabilities.derive(source, &capability)?;
        }
        self.environment_mut(to).capabilities.set(destination, capability)?;
        Ok(0)
    }

    /// Takes a name back from everybody but the caller. First the capabilities, so that nothing is
    /// bound anew while the frames are gone through.
    pub(crate) fn capability_revoke(
        &mut self,
        caller: u16,
        source: u32,
        words: [u64; 2],
        first: u64,
    ) -> Answer {
        let revoked = Capability::from_words(words).ok_or(Error::BadArgument)?;
        let Capability { name, rights } = revoked;
        self.environment(caller).capabilities.check(source, &name, rights | Rights::GRANT)?;
        for slot in (0..self.environments.len() as u16).filter(|&slot| slot != caller) {
            self.environment_mut(slot).capabilities.revoke(&revoked);
        }
        let of_pages = rights.intersects(Rights::READ | Rights::WRITE | Rights::EXECUTE);
        let count = if of_pages { self.bindings.frames.count() as u64 } else { 0 };
        let (first, end) = (first.min(count), count.min(first.saturating_add(REVOKE_STEP)));
        self.bindings.revoke(&name, caller, first as u32..end as u32);
        Ok(if end < count { end } else { 0 })
    }

    /// Ends an environment, or frees the slot of one that has ended.
    pub(crate) fn destroy(&mut self, slot: u16, reason: EndReason, code: u64) {
        if self.environment(slot).stage == Stage::Ended {
            return self.reap(slot);
        }
        self.here().doom(slot);
        self.flush_rest(slot);
        self.input.leave(slot);
        self.release_network(slot);
        self.release_slices(slot);
        self.machine.forget_vectors(slot);
        self.bindings.destroy(slot);
        self.board.cell(slot).expose(EnvWord::EndReason, reason as u64);
        self.board.cell(slot).expose(EnvWord::EndCode, code);
        self.count(StatisticsWord::Ended, 1);
        self.set_stage(slot, Stage::Ended);
        self.here().bereave(self.environment(slot).name);
        self.settle(slot);
        self.expose_free();
    }

    /// Gives the limits and the children of an ended environment to its parent. Without a parent
    /// it was the first, and the machine has nothing left to do.
    fn settle(&mut self, slot: u16) {
        let Some(parent) = self.environment(slot).parent else {
            return self.machine.exit(exo_abi::boot::VERDICT_MAX);
        };
        let accounts = self.environment(slot).accounts;
        for kind in Kind::ALL {
            let limit = accounts.get(kind).limit;
            self.environment_mut(parent).accounts.grant_in(kind, limit);
        }
        let parent_name = self.environment(parent).name.0;
        let mut children = 0;
        for child in 0..self.environments.len() as u16 {
            let stage = self.environment(child).stage;
            if stage != Stage::Free && self.environment(child).parent == Some(slot) {
                self.environment_mut(child).parent = Some(parent);
                self.board.cell(child).expose(EnvWord::Parent, parent_name);
                children += 1;
            }
        }
        // The ended environment's limit, which covered its children, is the parent's now.
        let held = self.hold(parent, Kind::Environments, children);
        debug_assert!(held.is_ok(), "limits are conserved");
        self.environment_mut(slot).accounts = Accounts::EMPTY;
        for cpu in self.board.cpus {
            self.charge(parent, cpu.inherit(slot, parent), 1 << cpu.number);
        }
        for word in [EnvWord::Frames, EnvWord::FramesLimit, EnvWord::FramesDonated] {
            self.board.cell(slot).expose(word, 0);
        }
        self.post(parent, Event::ChildEnded);
    }

    fn reap(&mut self, slot: u16) {
        if let Some(parent) = self.environment(slot).parent {
            self.release(parent, Kind::Environments, 1);
        }
        let name = self.environment(slot).name;
        *self.environment_mut(slot) = Environment { name, ..Environment::EMPTY };
        self.set_stage(slot, Stage::Free);
    }
}
