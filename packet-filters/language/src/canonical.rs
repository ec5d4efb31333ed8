//! From atoms in any form to the canonical one.

use packet_filters::{Atom, Filter, FilterError, MAX_ATOMS, Width};

/// Checks atoms and brings them into canonical form.
///
/// A `const` item can call it, so that a wrong filter is found when the program is compiled.
///
/// # Errors
/// What is wrong with the atoms, and with which.
pub const fn filter(atoms: &[Atom]) -> Result<Filter, FilterError> {
    if atoms.len() > MAX_ATOMS {
        return Err(FilterError::TooManyAtoms);
    }
    let mut made = Made { atoms: [Atom::exact(0, Width::One, 0); MAX_ATOMS], length: 0 };
    let mut segment = Segment::EMPTY;
    let mut i = 0;
    while i < atoms.len() {
        let index = i as u8;
        if let Err(error) = atoms[i].check(index) {
            return Err(error);
        }
        match atoms[i] {
            Atom::Compare { offset, width, mask, value } => {
                if !segment.add(offset, width, mask, value) {
                    return Err(FilterError::Contradiction(index));
                }
            }
            Atom::Shift { .. } => {
                if !made.push_segment(&segment) || !made.push(atoms[i]) {
                    return Err(FilterError::TooManyAtoms);
                }
                segment = Segment::EMPTY;
            }
        }
        i += 1;
    }
    if !made.push_segment(&segment) {
        return Err(FilterError::TooManyAtoms);
    }
    Filter::new(made.atoms.split_at(made.length).0)
}

/// Atoms in canonical form, as they come.
struct Made {
    atoms: [Atom; MAX_ATOMS],
    length: usize,
}

impl Made {
    /// Appends an atom; false if there is no room.
    const fn push(&mut self, atom: Atom) -> bool {
        if self.length >= MAX_ATOMS {
            return false;
        }
        self.atoms[self.length] = atom;
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

/// Byte `i` of a compare, counted from its offset: (offset, mask, value).
const fn byte_of(offset: u16, width: u16, mask: u32, value: u32, i: u16) -> (u16, u8, u8) {
    let down = 8 * (width - 1 - i);
    (offset + i, (mask >> down) as u8, (value >> down) as u8)
}

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
