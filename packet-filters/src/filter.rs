//! The filter: a short list of atoms in canonical form.

use core::fmt;

use crate::atom::{Atom, Width, byte_of};
use crate::interpreter;

/// The most atoms that a filter can have, as given and in canonical form.
pub const MAX_ATOMS: usize = 16;

/// The most shifts that a filter can have. Emitted code keeps one register for each.
pub const MAX_SHIFTS: usize = 4;

/// A valid filter in canonical form: it matches a packet if every atom holds, in order.
///
/// Shifts cut the list into segments; all compares of a segment count from the same base. The
/// canonical form is decided byte by byte: within a segment the bytes looked at are merged and
/// sorted, and each run of neighbours is cut into loads of four, two and one bytes from its start.
/// So a compare neither loads nor needs a byte that its mask leaves out, and two filters that test the same bits
/// in the same segments are equal, however they were written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Filter {
    atoms: [Atom; MAX_ATOMS],
    length: u8,
}

/// Why a list of atoms is not a filter. `atom` is the index in the list as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// More than [`MAX_ATOMS`] atoms, as given or after sparse masks were split into loads.
    TooManyAtoms,
    /// More than [`MAX_SHIFTS`] shifts.
    TooManyShifts,
    /// A mask of zero: the atom would test nothing.
    EmptyMask {
        /// Index of the atom.
        atom: u8,
    },
    /// The mask has bits outside the load.
    MaskTooWide {
        /// Index of the atom.
        atom: u8,
    },
    /// The value has bits outside the mask: the atom could never hold.
    ValueOutsideMask {
        /// Index of the atom.
        atom: u8,
    },
    /// The load ends more than [`MAX_END`](crate::MAX_END) bytes past the base.
    OffsetTooLarge {
        /// Index of the atom.
        atom: u8,
    },
    /// A shift by more than [`MAX_SHIFT`](crate::MAX_SHIFT) bits.
    ShiftTooLarge {
        /// Index of the atom.
        atom: u8,
    },
    /// The atom wants a bit that an earlier atom of its segment wants to be different.
    Contradiction {
        /// Index of the later atom.
        atom: u8,
    },
    /// The last atom is a shift, which moves a base that nobody uses.
    TrailingShift,
}

impl Filter {
    /// The filter without atoms: it matches every packet, the empty one too.
    pub const ANY: Filter = Filter { atoms: [FILL; MAX_ATOMS], length: 0 };

    /// Checks the atoms and brings them into canonical form.
    ///
    /// A `const` item can call it, so that a wrong filter is found when the program is compiled.
    pub const fn new(atoms: &[Atom]) -> Result<Self, FilterError> {
        if atoms.len() > MAX_ATOMS {
            return Err(FilterError::TooManyAtoms);
        }
        let mut filter = Filter::ANY;
        let mut segment = Segment::EMPTY;
        let mut shifts = 0;
        let mut i = 0;
        while i < atoms.len() {
            let index = i as u8;
            if let Err(error) = atoms[i].check(index) {
                return Err(error);
            }
            match atoms[i] {
                Atom::Compare { offset, width, mask, value } => {
                    if !segment.add(offset, width, mask, value) {
                        return Err(FilterError::Contradiction { atom: index });
                    }
                }
                Atom::Shift { .. } => {
                    shifts += 1;
                    if shifts > MAX_SHIFTS {
                        return Err(FilterError::TooManyShifts);
                    }
                    if i + 1 == atoms.len() {
                        return Err(FilterError::TrailingShift);
                    }
                    if !filter.push_segment(&segment) || !filter.push(atoms[i]) {
                        return Err(FilterError::TooManyAtoms);
                    }
                    segment = Segment::EMPTY;
                }
            }
            i += 1;
        }
        if filter.push_segment(&segment) { Ok(filter) } else { Err(FilterError::TooManyAtoms) }
    }

    /// The atoms, in canonical form.
    pub fn atoms(&self) -> &[Atom] {
        self.atoms.get(..usize::from(self.length)).unwrap_or(&self.atoms)
    }

    /// Whether the packet (from the link header on) matches: the reference reading of the language.
    pub fn matches(&self, packet: &[u8]) -> bool {
        interpreter::matches(self.atoms(), packet)
    }

    /// How many bits of a packet the filter pins. A filter that is contained in another one pins
    /// at least as many, so "most specific first" can go by this number.
    pub fn bits(&self) -> u32 {
        self.atoms().iter().map(Atom::bits).sum()
    }

