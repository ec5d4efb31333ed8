//! Intervals of unsigned 64-bit numbers: what the verifier knows of a value.
//!
//! Every function returns an interval that holds all results of all members, and possibly more.

use super::instruction::{Instruction, operation::*};

/// All numbers from `min` to `max`; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Range {
    /// Everything.
    pub(super) const FULL: Range = Range { min: 0, max: u64::MAX };

    pub(super) const fn exact(value: u64) -> Self {
        Range { min: value, max: value }
    }

    /// The numbers up to `max`.
    pub(super) const fn up_to(max: u64) -> Self {
        Range { min: 0, max }
    }

    /// The only member.
    pub(super) fn value(self) -> Option<u64> {
        (self.min == self.max).then_some(self.min)
    }

    /// Sums modulo 2^64: an interval again if all of them or none wrap.
    pub(super) fn plus(self, by: Range) -> Self {
        self.moved(by, self.min.wrapping_add(by.min), self.max.wrapping_add(by.max))
    }

    /// Differences modulo 2^64, by the same rule.
    pub(super) fn minus(self, by: Range) -> Self {
        self.moved(by, self.min.wrapping_sub(by.max), self.max.wrapping_sub(by.min))
    }

    fn moved(self, by: Range, min: u64, max: u64) -> Self {
        let spread = (self.max - self.min).checked_add(by.max - by.min);
        if spread.is_some() && min <= max { Range { min, max } } else { Range::FULL }
    }

    /// The lower halves.
    pub(super) fn low(self) -> Self {
        let half = u64::from(u32::MAX);
        if self.max <= half { self } else { Range::up_to(half) }
    }

    /// What arithmetic on numbers can give.
    pub(super) fn apply(instruction: &Instruction, left: Range, right: Range) -> Self {
        if instruction.is_wide() {
            Self::compute(instruction, 63, left, right)
        } else {
            Self::compute(instruction, 31, left.low(), right.low()).low()
        }
    }

    /// The same for operands without bits above `sign`; the result counts modulo 2^64.
    fn compute(instruction: &Instruction, sign: u32, left: Range, right: Range) -> Self {
        let shift = right.value().map(|value| value as u32 & sign);
        let each = |f: &dyn Fn(u64) -> u64| Range { min: f(left.min), max: f(left.max) };
        match (instruction.operation(), instruction.offset, shift) {
            (ADD, ..) => left.plus(right),
            (SUB, ..) => left.minus(right),
            (MUL, ..) => left.max.checked_mul(right.max).map_or(Range::FULL, Range::up_to),
            (DIV, 0, _) => Range::up_to(left.max / right.min.max(1)),
            (MOD, 0, _) if right.min > 0 => Range::up_to(left.max.min(right.max - 1)),
            (MOD, 0, _) | (RSH, _, None) => Range::up_to(left.max),
            (AND, ..) => Range::up_to(left.max.min(right.max)),
            (OR, ..) => Range { min: left.min.max(right.min), max: ones(left.max | right.max) },
            (XOR, ..) => Range::up_to(ones(left.max | right.max)),
            (LSH, _, Some(by)) if left.max.leading_zeros() >= by => each(&|value| value << by),
            (RSH, _, Some(by)) => each(&|value| value >> by),
            (ARSH, _, Some(by)) if left.max >> sign == 0 => each(&|value| value >> by),
            (MOV, 0, _) => right,
            (MOV, bits, _) if right.max >> (bits - 1) == 0 => right,
            (END, ..) if instruction.immediate < 64 => {
                Range::up_to((1 << instruction.immediate) - 1)
            }
            _ => Range::FULL,
        }
    }

    /// The members for which a comparison with some member of `right` can hold; all of them if
    /// that can't be said as an interval.
    pub(super) fn narrow(self, test: u8, wide: bool, right: Range) -> Self {
        if !wide && (self.low() != self || right.low() != right) {
            return self;
        }
        let sign = if wide { 63 } else { 31 };
        let positive = self.max >> sign == 0 && right.max >> sign == 0;
        let (mut min, mut max) = (self.min, self.max);
        match test {
            JEQ => (min, max) = (min.max(right.min), max.min(right.max)),
            JNE if right.value() == Some(min) => min = min.saturating_add(1),
            JNE if right.value() == Some(max) => max = max.saturating_sub(1),
            JSGT | JSGE | JSLT | JSLE if !positive => (),
            JGT | JSGT => min = min.max(right.min.saturating_add(1)),
            JGE | JSGE => min = min.max(right.min),
            JLT | JSLT => max = max.min(right.max.saturating_sub(1)),
            JLE | JSLE => max = max.min(right.max),
            _ => (),
        }
        if min <= max { Range { min, max } } else { self }
    }
}

/// The number that has all bits up to the highest of `value`.
fn ones(value: u64) -> u64 {
    u64::MAX.checked_shr(value.leading_zeros()).unwrap_or(0)
}

/// For each test what holds when it does not; [`JA`], which says nothing, where that is no test.
pub(super) const NEGATED: [u8; 16] =
    [JA, JNE, JLE, JLT, JA, JEQ, JSLE, JSLT, JA, JA, JGE, JGT, JSGE, JSGT, JA, JA];

/// The same tests with their operands exchanged.
pub(super) const EXCHANGED: [u8; 16] =
    [JA, JEQ, JLT, JLE, JSET, JNE, JSLT, JSLE, JA, JA, JGT, JGE, JSGT, JSGE, JA, JA];
