//! What an environment has been promised, what it owes and what it has lost.

use crate::name::PAGE_SIZE;

/// The kinds of resource that have an account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Physical frames, those donated to the kernel included.
    Frames = 0,
    /// Slice positions.
    Slices = 1,
    /// Packet filters.
    Filters = 2,
    /// Receive rings.
    Rings = 3,
    /// Child environments.
    Environments = 4,
}

/// The number of kinds.
pub const KINDS: usize = 5;

impl Kind {
    /// Every kind.
    pub const ALL: [Self; KINDS] =
        [Self::Frames, Self::Slices, Self::Filters, Self::Rings, Self::Environments];

    /// The kind with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Frames),
            1 => Some(Self::Slices),
            2 => Some(Self::Filters),
            3 => Some(Self::Rings),
            4 => Some(Self::Environments),
            _ => None,
        }
    }

    /// The name of the resource with this number, as losses and surrender lists have it: only those of
    /// slices have two parts, `cpu << 32 | position`.
    pub const fn name(self, number: u32) -> u64 {
        match self {
            Self::Slices => ((number >> 6) as u64) << 32 | (number & 63) as u64,
            _ => number as u64,
        }
    }

    /// The number of the resource with this name, or `None` if there cannot be one. Of slices, 64 are
    /// counted for each CPU.
    pub const fn number(self, name: u64) -> Option<u32> {
        let number = match self {
            Self::Slices => (name >> 32) << 6 | name & 63,
            _ => name,
        };
        if number < u32::MAX as u64 && self.name(number as u32) == name {
            Some(number as u32)
        } else {
            None
        }
    }

    /// The bit of a number in the bitmaps of lost names, counted from
    /// [`layout::LOST_NAMES`](crate::layout::LOST_NAMES) on: slices come first, 64 for each CPU, then
    /// filters, rings, environments, and from the next page on frames. `None`: nobody can lose that.
    pub const fn lost_bit(self, number: u32) -> Option<usize> {
        let (first, end) = match self {
            Self::Slices => (0, FIRST_FILTER),
            Self::Filters => (FIRST_FILTER, FIRST_RING),
            Self::Rings => (FIRST_RING, FIRST_ENVIRONMENT),
            Self::Environments => (FIRST_ENVIRONMENT, FIRST_FRAME),
            Self::Frames => (FIRST_FRAME, usize::MAX),
        };
        if (number as usize) < end - first { Some(first + number as usize) } else { None }
    }

    /// The kind's name in lower case.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Slices => "slices",
            Self::Filters => "filters",
            Self::Rings => "rings",
            Self::Environments => "environments",
        }
    }
}

/// The first bit of each kind in the bitmaps of lost names.
const FIRST_FILTER: usize = 64 * 64;
const FIRST_RING: usize = FIRST_FILTER + 16_384;
const FIRST_ENVIRONMENT: usize = FIRST_RING + 64;
const FIRST_FRAME: usize = PAGE_SIZE as usize * 8;

/// An environment's account for one kind of resource.
///
/// Limits are conserved: they move from one environment to another (at creation, by `revoke` and
/// by `grant`) and their sum never changes. What is held above the limit is the debt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Account {
    /// How many the environment may hold.
    pub limit: u64,
    /// How many it holds.
    pub held: u64,
    /// The limit is never revoked below this.
    pub floor: u64,
    /// How many it has to give back: `held - limit`, or 0.
    pub debt: u64,
    /// When the debt becomes due by the clock, in nanoseconds since boot. 0: no debt.
    pub due_wall: u64,
    /// When the debt becomes due by the environment's own run time, in nanoseconds. 0: no debt.
    pub due_own: u64,
    /// How often it was asked.
    pub asks: u64,
    /// How many it gave back while it had a debt.
    pub surrendered: u64,
    /// How many were taken by force.
    pub repossessed: u64,
    /// The epoch of the record: goes up with every loss. `acknowledge` takes this value.
    pub epoch: u64,
}

impl Account {
    /// The account of nobody: everything zero.
    pub const EMPTY: Self = Self::from_words([0; ACCOUNT_WORDS]);

    /// The account as it stands in the contract page.
    pub const fn to_words(&self) -> [u64; ACCOUNT_WORDS] {
        let Self { limit, held, floor, debt, due_wall, due_own, .. } = *self;
        let Self { asks, surrendered, repossessed, epoch, .. } = *self;
        [limit, held, floor, debt, due_wall, due_own, asks, surrendered, repossessed, epoch]
    }

