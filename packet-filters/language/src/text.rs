//! Filters as text, exact in both directions.
//!
//! Atoms are separated by white space:
//!
//! - `12:2=0x0800`: the 2 bytes at offset 12 are 0x0800.
//! - `20:2&0x1fff=0`: the same with a mask.
//! - `shift(14,0x0f,2)`: the base moves by `(byte 14 & 0x0f) << 2`; later offsets count from there.
//! - `any`, alone: no atoms, every packet matches.
//!
//! Numbers are decimal or `0x` hexadecimal; a value of four bytes may be a dotted quad,
//! `30:4=10.0.2.15`. What [`show`] prints parses to the same filter; what is parsed is brought into
//! canonical form, so it may print differently. Filters of which one has to match, a union, are
//! separated by `|`.

use core::fmt;

use packet_filters::{Atom, Filter, FilterError, MAX_ATOMS, MAX_SHIFTS, Width};

/// Why a text is not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where, in bytes from the start of the text.
    pub at: usize,
    /// What is wrong there.
    pub problem: ParseProblem,
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseProblem {
    /// This character (or a space, between atoms) should stand here.
    Expected(char),
    /// A number should stand here.
    ExpectedNumber,
    /// The number does not fit its field.
    NumberTooLarge,
    /// A load has 1, 2 or 4 bytes.
    UnknownWidth,
    /// A dotted quad has four bytes, and so must its load.
    QuadNeedsFourBytes,
    /// The text has no atoms; write `any` for the filter that matches everything.
    Empty,
    /// The atoms do not make a filter.
    Invalid(FilterError),
}

/// A filter that prints as text.
#[derive(Clone, Copy)]
pub struct Shown<'f>(&'f Filter);

/// An atom that prints as text.
#[derive(Clone, Copy)]
pub struct ShownAtom(Atom);

/// The filter as text.
pub const fn show(filter: &Filter) -> Shown<'_> {
    Shown(filter)
}

/// The atom as text.
pub const fn show_atom(atom: Atom) -> ShownAtom {
    ShownAtom(atom)
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.atoms().is_empty() {
            return f.write_str("any");
        }
        for (index, atom) in self.0.atoms().iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            show_atom(*atom).fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ShownAtom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Atom::Compare { offset, width, mask, value } => {
                let digits = 2 + 2 * usize::from(width.bytes());
                write!(f, "{offset}:{}", width.bytes())?;
                if mask != width.full_mask() {
                    write!(f, "&{mask:#0digits$x}")?;
                }
                write!(f, "={value:#0digits$x}")
            }
            Atom::Shift { offset, mask, shift } => write!(f, "shift({offset},{mask:#04x},{shift})"),
        }
    }
}

/// The filter of a text.
///
/// # Errors
/// What is wrong with the text, and where.
pub fn parse(text: &str) -> Result<Filter, ParseError> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.skip_space();
    if cursor.rest().trim_end() == "any" {
        return Ok(Filter::ANY);
    }
    let mut atoms = [Atom::exact(0, Width::One, 0); MAX_ATOMS];
    let mut count = 0;
    while !cursor.rest().is_empty() {
        let start = cursor.at;
        let atom = cursor.atom()?;
        let invalid = ParseProblem::Invalid(FilterError::TooManyAtoms);
        *atoms.get_mut(count).ok_or(ParseError { at: start, problem: invalid })? = atom;
        count += 1;
        if !cursor.rest().is_empty() && !cursor.skip_space() {
            return cursor.fail(ParseProblem::Expected(' '));
        }
    }
    if count == 0 {
        return cursor.fail(ParseProblem::Empty);
    }
    let atoms = atoms.get(..count).unwrap_or(&atoms);
    crate::filter(atoms)
        .map_err(|error| ParseError { at: cursor.at, problem: ParseProblem::Invalid(error) })
}

/// The filters of a union, in turn; places in errors count from the start of their own part.
pub fn parse_union(text: &str) -> impl Iterator<Item = Result<Filter, ParseError>> {
    text.split('|').map(parse)
}

