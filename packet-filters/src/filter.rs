//! The filter: a short list of atoms in canonical form.

use core::cmp::{Ordering, Reverse};

use crate::atom::Atom;

/// The most atoms that a filter can have, as given and in canonical form.
///
/// With 14 the values of a filter, and who it is, fill one line of the cache.
pub const MAX_ATOMS: usize = 14;

/// The most shifts that a filter can have. Emitted code keeps one register for each.
pub const MAX_SHIFTS: usize = 4;

/// A valid filter in canonical form: it matches a packet if every atom holds, in order.
///
/// Shifts cut the list into segments; all compares of a segment count from the same base. The
/// canonical form is decided byte by byte: within a segment the bytes looked at are merged and
/// sorted, and each run of neighbours is cut into loads of four, two and one bytes from its start.
/// So a compare neither loads nor needs a byte that its mask leaves out, and two filters that test the same bits
/// in the same segments are equal, however they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    atoms: [Atom; MAX_ATOMS],
    length: u8,
}

/// What a filter wants to see: a word for each atom, zero for a shift and behind the last.
pub(crate) type Words = [u32; MAX_ATOMS];

/// Why a list of atoms is not a filter. The number is the index of an atom in the list as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// More than [`MAX_ATOMS`] atoms, as given or after sparse masks were split into loads.
    TooManyAtoms,
    /// More than [`MAX_SHIFTS`] shifts.
    TooManyShifts,
    /// A mask of zero: the atom would test nothing.
    EmptyMask(u8),
    /// The mask has bits outside the load.
    MaskTooWide(u8),
    /// The value has bits outside the mask: the atom could never hold.
    ValueOutsideMask(u8),
    /// The load ends more than [`MAX_END`](crate::MAX_END) bytes past the base.
    OffsetTooLarge(u8),
    /// A shift by more than [`MAX_SHIFT`](crate::MAX_SHIFT) bits.
    ShiftTooLarge(u8),
    /// The atom wants a bit that an earlier atom of its segment wants to be different.
    Contradiction(u8),
    /// The last atom is a shift, which moves a base that nobody uses.
    TrailingShift,
    /// The atom and the one before it, in their segment, are not in canonical form.
    NotCanonical(u8),
}

impl Filter {
    /// The filter without atoms: it matches every packet, the empty one too.
    pub const ANY: Filter = Filter { atoms: [FILL; MAX_ATOMS], length: 0 };

    /// The filter of these atoms, which have to be in canonical form.
    ///
    /// A `const` item can call it, so that a wrong filter is found when the program is compiled.
    pub const fn new(atoms: &[Atom]) -> Result<Self, FilterError> {
        if atoms.len() > MAX_ATOMS {
            return Err(FilterError::TooManyAtoms);
        }
        let mut filter = Filter::ANY;
        let mut shifts = 0;
        let mut i = 0;
        while i < atoms.len() {
            let index = i as u8;
            if let Err(error) = atoms[i].check(index) {
                return Err(error);
            }
            if let Atom::Shift { .. } = atoms[i] {
                shifts += 1;
                if i + 1 == atoms.len() {
                    return Err(FilterError::TrailingShift);
                }
            }
            if shifts > MAX_SHIFTS {
                return Err(FilterError::TooManyShifts);
            }
            if !atoms[i].is_whole() || i > 0 && !atoms[i].may_follow(&atoms[i - 1]) {
                return Err(FilterError::NotCanonical(index));
            }
            filter.push(atoms[i]);
            i += 1;
        }
        Ok(filter)
    }

    /// The atoms, in canonical form.
    pub fn atoms(&self) -> &[Atom] {
        self.atoms.get(..usize::from(self.length)).unwrap_or(&self.atoms)
    }

    /// How many bits of a packet the filter pins. A filter that is contained in another one pins
    /// at least as many, so "most specific first" can go by this number.
    pub fn bits(&self) -> u32 {
        self.atoms().iter().map(Atom::bits).sum()
    }

    /// Which of two filters gets a packet that both match: the lesser. The one that pins more bits;
    /// of those the one with fewer atoms, which costs less; of those the one that looks at a lower
    /// offset first. Equal if both look at the same bits, and so only one of them can match.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let weight = |filter: &Filter| (Reverse(filter.bits()), filter.length);
        weight(self).cmp(&weight(other)).then_with(|| self.fields().cmp(other.fields()))
    }

    /// What the atoms look at: the shape of the filter.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Atom> {
        self.atoms().iter().map(Atom::field)
    }

    /// What the atoms want to see, each at the place of its atom, in memory order.
    pub(crate) fn words(&self) -> Words {
        let mut words = [0; MAX_ATOMS];
        words.iter_mut().zip(self.atoms()).for_each(|(word, atom)| *word = atom.key());
        words
    }

    /// The filter of the same shape that wants to see these words.
    pub(crate) fn with_words(mut self, words: &Words) -> Self {
        self.atoms.iter_mut().zip(words).for_each(|(atom, word)| *atom = atom.with_key(*word));
        self
    }

    /// The filter without the compares at some places. It may end with a shift.
    pub(crate) fn keep(&self, kept: impl Fn(usize) -> bool) -> Self {
        let mut filter = Filter::ANY;
        for (place, atom) in self.atoms().iter().enumerate() {
            if matches!(atom, Atom::Shift { .. }) || kept(place) {
                filter.push(*atom);
            }
        }
        filter
    }

    /// Appends an atom, for which there is room.
    const fn push(&mut self, atom: Atom) {
        if (self.length as usize) < MAX_ATOMS {
            self.atoms[self.length as usize] = atom;
            self.length += 1;
        }
    }
}

/// Fills the places behind the last atom, the same in every filter so that `==` and `Hash` can be
/// derived.
const FILL: Atom = Atom::Shift { offset: 0, mask: 0, shift: 0 };
