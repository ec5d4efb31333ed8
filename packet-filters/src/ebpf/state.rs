//! What is known at one place of a program: the kind and range of each register, what each byte of
//! the stack holds, and how long each region is at least.
//!
//! States form a lattice of bounded height; [`State::join`] goes up in it. From a loop's end to its
//! start a range that changed becomes [`Range::FULL`] at once, so that each register changes at
//! most three times at such a place.

use super::profile::{Argument, MAX_REGIONS, Profile};
use super::range::Range;

/// The bytes of the stack.
pub(super) const STACK: u64 = 512;

/// The region that stands for the stack.
pub const STACK_REGION: u8 = MAX_REGIONS as u8;

/// What a value is. A pointer is a number, too: the offset into its region, which is part of the
/// kind. So nothing that a program can do with its registers shows an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing, or different kinds on different ways: must not be read.
    Unset,
    Number,
    /// A number: the length that the region had at the start.
    Length(u8),
    Pointer(u8),
}

/// The kind and range of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) kind: Kind,
    pub(super) range: Range,
}

impl Value {
    const UNSET: Value = Value { kind: Kind::Unset, range: Range::FULL };
    /// Register 10.
    const FRAME: Value = Value { kind: Kind::Pointer(STACK_REGION), range: Range::exact(STACK) };

    pub(super) const fn number(range: Range) -> Self {
        Value { kind: Kind::Number, range }
    }

    pub(super) fn is_pointer(self) -> bool {
        matches!(self.kind, Kind::Pointer(_))
    }

    /// The value that may be either; `back` on the way to the start of a loop.
    fn join(self, other: Value, back: bool) -> Self {
        let kind = match (self.kind, other.kind) {
            (a, b) if a == b => a,
            (Kind::Number | Kind::Length(_), Kind::Number | Kind::Length(_)) => Kind::Number,
            _ => return Value::UNSET,
        };
        let (a, b) = (self.range, other.range);
        let hull = Range { min: a.min.min(b.min), max: a.max.max(b.max) };
        Value { kind, range: if back && hull != a { Range::FULL } else { hull } }
    }
}

/// What a byte of the stack holds: nothing, a byte of a number, or one of a pointer into region
/// `n - POINTER`. Pointers lie at multiples of 8.
const NOTHING: u8 = 0;
pub(super) const NUMBER: u8 = 1;
pub(super) const POINTER: u8 = 2;

/// A state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    registers: [Value; 10],
    /// How long each region is at least; the stack is one of them.
    known: [u64; MAX_REGIONS + 1],
    stack: [u8; STACK as usize],
}

impl State {
    /// Nothing is known.
    const EMPTY: State = State {
        registers: [Value::UNSET; 10],
        known: [0, 0, 0, 0, STACK],
        stack: [NOTHING; STACK as usize],
    };

    /// The state in which a program of this profile starts.
    pub(super) fn entry(profile: &Profile<'_>) -> Self {
        let mut state = State::EMPTY;
        for (known, region) in state.known.iter_mut().zip(profile.regions) {
            *known = region.minimum.into();
        }
        for (register, argument) in (1..).zip(profile.arguments) {
            let (kind, range) = match argument {
                Argument::Nothing => continue,
                Argument::Number => (Kind::Number, Range::FULL),
                Argument::Pointer(region) => (Kind::Pointer(region), Range::exact(0)),
                Argument::Length(region) => {
                    let bounds = profile.regions.get(usize::from(region));
                    let max = bounds.map_or(u64::MAX, |bounds| bounds.maximum.into());
                    (Kind::Length(region), Range { min: state.known(region), max })
                }
            };
            state.set(register, Value { kind, range });
        }
        state
    }

    /// What is left after a call: the result is a number, the arguments are gone.
    pub(super) fn returned(&mut self) {
        (1..=5).for_each(|register| self.set(register, Value::UNSET));
        self.set(0, Value::number(Range::FULL));
    }

    pub(super) fn get(&self, register: u8) -> Value {
        self.registers.get(usize::from(register)).copied().unwrap_or(Value::FRAME)
    }

    pub(super) fn set(&mut self, register: u8, value: Value) {
        if let Some(place) = self.registers.get_mut(usize::from(register)) {
            *place = value;
        }
    }

    /// How long the region is at least.
    pub(super) fn known(&self, region: u8) -> u64 {
        self.known.get(usize::from(region)).copied().unwrap_or(0)
    }

    /// The region is at least so long.
    pub(super) fn learn(&mut self, region: u8, length: u64) {
        if let Some(known) = self.known.get_mut(usize::from(region)) {
            *known = length.max(*known);
        }
    }

    /// Takes in another way to the same place; says whether that changed anything.
    pub(super) fn join(&mut self, other: &State, back: bool) -> bool {
        let before = *self;
        for (value, other) in self.registers.iter_mut().zip(other.registers) {
            *value = value.join(other, back);
        }
        for (known, other) in self.known.iter_mut().zip(other.known) {
            *known = other.min(*known);
        }
        for (byte, other) in self.stack.iter_mut().zip(other.stack) {
            *byte = if *byte == other { other } else { NOTHING };
        }
        *self != before
    }

    /// What the stack holds from `min` up to `max`.
    pub(super) fn bytes(&self, range: Range) -> &[u8] {
        self.stack.get(range.min as usize..range.max as usize).unwrap_or_default()
    }

    /// A value is stored in these bytes.
    pub(super) fn store(&mut self, range: Range, kind: Kind) {
        let held = if let Kind::Pointer(region) = kind { POINTER + region } else { NUMBER };
        if let Some(bytes) = self.stack.get_mut(range.min as usize..range.max as usize) {
            bytes.fill(held);
        }
    }
}
