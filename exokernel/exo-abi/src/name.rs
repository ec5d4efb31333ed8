//! Names of physical resources.

use crate::Error;

/// A page's size in bytes. Frames, pages and the shared structures all have it.
pub const PAGE_SIZE: u64 = 4096;

/// The name of an environment: a slot of the environment table and the slot's generation.
///
/// The generation goes up when the environment ends, so that a name kept too long is
/// [`Error::StaleEnvironment`] and never somebody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct EnvName(pub u64);

impl EnvName {
    /// In a call: the caller itself. As a keeper and in a table: nobody.
    pub const NONE: Self = Self(0);

    /// As a keeper: every environment may enter.
    pub const ANYBODY: Self = Self(u64::MAX);

    /// The name of slot `index` in its `generation`, which counts from 1.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    /// The slot of the environment table.
    pub const fn index(self) -> usize {
        self.0 as u32 as usize
    }

    /// How often the slot has been taken.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether the name is that of its slot's life of this generation.
    ///
    /// # Errors
    /// [`Error::NoEnvironment`] for a life that has not been yet, [`Error::StaleEnvironment`] for one that
    /// is over.
    pub const fn check(self, current: u32) -> Result<(), Error> {
        match self.generation() {
            own if own == 0 || own > current => Err(Error::NoEnvironment),
            own if own < current => Err(Error::StaleEnvironment),
            _ => Ok(()),
        }
    }

    /// Whether this is [`EnvName::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// A physical frame's number: its physical address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct FrameNumber(pub u32);

impl FrameNumber {
    /// In a request: any free frame will do.
    pub const ANY: Self = Self(u32::MAX);

    /// The physical address of the frame's first byte.
    pub const fn address(self) -> u64 {
        self.0 as u64 * PAGE_SIZE
    }
}

/// The longest capability name, in parts of one byte.
pub const NAME_PARTS: usize = 13;

/// A hierarchical name: a path of up to [`NAME_PARTS`] bytes. The empty path is the root.
///
/// The length is in the lowest byte, the parts from the next one on; what is behind them is zero. So names
/// are compared a word at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CapabilityName([u64; 2]);

impl CapabilityName {
    /// The name that is a prefix of every name.
    pub const ROOT: Self = Self([0; 2]);
    /// The name of nothing: none of those that can be made.
    pub const NOTHING: Self = Self([u64::MAX; 2]);

    const fn from_bits(bits: u128) -> Self {
        Self([bits as u64, (bits >> 64) as u64])
    }

    /// The name as one number of [`NAME_PARTS`] bytes and one.
    #[inline]
    pub(crate) const fn bits(self) -> u128 {
        self.0[0] as u128 | (self.0[1] as u128) << 64
    }

    const fn length(self) -> usize {
        self.0[0] as usize & 0xff
    }

    /// The name with these parts, or `None` when there are too many.
    pub fn new(parts: &[u8]) -> Option<Self> {
        parts.iter().try_fold(Self::ROOT, |name, &part| name.child(part))
    }

    /// This name with one more part, or `None` when it is full.
    pub fn child(&self, part: u8) -> Option<Self> {
        let place = 8 * (1 + self.length());
        (self.length() < NAME_PARTS)
            .then(|| Self::from_bits((self.bits() + 1) | (part as u128) << place))
    }

    /// Whether this name is a prefix of `other` (or equal to it).
    #[inline]
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        let (own, differing) = (self.length(), (self.bits() ^ other.bits()) >> 8);
        // Mostly they are equal.
        self == other || own <= other.length() && differing & !(u128::MAX << (8 * own % 128)) == 0
    }

    /// The name in a number, or `None` for a length over the limit, or bytes behind the name.
    pub(crate) const fn checked(bits: u128) -> Option<Self> {
        let name = Self::from_bits(bits);
        let fits = name.length() <= NAME_PARTS && bits >> (8 * (1 + name.length())) == 0;
        if fits { Some(name) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_one_part_by_part() {
        let name =
            |length: u8| (0..length).try_fold(CapabilityName::ROOT, |name, at| name.child(at));
        let names: [_; NAME_PARTS + 1] = core::array::from_fn(|length| name(length as u8).unwrap());
        assert_eq!(names[NAME_PARTS].child(0), None);
        for (own, name) in names.iter().enumerate() {
            for (length, other) in names.iter().enumerate() {
                assert_eq!(name.is_prefix_of(other), own <= length, "{own} {length}");
            }
            let wrong = CapabilityName::new(&[1; NAME_PARTS]).unwrap();
            assert_eq!(name.is_prefix_of(&wrong), own == 0);
            assert!(!CapabilityName::NOTHING.is_prefix_of(name));
        }
    }
}
