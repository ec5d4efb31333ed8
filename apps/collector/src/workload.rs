//! A program that uses the heap: a table of lists that lives long and changes all the time, and trees
//! that live for a moment. It knows by other means what must be in the lists.

use crate::collector::{Heap, HeapError};
use crate::word::{Address, Word};
use alloc::vec;
use alloc::vec::Vec;

/// A list that is longer is dropped.
const LENGTH_MAX: u64 = 8;
/// Most changes are to so many lists, another part of them at each time.
const HOT: u64 = 64;
/// How long the same lists are hot, in steps.
const PHASE: u64 = 4096;
/// A tree is built every so many steps, and how deep it is.
const TREE_STEPS: u64 = 64;
const DEPTH: u32 = 6;
/// The words of a pair: what it holds, and what is behind it.
const HEAD: usize = 0;
const TAIL: usize = 1;

/// What a list must hold.
#[derive(Clone, Copy, Default)]
struct Expected {
    length: u64,
    sum: u64,
}

pub(crate) struct Workload {
    pub(crate) heap: Heap,
    /// The root of the table.
    table: usize,
    expected: Vec<Expected>,
    random: u64,
}

impl Workload {
    /// A table of so many lists, all empty.
    ///
    /// # Errors
    /// As [`Heap::allocate`].
    pub(crate) fn new(buckets: usize, seed: u64) -> Result<Self, HeapError> {
        let mut heap = Heap::new();
        let table = heap.allocate(buckets)?;
        let table = heap.push_root(table);
        let expected = vec![Expected::default(); buckets];
        Ok(Self { heap, table, expected, random: seed | 1 })
    }

    /// Marsaglia, "Xorshift RNGs", 2003.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Puts a number in front of a list, or drops the list. Returns whether all trees were whole.
    ///
    /// # Errors
    /// As [`Heap::allocate`].
    pub(crate) fn step(&mut self, step: u64) -> Result<bool, HeapError> {
        let random = self.random();
        let hot = step / PHASE * HOT + (random >> 8) % HOT;
        let bucket =
            if random.is_multiple_of(8) { random >> 8 } else { hot } % self.expected.len() as u64;
        self.change(bucket as usize, random >> 40)?;
        if step.is_multiple_of(TREE_STEPS) {
            let tree = self.tree(DEPTH)?;
            return Ok(self.count(tree) == (2 << DEPTH) - 1);
        }
        Ok(true)
    }

    fn change(&mut self, bucket: usize, value: u64) -> Result<(), HeapError> {
        let expected = &mut self.expected[bucket];
        if expected.length == LENGTH_MAX {
            *expected = Expected::default();
            if let Some(table) = self.heap.root(self.table) {
                self.heap.write(table, bucket, Word::NIL);
            }
            return Ok(());
        }
        expected.length += 1;
        expected.sum += value;
        let pair = self.heap.allocate(2)?;
        let Some(table) = self.heap.root(self.table) else { return Ok(()) };
        self.heap.write(pair, HEAD, Word::number(value));
        self.heap.write(pair, TAIL, self.heap.read(table, bucket));
        self.heap.write(table, bucket, Word::reference(pair));
        Ok(())
    }

    /// A tree of pairs. What is not referred to yet when something is allocated is held by a root.
    fn tree(&mut self, depth: u32) -> Result<Address, HeapError> {
        if depth == 0 {
            return self.heap.allocate(2);
        }
        let left = self.tree(depth - 1)?;
        self.heap.push_root(left);
        let right = self.tree(depth - 1)?;
        self.heap.push_root(right);
        let pair = self.heap.allocate(2)?;
        for field in [TAIL, HEAD] {
            let child = self.heap.pop_root().map_or(Word::NIL, Word::reference);
            self.heap.write(pair, field, child);
        }
        Ok(pair)
    }

    fn count(&self, tree: Address) -> u64 {
        let children = [HEAD, TAIL].map(|field| self.heap.read(tree, field).as_reference());
        1 + children.into_iter().flatten().map(|child| self.count(child)).sum::<u64>()
    }

    /// The number of lists that are not what they must be.
    pub(crate) fn wrong(&self) -> usize {
        let Some(table) = self.heap.root(self.table) else { return self.expected.len() };
        let buckets = self.expected.iter().enumerate();
        buckets.filter(|(bucket, expected)| !self.is_right(table, *bucket, expected)).count()
    }

    fn is_right(&self, table: Address, bucket: usize, expected: &Expected) -> bool {
        let mut found = Expected::default();
        let mut next = self.heap.read(table, bucket);
        while let Some(pair) = next.as_reference() {
            let Some(value) = self.heap.read(pair, HEAD).as_number() else { return false };
            found.length += 1;
            found.sum += value;
            next = self.heap.read(pair, TAIL);
        }
        next == Word::NIL && (found.length, found.sum) == (expected.length, expected.sum)
    }
}
