//! The tables that every environment can read, as the kernel writes them.

use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::EnvName;
use exo_abi::tables::{MOVE_WORDS, MOVES, SystemWord};

/// Words of the exposed tables, in memory that programs can only read. The frame table is with
/// the bindings, what each CPU and each environment has of its own in its cell.
#[derive(Clone, Copy, Debug)]
pub struct Exposed<'a> {
    /// [`SystemPage`](exo_abi::tables::SystemPage).
    pub system: &'a [AtomicU64],
    /// [`FilterEntry`](exo_abi::tables::FilterEntry).
    pub filters: &'a [AtomicU64],
    /// [`RingEntry`](exo_abi::tables::RingEntry).
    pub rings: &'a [AtomicU64],
    /// [`Move`](exo_abi::tables::Move), as many as are kept.
    pub moves: &'a [AtomicU64],
}

fn load(words: &[AtomicU64], index: usize) -> u64 {
    words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
}

fn store(words: &[AtomicU64], index: usize, value: u64) {
    if let Some(word) = words.get(index) {
        word.store(value, Ordering::Relaxed);
    }
}

fn store_all<const N: usize>(words: &[AtomicU64], first: usize, values: [u64; N]) {
    for (index, value) in values.into_iter().enumerate() {
        store(words, first + index, value);
    }
}

/// Adds to a word that only the kernel writes.
fn add(words: &[AtomicU64], index: usize, value: u64) {
    if let Some(word) = words.get(index) {
        word.store(word.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
    }
}

impl Exposed<'_> {
    pub(crate) fn set_system(&self, word: SystemWord, value: u64) {
        store(self.system, word as usize, value);
    }

    /// Sets a word that does not go down, but for an instant if two CPUs set it at once.
    pub(crate) fn raise_system(&self, word: SystemWord, value: u64) {
        if let Some(word) = self.system.get(word as usize)
            && word.load(Ordering::Relaxed) < value
        {
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_filter(&self, id: u32, holder: EnvName, ring: u64) {
        store_all(self.filters, id as usize * 4, [holder.0, ring, 0, 0]);
    }

    /// A filter's holder and ring.
    pub(crate) fn filter(&self, id: u32) -> (EnvName, u64) {
        let base = id as usize * 4;
        (EnvName(load(self.filters, base)), load(self.filters, base + 1))
    }

    pub(crate) fn count_filter(&self, id: u32, dropped: bool) {
        add(self.filters, id as usize * 4 + 2, 1);
        if dropped {
            add(self.filters, id as usize * 4 + 3, 1);
        }
    }

    pub(crate) fn set_ring(&self, id: u32, holder: EnvName, slots: u64) {
        store_all(self.rings, id as usize * 4, [holder.0, slots, 0, 0]);
    }

    /// Appends a move. Who sees the count sees the move.
    pub(crate) fn append_move(&self, words: [u64; MOVE_WORDS]) {
        let Some(count) = self.system.get(SystemWord::MovesCount as usize) else { return };
        let number = count.load(Ordering::Relaxed);
        let place = self.moves.as_chunks::<MOVE_WORDS>().0.get(number as usize % MOVES);
        for (stored, word) in place.into_iter().flatten().zip(words) {
            stored.store(word, Ordering::Relaxed);
        }
        count.store(number + 1, Ordering::Release);
    }

    pub(crate) fn count_ring(&self, id: u32, dropped: bool) {
        add(self.rings, id as usize * 4 + 2 + usize::from(dropped), 1);
    }
}
