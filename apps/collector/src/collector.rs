//! The collector: two generations, and copying in both.
//!
//! Objects are born in the nursery. When it is full, those that are reachable move to the old space:
//! from the roots, and from old objects on pages that were written to since the last time. All others
//! of the old objects cannot refer to young ones, so they are not looked at, and need not even be in
//! memory. When the old space has grown to its limit, everything that is reachable moves to a new
//! one.
//!
//! H. Lieberman and C. Hewitt, *A real-time garbage collector based on the lifetimes of objects*, CACM
//! 26(6), 1983; D. Ungar, *Generation scavenging*, 1984. Copying is C. J. Cheney's, *A nonrecursive
//! list compacting algorithm*, CACM 13(11), 1970. The barrier is that of A. W. Appel and K. Li,
//! *Virtual memory primitives for user programs*, ASPLOS 1991.

use crate::barrier::{self, PAGES_MAX};
use crate::space::{PAGE_WORDS, Space};
use crate::word::{Address, Word};
use alloc::vec::Vec;
use libos_posix::memory::Protection;

/// The pages of the nursery.
const NURSERY: usize = 32;
/// The old space is collected when it has so many pages, or twice as many as were reachable.
const OLD_LEAST: usize = 4 * NURSERY;

/// What was done.
#[derive(Clone, Copy, Default)]
pub(crate) struct Statistics {
    /// Collections of the nursery, and of everything.
    pub(crate) minor: u64,
    pub(crate) major: u64,
    /// Old pages that were searched for references to young objects, and those that were not.
    pub(crate) searched: u64,
    pub(crate) spared: u64,
    /// Words that moved.
    pub(crate) moved: u64,
}

/// Why there is no new object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeapError {
    /// It is larger than the nursery.
    TooLarge,
    /// What is reachable is more than an old space can hold.
    Full,
    /// The page table has no room for the protection of another page.
    Unprotected,
}

/// A heap of objects, each a row of words.
pub(crate) struct Heap {
    nursery: Space,
    old: Space,
    /// The pages of the old space that start the next collection of it.
    limit: usize,
    /// What the program holds. The collector changes these words when it moves objects.
    roots: Vec<Word>,
    pub(crate) statistics: Statistics,
}

impl Heap {
    pub(crate) fn new() -> Self {
        let (nursery, old) = (Space::new(NURSERY), Space::new(PAGES_MAX));
        barrier::watch(old.addresses());
        let statistics = Statistics::default();
        Self { nursery, old, limit: OLD_LEAST, roots: Vec::new(), statistics }
    }

    /// A new object of so many words, all nil. Every address that the program has, but for the roots,
    /// means nothing afterwards.
    ///
    /// # Errors
    /// All of [`HeapError`].
    pub(crate) fn allocate(&mut self, length: usize) -> Result<Address, HeapError> {
        if !self.nursery.has_room(length + 1) {
            self.collect()?;
        }
        if !self.nursery.has_room(length + 1) {
            return Err(HeapError::TooLarge);
        }
        let index = self.nursery.take(length + 1);
        self.nursery.set(index, Word::number(length as u64));
        Ok(Address::young(index))
    }

    /// Keeps an object until [`Heap::pop_root`], and returns the number of the root.
    pub(crate) fn push_root(&mut self, object: Address) -> usize {
        self.roots.push(Word::reference(object));
        self.roots.len() - 1
    }

    pub(crate) fn pop_root(&mut self) -> Option<Address> {
        self.roots.pop().and_then(Word::as_reference)
    }

    /// Where the object of a root is now.
    pub(crate) fn root(&self, number: usize) -> Option<Address> {
        self.roots.get(number).and_then(|word| word.as_reference())
    }

    /// A word of an object.
    pub(crate) fn read(&self, object: Address, field: usize) -> Word {
        self.get(object.at(1 + field))
    }

    /// Changes a word of an object: the store that may hit the barrier.
    pub(crate) fn write(&mut self, object: Address, field: usize, word: Word) {
        self.set(object.at(1 + field), word);
    }

