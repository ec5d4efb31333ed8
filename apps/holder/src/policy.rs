//! How a program answers who asks.

use alloc::string::String;

/// The policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    /// Gives back at once what it owes.
    Cooperative,
    /// Gives it back after a while.
    Slow,
    /// Does not want to be asked, and looks now and then what it has lost.
    Deaf,
    /// Gives nothing back, and tries to keep or get by fraud what it lost.
    Lying,
    /// Gives back at once, and takes again at once whatever it may.
    Greedy,
    /// Ends when it is asked.
    Dying,
}

const POLICIES: [(&str, Policy); 6] = [
    ("cooperative", Policy::Cooperative),
    ("slow", Policy::Slow),
    ("deaf", Policy::Deaf),
    ("lying", Policy::Lying),
    ("greedy", Policy::Greedy),
    ("dying", Policy::Dying),
];

/// The names of all.
pub(crate) fn names() -> String {
    POLICIES.map(|(name, _)| name).join(", ")
}

impl Policy {
    /// The policy of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        POLICIES.into_iter().find(|(known, _)| *known == name).map(|(_, policy)| policy)
    }

    /// Whether it wants to be told when somebody asks.
    pub(crate) fn listens(self) -> bool {
        self != Self::Deaf
    }

    /// Whether it gives back what it owes, so long after it was asked.
    pub(crate) fn answers(self, waited: u64, delay: u64) -> bool {
        match self {
            Self::Cooperative | Self::Greedy => true,
            Self::Slow => waited >= delay,
            Self::Deaf | Self::Lying | Self::Dying => false,
        }
    }
}
