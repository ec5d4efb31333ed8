//! Conditions on one load from a packet, as masked compares.

use crate::classic::Comparison;

/// A load: where the base is after some headers, the offset from it, and how much.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// The headers before it.
    pub base: Vec<Header>,
    /// Bytes from the base.
    pub offset: u32,
    /// Bytes.
    pub width: u8,
}

/// A header of variable length: `(byte & mask) << shift` bytes, the byte so far from the base before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Header {
    /// Bytes from the base to the byte that holds the length.
    pub offset: u32,
    /// The bits of it that count.
    pub mask: u8,
    /// Left shift in bits.
    pub shift: u8,
}

/// A condition on a load: `((load & mask) >> right) << left` compares with a constant, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The bits of the load that count.
    pub mask: u32,
    /// Right shift in bits, then left shift.
    pub shifts: (u32, u32),
    /// How it compares.
    pub comparison: Comparison,
    /// With what.
    pub constant: u32,
    /// Whether it does.
    pub holds: bool,
}

impl Condition {
    /// The opposite.
    #[must_use]
    pub fn negated(self) -> Self {
        Self { holds: !self.holds, ..self }
    }

    /// The bits of the load that it depends on.
    fn bits(&self) -> u32 {
        match self.comparison {
            Comparison::AnyBit => {
                let constant = self.constant.checked_shr(self.shifts.1).unwrap_or(0);
                self.mask & constant.checked_shl(self.shifts.0).unwrap_or(0)
            }
            _ => self.mask,
        }
    }

    /// Whether it is met, if these bits of the load are known; `None` if that depends on others.
    fn decided(&self, known: u32, value: u32) -> Option<bool> {
        let open = self.mask & !known;
        let computed = |load: u32| {
            let right = (load & self.mask).checked_shr(self.shifts.0).unwrap_or(0);
            right.checked_shl(self.shifts.1).unwrap_or(0)
        };
        let (least, most) = (computed(value), computed(value | open));
        let constant = self.constant;
        let met = match self.comparison {
            // Both bounds share the bits that are known.
            Comparison::Equal if (least ^ constant) & !(least ^ most) != 0 => Some(false),
            Comparison::Equal | Comparison::AnyBit if least == most => {
                Some(self.comparison.holds(least, constant))
            }
            Comparison::Equal => None,
            Comparison::AnyBit if least & constant != 0 => Some(true),
            Comparison::AnyBit if most & constant == 0 => Some(false),
            Comparison::AnyBit => None,
            ordered if ordered.holds(least, constant) => Some(true),
            ordered if !ordered.holds(most, constant) => Some(false),
            _ => None,
        };
        met.map(|met| met == self.holds)
    }
}

/// How many prefixes are looked at: conditions can exclude each other so that each load by itself
/// has to be.
const WORK: usize = 4096;

/// The loads that meet all conditions, as masked compares (mask, value), no two of which overlap. At
/// most so many; `None` if there are more, or it would take too long to say.
#[must_use]
pub fn cover(width: u8, conditions: &[Condition], most: usize) -> Option<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    let all = u32::MAX >> (32 - 8 * u32::from(width));
    let (mut open, mut work) = (vec![(0u32, 0u32)], 0);
    while let Some((known, value)) = open.pop() {
        work += 1;
        if work > WORK {
            return None;
        }
        let undecided = |c: &&Condition| c.decided(known, value).is_none();
        if conditions.iter().any(|c| c.decided(known, value) == Some(false)) {
            continue;
        }
        let bits = conditions.iter().filter(undecided).fold(0, |bits, c| bits | c.bits()) & !known;
        if bits & all == 0 {
            found.push((known, value));
            if found.len() > most {
                return None;
            }
            continue;
        }
        let bit = 1 << (bits & all).ilog2();
        open.extend([(known | bit, value | bit), (known | bit, value)]);
    }
    Some(found)
}

/// Whether a load can meet all conditions; also if that is not known.
#[must_use]
pub fn possible(width: u8, conditions: &[Condition]) -> bool {
    cover(width, conditions, 0).is_none_or(|found| !found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(comparison: Comparison, constant: u32, holds: bool) -> Condition {
        Condition { mask: 0xffff, shifts: (0, 0), comparison, constant, holds }
    }

    #[test]
    fn a_range_becomes_prefixes() {
        let range = [
            condition(Comparison::NotLess, 1024, true),
            condition(Comparison::Greater, 2047, false),
        ];
        assert_eq!(cover(2, &range, 99), Some(vec![(0xfc00, 1024)]));
        let byte = |comparison, constant, holds| Condition {
            mask: 0xff,
            ..condition(comparison, constant, holds)
        };
        let odd = [byte(Comparison::NotLess, 1, true), byte(Comparison::Greater, 6, false)];
        let covers = cover(1, &odd, 99).unwrap();
        assert_eq!(covers.len(), 4);
        for value in 0..=255u32 {
            let inside = covers.iter().filter(|(mask, want)| value & mask == *want).count();
            assert_eq!(inside, usize::from((1..=6).contains(&value)), "{value}");
        }
    }

    #[test]
    fn equality_is_one_compare_and_its_opposite_one_for_each_bit() {
        let equal = condition(Comparison::Equal, 0x0800, true);
        assert_eq!(cover(2, &[equal], 9), Some(vec![(0xffff, 0x0800)]));
        assert_eq!(cover(2, &[equal.negated()], 99).unwrap().len(), 16);
        assert_eq!(cover(2, &[equal.negated()], 9), None);
        assert!(!possible(2, &[equal, equal.negated()]));
        let shifted = Condition { mask: 0xf0, shifts: (4, 0), constant: 4, ..equal };
        assert_eq!(cover(1, &[shifted], 9), Some(vec![(0xf0, 0x40)]));
        // The lowest bit is to be two things, but is looked at last, on each of two to the fifteen ways.
        let whole = Condition { mask: u32::MAX, ..condition(Comparison::AnyBit, 0, true) };
        let pair = |bit: u32| Condition { constant: 0x0001_0002_u32 << bit, ..whole };
        let lowest =
            |constant| Condition { mask: 1, ..condition(Comparison::Equal, constant, true) };
        let mut many: Vec<Condition> = (0..15).map(pair).collect();
        many.extend([lowest(0), lowest(1)]);
        assert_eq!(cover(4, &many, 9), None);
        assert!(possible(4, &many), "as far as was looked");
        let bits = Condition { mask: 0xff, ..condition(Comparison::AnyBit, 0x12, true) };
        assert_eq!(cover(1, &[bits], 9).unwrap().len(), 2);
    }
}