/// A place in the text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn fail<T>(&self, problem: ParseProblem) -> Result<T, ParseError> {
        Err(ParseError { at: self.at, problem })
    }

    /// Whether there was any white space.
    fn skip_space(&mut self) -> bool {
        let rest = self.rest();
        let skipped = rest.len() - rest.trim_start().len();
        self.at += skipped;
        skipped > 0
    }

    /// Whether `token` stood here; if so, it is skipped.
    fn skip(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: char) -> Result<(), ParseError> {
        if self.rest().starts_with(token) {
            self.at += token.len_utf8();
            return Ok(());
        }
        self.fail(ParseProblem::Expected(token))
    }

    fn atom(&mut self) -> Result<Atom, ParseError> {
        if self.skip("shift(") {
            let offset = self.number()?;
            self.expect(',')?;
            let mask = self.number()?;
            self.expect(',')?;
            let shift = self.number()?;
            self.expect(')')?;
            return Ok(Atom::Shift { offset, mask, shift });
        }
        let offset = self.number()?;
        self.expect(':')?;
        let start = self.at;
        let Some(width) = Width::from_bytes(self.number()?) else {
            return Err(ParseError { at: start, problem: ParseProblem::UnknownWidth });
        };
        let mask = if self.skip("&") { self.number()? } else { width.full_mask() };
        self.expect('=')?;
        Ok(Atom::Compare { offset, width, mask, value: self.value(width)? })
    }

    /// A number or a dotted quad.
    fn value(&mut self, width: Width) -> Result<u32, ParseError> {
        let start = self.at;
        let mut value = self.number::<u32>()?;
        if !self.rest().starts_with('.') {
            return Ok(value);
        }
        if width != Width::Four {
            return Err(ParseError { at: start, problem: ParseProblem::QuadNeedsFourBytes });
        }
        if value > 0xff {
            return Err(ParseError { at: start, problem: ParseProblem::NumberTooLarge });
        }
        for _ in 0..3 {
            self.expect('.')?;
            value = value << 8 | u32::from(self.number::<u8>()?);
        }
        Ok(value)
    }

    fn number<T: TryFrom<u64>>(&mut self) -> Result<T, ParseError> {
        let start = self.at;
        let radix = if self.skip("0x") { 16 } else { 10 };
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| char::from(*byte).is_digit(radix)).count();
        let digits = rest.get(..length).unwrap_or("");
        if digits.is_empty() {
            return self.fail(ParseProblem::ExpectedNumber);
        }
        self.at += length;
        u64::from_str_radix(digits, radix)
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .ok_or(ParseError { at: start, problem: ParseProblem::NumberTooLarge })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.at)?;
        match self.problem {
            ParseProblem::Expected(token) => write!(f, "expected '{token}'"),
            ParseProblem::ExpectedNumber => write!(f, "expected a number"),
            ParseProblem::NumberTooLarge => write!(f, "the number is too large"),
            ParseProblem::UnknownWidth => write!(f, "a load has 1, 2 or 4 bytes"),
            ParseProblem::QuadNeedsFourBytes => write!(f, "a dotted quad needs a load of 4 bytes"),
            ParseProblem::Empty => write!(f, "no atoms; write 'any' to match every packet"),
            ParseProblem::Invalid(error) => explain(error).fmt(f),
        }
    }
}

impl core::error::Error for ParseError {}

/// Why atoms are no filter, in words.
#[derive(Clone, Copy)]
pub struct Explained(FilterError);

/// The error in words.
pub const fn explain(error: FilterError) -> Explained {
    Explained(error)
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FilterError::TooManyAtoms => write!(f, "more than {MAX_ATOMS} atoms"),
            FilterError::TooManyShifts => write!(f, "more than {MAX_SHIFTS} shifts"),
            FilterError::EmptyMask(atom) => write!(f, "atom {atom}: the mask is zero"),
            FilterError::MaskTooWide(atom) => {
                write!(f, "atom {atom}: the mask has bits outside the load")
            }
            FilterError::ValueOutsideMask(atom) => {
                write!(f, "atom {atom}: the value has bits outside the mask")
            }
            FilterError::OffsetTooLarge(atom) => {
                write!(f, "atom {atom}: the load ends too far from its base")
            }
            FilterError::ShiftTooLarge(atom) => write!(f, "atom {atom}: shifts by too much"),
            FilterError::Contradiction(atom) => {
                write!(f, "atom {atom} contradicts an earlier one")
            }
            FilterError::TrailingShift => write!(f, "nothing follows the last shift"),
            FilterError::NotCanonical(atom) => write!(f, "atom {atom}: not in canonical form"),
        }
    }
}
