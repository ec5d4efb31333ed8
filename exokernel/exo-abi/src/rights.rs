//! Rights and capabilities.

use crate::name::CapabilityName;
use bitflags::bitflags;

bitflags! {
    /// What a capability lets its holder do with the names that it dominates, and what a binding
    /// lets an environment do with a page.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Rights: u16 {
        /// Read a frame.
        const READ = 1;
        /// Write a frame.
        const WRITE = 1 << 1;
        /// Execute a frame.
        const EXECUTE = 1 << 2;
        /// Hand capabilities to an environment, and frames to it.
        const GRANT = 1 << 3;
        /// Create environments under the name, bind into them, start them, end them, and assign
        /// their slices.
        const CONTROL = 1 << 4;
        /// Ask an environment for resources back, by the abort protocol.
        const REVOKE = 1 << 5;
        /// Send frames to the network. With the root name: reserve packets for environments.
        const NETWORK = 1 << 6;
        /// Read the console.
        const CONSOLE = 1 << 7;
        /// End the machine.
        const MACHINE = 1 << 8;
        /// Only in a binding: the page is part of what the environment needs to be told anything
        /// (handlers, upcall stack). Neither the software TLB nor a repossession takes it while
        /// another page is left.
        const WIRED = 1 << 9;
    }
}

impl Rights {
    /// The rights that a binding may carry.
    pub const PAGE: Self = Self::READ.union(Self::WRITE).union(Self::EXECUTE).union(Self::WIRED);
}

/// A hierarchical name with rights. It passes in two registers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Capability {
    /// What it names, together with everything below.
    pub name: CapabilityName,
    /// What its holder may do.
    pub rights: Rights,
}

impl Capability {
    /// Everything, with every right. The kernel gives it to the first environment alone.
    pub const ROOT: Self = Self { name: CapabilityName::ROOT, rights: Rights::all() };

    /// Whether this capability's name is a prefix of `other`'s and its rights cover `other`'s.
    pub fn dominates(&self, other: &Self) -> bool {
        self.name.is_prefix_of(&other.name) && self.rights.contains(other.rights)
    }

    /// The two register words: rights in the first two bytes, then the length, then the parts.
    pub fn to_words(self) -> [u64; 2] {
        let word = self.name.bits() << 16 | self.rights.bits() as u128;
        [word as u64, (word >> 64) as u64]
    }

    /// The capability in two register words, or `None` for unknown rights, a length over the
    /// limit, or bytes behind the name.
    pub fn from_words(words: [u64; 2]) -> Option<Self> {
        let rights = Rights::from_bits(words[0] as u16)?;
        let word = words[0] as u128 | (words[1] as u128) << 64;
        Some(Self { name: CapabilityName::checked(word >> 16)?, rights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        let name = CapabilityName::new(&[7, 0, 255]).unwrap();
        let capability = Capability { name, rights: Rights::READ | Rights::MACHINE };
        assert_eq!(Capability::from_words(capability.to_words()), Some(capability));
    }

    #[test]
    fn forged_words_are_refused() {
        assert_eq!(Capability::from_words([u64::MAX, 0]), None, "unknown rights");
        assert_eq!(Capability::from_words([14 << 16, 0]), None, "length over the limit");
        assert_eq!(Capability::from_words([1 << 24, 0]), None, "bytes behind the name");
    }

    #[test]
    fn dominance_needs_prefix_and_rights() {
        let parent = CapabilityName::new(&[1]).unwrap();
        let child = parent.child(2).unwrap();
        let strong = Capability { name: parent, rights: Rights::READ | Rights::WRITE };
        let weak = Capability { name: child, rights: Rights::READ };
        assert!(strong.dominates(&weak));
        assert!(!weak.dominates(&strong));
        let other = Capability { name: CapabilityName::new(&[3]).unwrap(), rights: Rights::READ };
        assert!(!strong.dominates(&other));
    }
}