    /// The pages that the old objects take.
    pub(crate) fn old_pages(&self) -> usize {
        self.old.used_pages()
    }

    fn get(&self, address: Address) -> Word {
        if address.is_young() { &self.nursery } else { &self.old }.get(address.index())
    }

    fn set(&mut self, address: Address, word: Word) {
        if address.is_young() { &mut self.nursery } else { &mut self.old }
            .set(address.index(), word);
    }

    /// Empties the nursery.
    fn collect(&mut self) -> Result<(), HeapError> {
        if !self.old.has_room(self.nursery.top()) {
            return Err(HeapError::Full);
        }
        self.statistics.minor += 1;
        let (start, pages) = (self.old.top(), self.old.used_pages());
        // What moves continues the last page, which is protected like all others.
        let last = start / PAGE_WORDS;
        protect(last..pages.max(last + 1), Protection::ReadWrite)?;
        for number in 0..self.roots.len() {
            self.roots[number] = self.promoted(self.roots[number]);
        }
        let mut next = 0;
        let mut searched = 0;
        while let Some(page) = barrier::take_written(next) {
            let words = page * PAGE_WORDS..start.min((page + 1) * PAGE_WORDS);
            words.for_each(|index| self.promote_at(index));
            (next, searched) = (page + 1, searched + 1);
        }
        let mut scanned = start;
        while scanned < self.old.top() {
            self.promote_at(scanned);
            scanned += 1;
        }
        self.nursery.clear();
        self.statistics.searched += searched;
        self.statistics.spared += (pages as u64).saturating_sub(searched);
        if self.old.used_pages() > self.limit {
            return self.collect_old();
        }
        protect(0..self.old.used_pages(), Protection::Read)
    }

    /// Moves what a word of the old space refers to, if that is young.
    fn promote_at(&mut self, index: usize) {
        let word = self.old.get(index);
        let promoted = self.promoted(word);
        if promoted != word {
            self.old.set(index, promoted);
        }
    }

    /// The word for an object where it is afterwards: young ones move to the old space.
    fn promoted(&mut self, word: Word) -> Word {
        let Some(young) = word.as_reference().filter(|address| address.is_young()) else {
            return word;
        };
        let (from, to) = (&mut self.nursery, &mut self.old);
        moved(from, young.index(), to, &mut self.statistics.moved)
    }

    /// Moves everything that is reachable to a new old space. The nursery is empty.
    fn collect_old(&mut self) -> Result<(), HeapError> {
        self.statistics.major += 1;
        let mut from = core::mem::replace(&mut self.old, Space::new(PAGES_MAX));
        // Where objects were, it is noted where they are now; and freed memory is not protected.
        protect(0..from.used_pages(), Protection::ReadWrite)?;
        barrier::watch(self.old.addresses());
        let count = &mut self.statistics.moved;
        for root in &mut self.roots {
            if let Some(address) = root.as_reference() {
                *root = moved(&mut from, address.index(), &mut self.old, count);
            }
        }
        let mut scanned = 1;
        while scanned < self.old.top() {
            if let Some(address) = self.old.get(scanned).as_reference() {
                let word = moved(&mut from, address.index(), &mut self.old, count);
                self.old.set(scanned, word);
            }
            scanned += 1;
        }
        self.limit = OLD_LEAST.max(2 * self.old.used_pages());
        protect(0..self.old.used_pages(), Protection::Read)
    }
}

/// Moves an object, unless it has moved already, and returns the word for where it is. The first word
/// of an object is its length, or where it has gone.
fn moved(from: &mut Space, index: usize, to: &mut Space, count: &mut u64) -> Word {
    let header = from.get(index);
    let Some(length) = header.as_number() else { return header };
    let words = length as usize + 1;
    let first = to.take(words);
    (0..words).for_each(|offset| to.set(first + offset, from.get(index + offset)));
    let word = Word::reference(Address::old(first));
    from.set(index, word);
    *count += words as u64;
    word
}

fn protect(pages: core::ops::Range<usize>, protection: Protection) -> Result<(), HeapError> {
    if barrier::protect(pages, protection) { Ok(()) } else { Err(HeapError::Unprotected) }
}
