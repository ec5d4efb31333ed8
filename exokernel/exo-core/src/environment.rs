//! Environments, and how they are looked up.

use crate::console::Line;
use crate::kernel::Kernel;
use crate::machine::Machine;
use exo_abi::contract::KINDS;
use exo_abi::tables::SEND_TEMPLATES;
use exo_abi::{CapabilityName, EnvName, Error, FrameNumber, Rights};
use packet_filters::Filter;
use secure_bindings::{Accounts, CapabilityTable, Record};

/// What the kernel keeps of an environment beside its bindings.
#[derive(Debug)]
pub struct Environment {
    pub(crate) name: EnvName,
    pub(crate) parent: Option<u16>,
    pub(crate) stage: Stage,
    pub(crate) guard: CapabilityName,
    pub(crate) capabilities: CapabilityTable,
    pub(crate) accounts: Accounts,
    /// Nanoseconds of notice that whoever asks must give.
    pub(crate) notice: u64,
    pub(crate) losses: Record,
    pub(crate) pages: KernelPages,
    /// Where the repossession of each kind goes on.
    pub(crate) repossessions: [Repossession; KINDS],
    /// What it has written of its next console line.
    pub(crate) line: Line,
    /// A packet that it sends matches one of them.
    pub(crate) templates: [Option<Filter>; SEND_TEMPLATES as usize],
}

/// The pages of an environment's donated memory that the kernel itself reads and writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KernelPages {
    pub(crate) control: FrameNumber,
    pub(crate) contract: FrameNumber,
    pub(crate) vectors: FrameNumber,
}

/// How far a repossession has come. Names are looked for in their order; frames first among those
/// that nobody has wired, then among all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repossession {
    pub(crate) next: u32,
    pub(crate) wired_too: bool,
    /// Who asked last.
    pub(crate) asker: EnvName,
}

impl Repossession {
    /// From the beginning.
    pub(crate) const fn by(asker: EnvName) -> Self {
        Self { next: 0, wired_too: false, asker }
    }
}

/// How far an environment's life has come. What it does while it is started is the board's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Free,
    Created,
    Started,
    Ended,
}

impl Environment {
    /// A free slot, before its first use.
    pub const EMPTY: Self = Self {
        name: EnvName::NONE,
        parent: None,
        stage: Stage::Free,
        guard: CapabilityName::ROOT,
        capabilities: CapabilityTable::EMPTY,
        accounts: Accounts::EMPTY,
        notice: 0,
        losses: Record::EMPTY,
        pages: KernelPages {
            control: FrameNumber(0),
            contract: FrameNumber(0),
            vectors: FrameNumber(0),
        },
        repossessions: [Repossession::by(EnvName::NONE); KINDS],
        line: Line::EMPTY,
        templates: [None; SEND_TEMPLATES as usize],
    };

    /// Whether its templates let it send this packet.
    pub(crate) fn may_send(&self, packet: &[u8]) -> Result<(), Error> {
        let allowed = self.templates.iter().flatten().any(|template| template.matches(packet));
        if allowed { Ok(()) } else { Err(Error::NotReserved) }
    }

    /// Whether it has a right over itself, by a capability.
    pub(crate) fn may(&self, capability: u32, rights: Rights) -> Result<(), Error> {
        self.capabilities.check(capability, &self.guard, rights)
    }

    /// Whether the environment exists and has not ended.
    pub(crate) fn alive(&self) -> bool {
        matches!(self.stage, Stage::Created | Stage::Started)
    }
}

impl<M: Machine> Kernel<'_, M> {
    /// The slot of the environment with this name, ended or not.
    pub(crate) fn find(&self, name: EnvName) -> Result<u16, Error> {
        let environment = self.environments.get(name.index()).ok_or(Error::NoEnvironment)?;
        name.check(environment.name.generation())?;
        let free = environment.stage == Stage::Free;
        if free { Err(Error::StaleEnvironment) } else { Ok(name.index() as u16) }
    }

    /// The slot of a living environment with this name.
    pub(crate) fn find_alive(&self, name: EnvName) -> Result<u16, Error> {
        let slot = self.find(name)?;
        if self.environment(slot).alive() { Ok(slot) } else { Err(Error::WrongState) }
    }

    /// The slot of the environment that a call is about: the caller if there is no name, another
    /// if the caller's capability has `rights` over its guard.
    pub(crate) fn target(
        &self,
        caller: u16,
        name: EnvName,
        capability: u32,
        rights: Rights,
    ) -> Result<u16, Error> {
        if name.is_none() || name == self.environment(caller).name {
            return Ok(caller);
        }
        let slot = self.find(name)?;
        let guard = self.environment(slot).guard;
        self.environment(caller).capabilities.check(capability, &guard, rights)?;
        Ok(slot)
    }

    /// As [`Kernel::target`], for an environment that has not ended.
    pub(crate) fn living_target(
        &self,
        caller: u16,
        name: EnvName,
        capability: u32,
        rights: Rights,
    ) -> Result<u16, Error> {
        let slot = self.target(caller, name, capability, rights)?;
        if self.environment(slot).alive() { Ok(slot) } else { Err(Error::WrongState) }
    }

    /// Whether the caller has a right over itself, by a capability.
    pub(crate) fn check_own(
        &self,
        caller: u16,
        capability: u32,
        rights: Rights,
    ) -> Result<(), Error> {
        self.environment(caller).may(capability, rights)
    }

    /// The environment in `slot`, which came from [`Kernel::find`] or is the current one.
    pub(crate) fn environment(&self, slot: u16) -> &Environment {
        &self.environments[slot as usize]
    }

    /// As [`Kernel::environment`].
    pub(crate) fn environment_mut(&mut self, slot: u16) -> &mut Environment {
        &mut self.environments[slot as usize]
    }
}
