//! Names of physical resources.

/// A page's size in bytes. Frames, pages and the shared structures all have it.
pub const PAGE_SIZE: u64 = 4096;

/// The name of an environment: a slot of the environment table and the slot's generation.
///
/// The generation goes up when the environment ends, so that a name kept too long is
/// [`Error::StaleEnvironment`](crate::Error::StaleEnvironment) and never somebody else.
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CapabilityName {
    length: u8,
    parts: [u8; NAME_PARTS],
}

impl CapabilityName {
    /// The name that is a prefix of every name.
    pub const ROOT: Self = Self { length: 0, parts: [0; NAME_PARTS] };

    /// The name with these parts, or `None` when there are too many.
    pub fn new(parts: &[u8]) -> Option<Self> {
        let mut name = Self::ROOT;
        name.parts.get_mut(..parts.len())?.copy_from_slice(parts);
        name.length = parts.len() as u8;
        Some(name)
    }

    /// The parts of the path, first to last.
    pub fn parts(&self) -> &[u8] {
        self.parts.get(..self.length as usize).unwrap_or(&[])
    }

    /// This name with one more part, or `None` when it is full.
    pub fn child(&self, part: u8) -> Option<Self> {
        let mut name = *self;
        *name.parts.get_mut(name.length as usize)? = part;
        name.length += 1;
        Some(name)
    }

    /// Whether this name is a prefix of `other` (or equal to it).
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        // As words, and not byte by byte: every call that needs a right asks this.
        let common = (self.word() ^ other.word()).trailing_zeros() / 8;
        self.length <= other.length && common >= self.length.into()
    }

    /// The parts, the first in the lowest byte.
    fn word(&self) -> u128 {
        let mut bytes = [0; 16];
        bytes[..NAME_PARTS].copy_from_slice(&self.parts);
        u128::from_le_bytes(bytes)
    }

    pub(crate) fn to_bytes(self) -> [u8; NAME_PARTS + 1] {
        let mut bytes = [0; NAME_PARTS + 1];
        bytes[0] = self.length;
        bytes[1..].copy_from_slice(&self.parts);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; NAME_PARTS + 1]) -> Option<Self> {
        let length = bytes[0] as usize;
        let parts = bytes[1..].get(..length)?;
        if bytes[1 + length..].iter().any(|&byte| byte != 0) {
            return None;
        }
        Self::new(parts)
    }
}
