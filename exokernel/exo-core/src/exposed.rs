//! The tables that every environment can read, as the kernel writes them.

use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::EnvName;
use exo_abi::layout::LABEL;
use exo_abi::tables::{ENV_WORDS, EnvWord, MOVE_WORDS, MOVES};

/// Words of the exposed tables, in memory that programs can only read. The frame table is with
/// the bindings, what each CPU has of its own in its cell.
#[derive(Clone, Copy, Debug)]
pub struct Exposed<'a> {
    /// [`SystemPage`](exo_abi::tables::SystemPage).
    pub system: &'a [AtomicU64],
    /// [`EnvEntry`](exo_abi::tables::EnvEntry), one for each slot.
    pub environments: &'a [AtomicU64],
    /// [`FilterEntry`](exo_abi::tables::FilterEntry).
    pub filters: &'a [AtomicU64],
    /// [`RingEntry`](exo_abi::tables::RingEntry).
    pub rings: &'a [AtomicU64],
    /// [`Move`](exo_abi::tables::Move), as many as are kept.
    pub moves: &'a [AtomicU64],
}

/// The words of the [`SystemPage`](exo_abi::tables::SystemPage) that change.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum SystemWord {
    Time = 2,
    FramesFree = 9,
    DonationMinimum = 10,
    LinkAddress = 11,
    MovesCount = 33,
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

    pub(crate) fn set_environment(&self, slot: u16, word: EnvWord, value: u64) {
        store(self.environments, slot as usize * ENV_WORDS + word as usize, value);
    }

    pub(crate) fn count_environment(&self, slot: u16, word: EnvWord, value: u64) {
        add(self.environments, slot as usize * ENV_WORDS + word as usize, value);
    }

    /// Clears a slot's entry but for the state, for its next life.
    pub(crate) fn clear_environment(&self, slot: u16) {
        for word in (0..ENV_WORDS).filter(|&word| word != EnvWord::State as usize) {
            store(self.environments, slot as usize * ENV_WORDS + word, 0);
        }
    }

    pub(crate) fn set_label(&self, slot: u16, label: &[u8; LABEL]) {
        let word = u128::from_le_bytes(*label);
        let base = slot as usize * ENV_WORDS + EnvWord::Label as usize;
        store(self.environments, base, word as u64);
        store(self.environments, base + 1, (word >> 64) as u64);
    }

    pub(crate) fn label(&self, slot: u16) -> [u8; LABEL] {
        let base = slot as usize * ENV_WORDS + EnvWord::Label as usize;
        let low = load(self.environments, base);
        let high = load(self.environments, base + 1);
        (low as u128 | (high as u128) << 64).to_le_bytes()
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
        add(self.filters, id as usize * 4 + 3, dropped.into());
    }

    pub(crate) fn set_ring(&self, id: u32, holder: EnvName, slots: u64) {
        store_all(self.rings, id as usize * 4, [holder.0, slots, 0, 0]);
    }

    /// Appends a move. Who sees the count sees the move.
    pub(crate) fn append_move(&self, words: [u64; MOVE_WORDS]) {
        let Some(count) = self.system.get(SystemWord::MovesCount as usize) else { return };
        let number = count.load(Ordering::Relaxed);
        store_all(self.moves, number as usize % MOVES * MOVE_WORDS, words);
        count.store(number + 1, Ordering::Release);
    }

    pub(crate) fn count_ring(&self, id: u32, dropped: bool) {
        add(self.rings, id as usize * 4 + 2 + usize::from(dropped), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;
    use exo_abi::tables::SystemPage;

    #[test]
    fn words_are_the_fields() {
        assert_eq!(offset_of!(SystemPage, time), SystemWord::Time as usize * 8);
        assert_eq!(offset_of!(SystemPage, frames_free), SystemWord::FramesFree as usize * 8);
        let minimum = SystemWord::DonationMinimum as usize * 8;
        assert_eq!(offset_of!(SystemPage, donation_minimum), minimum);
        let moves = SystemWord::MovesCount as usize * 8;
        assert_eq!(offset_of!(SystemPage, moves_count), moves);
        assert_eq!(offset_of!(SystemPage, link_address), SystemWord::LinkAddress as usize * 8);
    }
}
