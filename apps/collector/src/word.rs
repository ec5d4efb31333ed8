//! What objects are made of.

/// Where an object is: the index of its first word, in one of two spaces. Old objects have the upper
/// bit set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Address(u32);

const OLD: u32 = 1 << 31;

impl Address {
    pub(crate) fn young(index: usize) -> Self {
        Self(index as u32)
    }

    pub(crate) fn old(index: usize) -> Self {
        Self(index as u32 | OLD)
    }

    pub(crate) fn is_young(self) -> bool {
        self.0 & OLD == 0
    }

    /// The word of this number, inside the space.
    pub(crate) fn index(self) -> usize {
        (self.0 & !OLD) as usize
    }

    /// A word of the object.
    pub(crate) fn at(self, offset: usize) -> Self {
        Self(self.0 + offset as u32)
    }
}

/// A word that says by itself what it is: so a page of words can be searched for references without
/// knowing where its objects begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Word(u64);

impl Word {
    /// No object. Fresh memory is full of it.
    pub(crate) const NIL: Self = Self(0);
    /// Set in the words that refer to an object.
    const REFERENCE: u64 = 1 << 63;

    /// A number of at most 62 bits.
    pub(crate) fn number(value: u64) -> Self {
        Self(value << 1 | 1)
    }

    pub(crate) fn reference(address: Address) -> Self {
        Self(u64::from(address.0) << 1 | Self::REFERENCE)
    }

    pub(crate) fn as_number(self) -> Option<u64> {
        (self.0 & 1 != 0).then_some(self.0 >> 1)
    }

    pub(crate) fn as_reference(self) -> Option<Address> {
        let is_reference = self.0 & 1 == 0 && self.0 & Self::REFERENCE != 0;
        is_reference.then_some(Address((self.0 >> 1) as u32))
    }
}
