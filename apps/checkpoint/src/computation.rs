//! What is checkpointed: a program that knows nothing of it, but that it gives way now and then.
//!
//! Each round fills the data with numbers, sorts them, and checks that they are sorted and the same.
//! The sort is C. A. R. Hoare's quicksort (*Algorithm 64*, CACM 4(7), 1961), recursive: where it
//! stands is on the stack.

use crate::coroutine::pause;
use libos_posix::exo_user::start;

/// How many numbers are looked at between two pauses.
const PACE: usize = 512;
/// Shorter rows are sorted by insertion.
const SHORT: usize = 16;

/// The number at a place in a round: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn number(round: u64, index: usize) -> u64 {
    let mut word = (round << 32 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// How many rounds there are.
pub(crate) fn rounds() -> u64 {
    start::own().number("rounds", 12)
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::wrapping_add)
}

/// What all rounds together come to; `round` gives the sum of the numbers of one.
fn total(rounds: u64, round: impl FnMut(u64) -> Option<u64>) -> Option<u64> {
    let mut sums = (0..rounds).map(round);
    sums.try_fold(0_u64, |total, sum| Some(total.wrapping_mul(31).wrapping_add(sum?)))
}

/// The result that must come out, computed in another way.
pub(crate) fn expected(rounds: u64, length: usize) -> u64 {
    let round = |round| Some(sum((0..length).map(|index| number(round, index))));
    total(rounds, round).unwrap_or(0)
}

/// Does all rounds. `None` if some numbers were not sorted, or were others.
pub(crate) fn run(data: &mut [u64], rounds: u64) -> Option<u64> {
    total(rounds, |round| {
        for (index, place) in data.iter_mut().enumerate() {
            *place = number(round, index);
            if index % PACE == 0 {
                pause();
            }
        }
        sort(data);
        data.is_sorted().then(|| sum(data.iter().copied()))
    })
}

fn sort(mut row: &mut [u64]) {
    while row.len() > SHORT {
        if row.len() > PACE {
            pause();
        }
        let middle = partition(row);
        let (left, right) = row.split_at_mut(middle);
        // The shorter side first, so that the stack stays short.
        if left.len() < right.len() {
            sort(left);
            row = right;
        } else {
            sort(right);
            row = left;
        }
    }
    for end in 1..row.len() {
        let mut index = end;
        while index > 0 && row[index - 1] > row[index] {
            row.swap(index - 1, index);
            index -= 1;
        }
    }
}

/// Puts small numbers before large ones. Returns where the large ones begin: neither side is empty.
fn partition(row: &mut [u64]) -> usize {
    let pivot = row[row.len() / 2 - 1];
    let (mut low, mut high) = (0, row.len() - 1);
    loop {
        while row[low] < pivot {
            low += 1;
        }
        while row[high] > pivot {
            high -= 1;
        }
        if low >= high {
            return high + 1;
        }
        row.swap(low, high);
        low += 1;
        high -= 1;
    }
}
