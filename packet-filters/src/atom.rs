//! One step of a filter: a masked compare, or a shift of the base.

use crate::filter::FilterError;

/// No compare or shift reaches past this many bytes from its base.
pub const MAX_END: u16 = 2048;

/// The largest left shift of an [`Atom::Shift`], in bits.
pub const MAX_SHIFT: u8 = 7;

/// How many bytes a compare loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One byte.
    One = 1,
    /// Two bytes.
    Two = 2,
    /// Four bytes.
    Four = 4,
}

impl Width {
    /// The width in bytes.
    pub const fn bytes(self) -> u16 {
        self as u16
    }

    /// The mask that looks at every bit of a load of this width.
    pub const fn full_mask(self) -> u32 {
        u32::MAX >> (32 - 8 * self.bytes())
    }

    /// The width of that many bytes; `None` if there is no load of that size.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        let widths = [Width::One, Width::Two, Width::Four];
        widths.into_iter().find(|width| u32::from(width.bytes()) == bytes)
    }

    /// A value of this width (network order) as a little-endian load of the same bytes gives it.
    ///
    /// The tables hold this number and the emitted code compares with it, so that no load has to
    /// be swapped. Doing it twice gives the value back.
    pub(crate) const fn memory_order(self, value: u32) -> u32 {
        value.swap_bytes() >> (32 - 8 * self.bytes())
    }
}

/// One step of a filter. Offsets are in bytes from the current base, which starts at the first
/// byte of the link header.
///
/// Plain data, any content; [`Filter::new`](crate::Filter::new) decides what is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// Holds if `load(base + offset, width) & mask == value`, the load in network byte order.
    Compare {
        /// Bytes from the base.
        offset: u16,
        /// Bytes to load.
        width: Width,
        /// The bits that count.
        mask: u32,
        /// What they must be; zero outside the mask.
        value: u32,
    },
    /// `base += (byte[base + offset] & mask) << shift`; later offsets count from the new base.
    ///
    /// For the length in an IPv4 header behind Ethernet: offset 14, mask 0x0f, shift 2.
    Shift {
        /// Bytes from the base to the byte that holds the length.
        offset: u16,
        /// The bits of that byte that count.
        mask: u8,
        /// Left shift in bits, at most [`MAX_SHIFT`].
        shift: u8,
    },
}

impl Atom {
    /// A compare of every bit.
    pub const fn exact(offset: u16, width: Width, value: u32) -> Self {
        Atom::Compare { offset, width, mask: width.full_mask(), value }
    }

    /// The end of the load, in bytes from the base.
    pub(crate) const fn end(&self) -> u32 {
        match *self {
            Atom::Compare { offset, width, .. } => offset as u32 + width.bytes() as u32,
            Atom::Shift { offset, .. } => offset as u32 + 1,
        }
    }

    /// How many bits of the packet the atom pins.
    pub(crate) const fn bits(&self) -> u32 {
        match *self {
            Atom::Compare { mask, .. } => mask.count_ones(),
            Atom::Shift { .. } => 0,
        }
    }

    /// What the atom looks at: the same, wanting to see zero. These are the shape of a filter.
    pub(crate) const fn field(&self) -> Self {
        self.with_key(0)
    }

    /// What it wants to see there, in memory order; zero for a shift, which wants nothing.
    pub(crate) const fn key(&self) -> u32 {
        match *self {
            Atom::Compare { width, value, .. } => width.memory_order(value),
            Atom::Shift { .. } => 0,
        }
    }

    /// The atom that looks at the same and wants to see `key`, which has no bit outside the mask.
    pub(crate) const fn with_key(mut self, key: u32) -> Self {
        if let Atom::Compare { width, value, .. } = &mut self {
            *value = width.memory_order(key);
        }
        self
    }

    /// The bytes a compare looks at, as (offset, mask, value); those with an empty mask are left
    /// out. Nothing for a shift.
    pub fn cells(&self) -> impl Iterator<Item = (u16, u8, u8)> {
        let (offset, width, mask, value) = match *self {
            Atom::Compare { offset, width, mask, value } => (offset, width.bytes(), mask, value),
            Atom::Shift { .. } => (0, 0, 0, 0),
        };
        let downs = (0..width).map(move |i| (offset + i, 8 * (width - 1 - i)));
        let cells = downs.map(move |(at, down)| (at, (mask >> down) as u8, (value >> down) as u8));
        cells.filter(|cell| cell.1 != 0)
    }

    /// Whether the atom looks at some bit of every byte that it loads.
    pub(crate) const fn is_whole(&self) -> bool {
        match *self {
            Atom::Compare { mask, width, .. } => {
                let [a, b, c, d] = (mask | !width.full_mask()).to_be_bytes();
                a != 0 && b != 0 && c != 0 && d != 0
            }
            Atom::Shift { .. } => true,
        }
    }

    /// Whether the atom may stand behind another in canonical form: compares are in order, and a run
    /// of bytes is cut into fours, then two, then one.
    pub(crate) const fn may_follow(&self, before: &Self) -> bool {
        match (*before, *self) {
            (Atom::Compare { width, .. }, Atom::Compare { offset, width: own, .. }) => {
                let cut = matches!((width, own), (Width::Four, _) | (Width::Two, Width::One));
                before.end() < offset as u32 || before.end() == offset as u32 && cut
            }
            _ => true,
        }
    }

    /// Whether the atom by itself is valid; `index` is its place in the list, for the error.
    pub const fn check(&self, index: u8) -> Result<(), FilterError> {
        if self.end() > MAX_END as u32 {
            return Err(FilterError::OffsetTooLarge(index));
        }
        match *self {
            Atom::Compare { mask: 0, .. } | Atom::Shift { mask: 0, .. } => {
                Err(FilterError::EmptyMask(index))
            }
            Atom::Compare { width, mask, .. } if mask & !width.full_mask() != 0 => {
                Err(FilterError::MaskTooWide(index))
            }
            Atom::Compare { mask, value, .. } if value & !mask != 0 => {
                Err(FilterError::ValueOutsideMask(index))
            }
            Atom::Shift { shift, .. } if shift > MAX_SHIFT => {
                Err(FilterError::ShiftTooLarge(index))
            }
            _ => Ok(()),
        }
    }
}
