//! The computation: each pass gives every record a new value that depends on its old one, its
//! place and the moment at which the pass came by.

use alloc::vec::Vec;

/// The words of a record. All of them hold the record's value, so that a record shows damage, and
/// so that a page compresses about as well as tables in real programs do.
const WORDS: usize = 64;
/// The records in a page.
pub(crate) const RECORDS_PER_PAGE: usize = 4096 / (4 * WORDS);

/// The step of the scattered order: odd, so that it reaches every record of a power of two.
const STEP: u64 = 0x9e37_79b9;
/// A scattered pass comes by at one record of so many: at each page twice, at other times.
const SPARSE: u64 = 8;

/// In which order the passes go through the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Each from the first to the last.
    Cyclic,
    /// Every second one scattered, through some of them.
    Alternating,
}

impl Order {
    pub(crate) fn is_scattered(self, pass: u64) -> bool {
        self == Self::Alternating && pass % 2 == 1
    }
}

/// The data.
pub(crate) struct Computation {
    records: Vec<[u32; WORDS]>,
    order: Order,
}

impl Computation {
    /// For a number of records that is a power of two.
    pub(crate) fn new(records: Vec<[u32; WORDS]>, order: Order) -> Self {
        Self { records, order }
    }

    /// Goes over the records once.
    ///
    /// # Errors
    /// The index of a record that is not what was written.
    pub(crate) fn pass(&mut self, pass: u64) -> Result<(), usize> {
        let count = self.records.len() as u64;
        let (stride, step) = if self.order.is_scattered(pass) { (SPARSE, STEP) } else { (1, 1) };
        for moment in (0..count).step_by(stride as usize) {
            let index = (moment * step % count) as usize;
            let record = &mut self.records[index];
            let value = value(record).ok_or(index)?;
            record.fill(next(value, pass, moment));
        }
        Ok(())
    }

    /// The checksum of the data, or `None` if a record is damaged.
    pub(crate) fn checksum(&self) -> Option<u64> {
        let records = (0..).zip(&self.records);
        records.map(|(index, record)| value(record).map(|value| summand(index, value))).sum()
    }

    /// The same checksum, without the data: follows one record after the other through all passes.
    /// The moment at which a scattered pass comes to a record is found by the step's inverse.
    pub(crate) fn expected(&self, passes: u64) -> u64 {
        let count = self.records.len() as u64;
        let inverse = inverse(STEP);
        let after = |index: u64, value, pass| {
            let scattered = index.wrapping_mul(inverse) % count;
            match self.order.is_scattered(pass) {
                false => next(value, pass, index),
                true if scattered.is_multiple_of(SPARSE) => next(value, pass, scattered),
                true => value,
            }
        };
        let final_value = |index| (0..passes).fold(0, |value, pass| after(index, value, pass));
        (0..count).map(|index| summand(index, final_value(index))).fold(0, u64::wrapping_add)
    }
}

/// The value of a record, if all of its words agree.
fn value(record: &[u32; WORDS]) -> Option<u32> {
    record.iter().all(|word| *word == record[0]).then_some(record[0])
}

/// What a value becomes.
fn next(value: u32, pass: u64, moment: u64) -> u32 {
    let mixed = mix(u64::from(value) ^ pass << 32 ^ moment << 40);
    (mixed >> 32) as u32
}

fn summand(index: u64, value: u32) -> u64 {
    // Small enough that the sum over all records does not overflow.
    mix(index << 32 | u64::from(value)) >> 24
}

/// The finaliser of SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014.
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each round doubles the bits
/// that are right.
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |guess, _| guess.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(guess))))
}