    /// Appends an atom; false if there is no room.
    const fn push(&mut self, atom: Atom) -> bool {
        if self.length as usize >= MAX_ATOMS {
            return false;
        }
        self.atoms[self.length as usize] = atom;
        self.length += 1;
        true
    }

    /// Appends the bytes of a segment as the widest loads that look at every byte they load.
    const fn push_segment(&mut self, segment: &Segment) -> bool {
        let mut first = 0;
        while first < segment.length && first < CELLS {
            let width = match segment.run(first) {
                4.. => Width::Four,
                2 | 3 => Width::Two,
                _ => Width::One,
            };
            if !self.push(segment.load(first, width)) {
                return false;
            }
            first += width.bytes() as usize;
        }
        true
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({self})")
    }
}

/// Fills the places behind the last atom, the same in every filter so that `==` and `Hash` can be
/// derived.
const FILL: Atom = Atom::Shift { offset: 0, mask: 0, shift: 0 };

/// The most bytes that a filter can look at. The loops over cells test against it as well as
/// against the length, so that the compiler sees that no index is out of range.
const CELLS: usize = 4 * MAX_ATOMS;

/// The bytes that the compares of one segment look at: (offset, mask, value), sorted by offset.
struct Segment {
    cells: [(u16, u8, u8); CELLS],
    length: usize,
}

impl Segment {
    const EMPTY: Segment = Segment { cells: [(0, 0, 0); CELLS], length: 0 };

    /// Adds the bytes of a valid compare; false if it contradicts what is there.
    ///
    /// There is always room: a filter is given at most [`MAX_ATOMS`] compares of four bytes.
    const fn add(&mut self, offset: u16, width: Width, mask: u32, value: u32) -> bool {
        let mut i = 0;
        while i < width.bytes() {
            let (at, mask, value) = byte_of(offset, width.bytes(), mask, value, i);
            if mask != 0 && !self.add_byte(at, mask, value) {
                return false;
            }
            i += 1;
        }
        true
    }

    const fn add_byte(&mut self, offset: u16, mask: u8, value: u8) -> bool {
        if self.length >= CELLS {
            return false;
        }
        let mut place = self.length;
        while place > 0 && self.cells[place - 1].0 >= offset {
            place -= 1;
        }
        if place < self.length && self.cells[place].0 == offset {
            let (_, old_mask, old_value) = self.cells[place];
            self.cells[place] = (offset, old_mask | mask, old_value | value);
            return (old_value ^ value) & old_mask & mask == 0;
        }
        let mut i = self.length;
        while i > place {
            self.cells[i] = self.cells[i - 1];
            i -= 1;
        }
        self.cells[place] = (offset, mask, value);
        self.length += 1;
        true
    }

    /// How many cells from `first` on are neighbours in the packet; at most 4 are counted.
    const fn run(&self, first: usize) -> usize {
        let mut run = 1;
        while run < 4
            && first + run < self.length
            && first + run < CELLS
            && self.cells[first + run].0 as usize == self.cells[first].0 as usize + run
        {
            run += 1;
        }
        run
    }

    /// The cells from `first` on as one compare.
    const fn load(&self, first: usize, width: Width) -> Atom {
        let (mut mask, mut value) = (0, 0);
        let mut i = first;
        while i < first + width.bytes() as usize && i < CELLS {
            mask = mask << 8 | self.cells[i].1 as u32;
            value = value << 8 | self.cells[i].2 as u32;
            i += 1;
        }
        Atom::Compare { offset: self.cells[first].0, width, mask, value }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilterError::TooManyAtoms => write!(f, "more than {MAX_ATOMS} atoms"),
            FilterError::TooManyShifts => write!(f, "more than {MAX_SHIFTS} shifts"),
            FilterError::EmptyMask { atom } => write!(f, "atom {atom}: the mask is zero"),
            FilterError::MaskTooWide { atom } => {
                write!(f, "atom {atom}: the mask has bits outside the load")
            }
            FilterError::ValueOutsideMask { atom } => {
                write!(f, "atom {atom}: the value has bits outside the mask")
            }
            FilterError::OffsetTooLarge { atom } => {
                write!(f, "atom {atom}: the load ends too far from its base")
            }
            FilterError::ShiftTooLarge { atom } => write!(f, "atom {atom}: shifts by too much"),
            FilterError::Contradiction { atom } => {
                write!(f, "atom {atom} contradicts an earlier one")
            }
            FilterError::TrailingShift => write!(f, "nothing follows the last shift"),
        }
    }
}

impl core::error::Error for FilterError {}