    /// The account from its words.
    pub const fn from_words(words: [u64; ACCOUNT_WORDS]) -> Self {
        let [limit, held, floor, debt, due_wall, due_own, asks, surrendered, repossessed, epoch] =
            words;
        Self { limit, held, floor, debt, due_wall, due_own, asks, surrendered, repossessed, epoch }
    }
}

/// The words of an [`Account`].
pub const ACCOUNT_WORDS: usize = 10;

/// The contract page, at [`layout::CONTRACT`](crate::layout::CONTRACT).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ContractPage {
    /// The environment's own name.
    pub name: u64,
    /// The least notice, in nanoseconds by the clock, that anybody who asks must give.
    pub notice: u64,
    /// Reserved, zero.
    pub reserved: [u64; 6],
    /// The accounts, indexed by [`Kind`].
    pub accounts: [Account; KINDS],
}

/// The word of the contract page at which the accounts start.
pub const ACCOUNTS_WORD: usize = 8;

/// One loss, in the ring beside the bitmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Loss {
    /// The epoch in which it happened.
    pub epoch: u64,
    /// The [`Kind`].
    pub kind: u64,
    /// The frame number, filter id, ring id or `cpu << 32 | position`.
    pub name: u64,
    /// When, in nanoseconds since boot.
    pub time: u64,
}

impl Loss {
    /// The loss as words.
    pub const fn to_words(self) -> [u64; 4] {
        [self.epoch, self.kind, self.name, self.time]
    }
}

/// How many losses the ring keeps.
pub const LOSS_SLOTS: usize = 127;

/// The loss ring, at [`layout::LOSS_RING`](crate::layout::LOSS_RING). Loss number `n` is in slot
/// `n % LOSS_SLOTS`. When more than [`LOSS_SLOTS`] have come since the reader last looked, the
/// ring has overflowed and the bitmap tells the whole truth.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LossRing {
    /// How many losses there have been so far.
    pub count: u64,
    /// Reserved, zero.
    pub reserved: [u64; 3],
    /// The latest losses.
    pub losses: [Loss; LOSS_SLOTS],
}

/// The word of the loss ring at which the slots start.
pub const LOSSES_WORD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts_are_as_said() {
        assert_eq!(size_of::<Account>(), ACCOUNT_WORDS * 8);
        let words = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let account = Account::from_words(words);
        assert_eq!((account.to_words(), account.debt), (words, 4));
        assert_eq!(Account::EMPTY, Account::default());
        assert_eq!(Loss { epoch: 1, kind: 2, name: 3, time: 4 }.to_words(), [1, 2, 3, 4]);
        assert_eq!(offset_of!(ContractPage, accounts), ACCOUNTS_WORD * 8);
        assert_eq!(offset_of!(LossRing, losses), LOSSES_WORD * 8);
        assert!(size_of::<ContractPage>() <= 4096 && size_of::<LossRing>() <= 4096);
        for (number, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(Kind::from_number(number as u64), Some(*kind));
        }
        assert_eq!(Kind::from_number(KINDS as u64), None);
    }

    #[test]
    fn names_have_numbers() {
        assert_eq!(Kind::Slices.name(3 << 6 | 5), 3 << 32 | 5);
        assert_eq!(Kind::Slices.number(3 << 32 | 5), Some(3 << 6 | 5));
        for name in [64, 1 << 31, 1 << 60, u64::MAX] {
            assert_eq!(Kind::Slices.number(name), None, "{name:#x}");
        }
        for kind in [Kind::Frames, Kind::Filters, Kind::Rings] {
            assert_eq!((kind.number(77), kind.name(77)), (Some(77), 77));
            assert_eq!(kind.number(1 << 32 | 77), None);
        }
    }

    #[test]
    fn no_two_names_have_one_bit() {
        assert_eq!(Kind::Slices.lost_bit(63 << 6 | 63), Some(FIRST_FILTER - 1));
        assert_eq!(Kind::Slices.lost_bit(64 << 6), None);
        assert_eq!(Kind::Filters.lost_bit(16_383), Some(FIRST_RING - 1));
        assert_eq!(Kind::Filters.lost_bit(16_384), None);
        assert_eq!((Kind::Rings.lost_bit(64), Kind::Rings.lost_bit(0)), (None, Some(FIRST_RING)));
        assert!(Kind::Environments.lost_bit(255) < Kind::Frames.lost_bit(0));
        assert_eq!(Kind::Frames.lost_bit(5), Some(FIRST_FRAME + 5));
    }
}
