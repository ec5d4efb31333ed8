//! The kernel's state as one value.

use crate::board::Board;
use crate::console::Input;
use crate::environment::Environment;
use crate::exposed::Exposed;
use crate::machine::{Machine, RESERVATIONS};
use crate::network::{RINGS, Ring};
use exo_abi::layout::LIST_MAX;
use exo_abi::tables::StatisticsWord;
use exo_abi::{FrameNumber, Rights};
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
    reservations: [Option<Filter>; RESERVATIONS],
    rings: [Ring; RINGS],
    scratch: [FrameNumber; LIST_MAX as usize],
    sorted: [FrameNumber; LIST_MAX as usize],
    checked: [Checked; LIST_MAX as usize],
}

impl Lists {
    /// Nothing in any of them.
    pub const EMPTY: Self = Self {
        reservations: [None; RESERVATIONS],
        rings: [Ring::FREE; RINGS],
        scratch: [FrameNumber(0); LIST_MAX as usize],
        sorted: [FrameNumber(0); LIST_MAX as usize],
        checked: [(0, FrameNumber(0), Rights::empty()); LIST_MAX as usize],
    };
}

/// A request to bind, checked.
pub(crate) type Checked = (u64, FrameNumber, Rights);

/// The kernel: everything that changes under its lock. What is used without it is the board's.
pub struct Kernel<'a, M> {
    /// What it runs on.
    pub(crate) machine: &'a M,
    pub(crate) bindings: Bindings<'a, M>,
    pub(crate) environments: &'a mut [Environment],
    pub(crate) exposed: Exposed<'a>,
    pub(crate) board: &'a Board<'a>,
    pub(crate) filters: FilterSet<'a>,
    /// The reservations, by their ids from the first that is one.
    pub(crate) reservations: &'a mut [Option<Filter>; RESERVATIONS],
    pub(crate) rings: &'a mut [Ring; RINGS],
    pub(crate) input: Input,
    /// Since when names are taken by force: what is released is lost.
    pub(crate) taking: Option<u64>,
    /// The list of frames that a call has read from its caller.
    pub(crate) scratch: &'a mut [FrameNumber; LIST_MAX as usize],
    /// The same, sorted.
    pub(crate) sorted: &'a mut [FrameNumber; LIST_MAX as usize],
    /// The list of requests that a bind has checked.
    pub(crate) checked: &'a mut [Checked; LIST_MAX as usize],
}

impl<'a, M: Machine> Kernel<'a, M> {
    /// A kernel without environments; [`Kernel::start_first`] makes the first.
    pub fn new(machine: &'a M, storage: Storage<'a>) -> Self {
        let Lists { reservations, rings, scratch, sorted, checked } = storage.lists;
        Self {
            machine,
            bindings: Bindings::new(machine, storage.frames, storage.spaces),
            environments: storage.environments,
            exposed: storage.board.exposed,
            board: storage.board,
            filters: FilterSet::new(storage.filters, &storage.secret),
            reservations,
            rings,
            input: Input::default(),
            taking: None,
            scratch,
            sorted,
            checked,
        }
    }

    pub(crate) fn count(&self, word: StatisticsWord, value: u64) {
        self.board.here(self.machine).count(word, value);
    }
}
