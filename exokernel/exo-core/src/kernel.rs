//! The kernel's state as one value.

use crate::board::Board;
use crate::console::Input;
use crate::environment::Environment;
use crate::exposed::Exposed;
use crate::machine::{Machine, RESERVATIONS};
use crate::network::{RINGS, Ring};
use crate::processor::Processor;
use exo_abi::FrameNumber;
use exo_abi::layout::LIST_MAX;
use exo_abi::request::BIND_WORDS;
use exo_abi::tables::StatisticsWord;
use packet_filters::{Filter, FilterSet, Memory, SECRET};
use secure_bindings::{Bindings, FrameTable, Space};

/// The memory that the kernel's state lives in, found at boot.
pub struct Storage<'a> {
    /// All frames.
    pub frames: FrameTable<'a>,
    /// As many places as there are environments.
    pub spaces: &'a mut [Option<Space>],
    /// The environments, all [`Environment::EMPTY`].
    pub environments: &'a mut [Environment],
    /// What is used without a lock.
    pub board: &'a Board<'a>,
    /// The kernel's own lists, all [`Lists::EMPTY`].
    pub lists: &'a mut Lists,
    /// For the filters: as many places as there are filters without reservations.
    pub filters: Memory<'a>,
    /// Words that no program knows.
    pub secret: [u64; SECRET],
}

/// The lists of fixed length that the kernel keeps for everybody. They are too large for a stack,
/// so that they are made where they stay.
pub struct Lists {
    /// The reservations, by their ids from the first that is one.
    pub(crate) reservations: [Option<Filter>; RESERVATIONS],
    pub(crate) rings: [Ring; RINGS],
    /// The list of frames that a call has read from its caller.
    pub(crate) scratch: [FrameNumber; LIST_MAX as usize],
    /// The list of requests that a bind has read.
    pub(crate) words: [u64; BIND_WORDS * LIST_MAX as usize],
}

impl Lists {
    /// Nothing in any of them.
    pub const EMPTY: Self = Self {
        reservations: [None; RESERVATIONS],
        rings: [Ring::FREE; RINGS],
        scratch: [FrameNumber(0); LIST_MAX as usize],
        words: [0; BIND_WORDS * LIST_MAX as usize],
    };
}

/// The kernel: everything that changes under its lock. What is used without it is the board's.
pub struct Kernel<'a, M: Machine> {
    /// What it runs on.
    pub(crate) machine: &'a M,
    /// What it alone uses.
    pub devices: M::Devices,
    pub(crate) bindings: Bindings<'a, M>,
    pub(crate) environments: &'a mut [Environment],
    pub(crate) exposed: Exposed<'a>,
    pub(crate) board: &'a Board<'a>,
    pub(crate) filters: FilterSet<'a>,
    pub(crate) lists: &'a mut Lists,
    pub(crate) input: Input,
    /// Since when names are taken by force: what is released is lost.
    pub(crate) taking: Option<u64>,
    /// What is left of the work of a step that takes names.
    pub(crate) work: u32,
    /// A bit for each environment that may have a debt, and who is the first to lose something.
    pub(crate) debtors: [u64; DEBTORS],
    pub(crate) turn: u16,
}

/// The words of a bitmap of environment slots.
pub(crate) const DEBTORS: usize = 4;

impl<'a, M: Machine> Kernel<'a, M> {
    /// A kernel without environments; [`Kernel::start_first`] makes the first.
    pub fn new(machine: &'a M, devices: M::Devices, storage: Storage<'a>) -> Self {
        Self {
            machine,
            devices,
            bindings: Bindings::new(machine, storage.frames, storage.spaces),
            environments: storage.environments,
            exposed: storage.board.exposed,
            board: storage.board,
            filters: FilterSet::new(storage.filters, &storage.secret),
            lists: storage.lists,
            input: Input::default(),
            taking: None,
            work: 0,
            debtors: [0; DEBTORS],
            turn: 0,
        }
    }

    /// The CPU that has entered it.
    pub(crate) fn here(&self) -> Processor<'a, M> {
        Processor::here(self.machine, self.board)
    }

    pub(crate) fn count(&self, word: StatisticsWord, value: u64) {
        self.here().cpu.count(word, value);
    }
}
