//! Which frames are free: a bitmap with summaries.
//!
//! The lowest level has a bit for each name. Each level above has a bit for each word of the level
//! below, set while that word is not zero, up to a level of one word. Finding the first free name,
//! and setting or clearing one, take a step for each level: 4 for 16 million names.

/// Levels that suffice for all 32-bit names.
const LEVELS: usize = 6;

/// A set of names from 0 to its capacity, in borrowed words.
pub struct FreeMap<'a> {
    words: &'a mut [u64],
    /// Where each level starts, the lowest first.
    starts: [usize; LEVELS],
    levels: usize,
    capacity: usize,
}

impl<'a> FreeMap<'a> {
    /// How many words a map of `count` names takes.
    pub const fn words_for(count: usize) -> usize {
        let mut level = count.div_ceil(64);
        let mut words = level;
        while level > 1 {
            level = level.div_ceil(64);
            words += level;
        }
        words
    }

    /// An empty map of `count` names, or of as many as there are words for.
    pub fn new(words: &'a mut [u64], count: usize) -> Self {
        words.fill(0);
        let mut capacity = count.min(u32::MAX as usize);
        if Self::words_for(capacity) > words.len() {
            // 65 words for 64 of the lowest level, and a summary word for each level.
            capacity = words.len().saturating_sub(LEVELS).saturating_mul(62);
        }
        let mut starts = [0; LEVELS];
        let (mut levels, mut start, mut size) = (0, 0, capacity.div_ceil(64));
        for entry in &mut starts {
            *entry = start;
            levels += 1;
            start += size;
            if size <= 1 {
                break;
            }
            size = size.div_ceil(64);
        }
        Self { words, starts, levels, capacity }
    }

    /// How many names there can be.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Puts `name` into the set. Names beyond the capacity are passed over.
    pub fn set(&mut self, name: usize) {
        if name >= self.capacity {
            return;
        }
        let mut bit = name;
        for start in &self.starts[..self.levels] {
            let Some(word) = self.words.get_mut(start + bit / 64) else { return };
            let before = *word;
            *word |= 1 << (bit % 64);
            if before != 0 {
                return;
            }
            bit /= 64;
        }
    }

    /// Takes `name` out of the set.
    pub fn clear(&mut self, name: usize) {
        if name >= self.capacity {
            return;
        }
        let mut bit = name;
        for start in &self.starts[..self.levels] {
            let Some(word) = self.words.get_mut(start + bit / 64) else { return };
            *word &= !(1 << (bit % 64));
            if *word != 0 {
                return;
            }
            bit /= 64;
        }
    }

    /// The smallest name in the set.
    pub fn first_free(&self) -> Option<usize> {
        let mut index = 0;
        for start in self.starts[..self.levels].iter().rev() {
            let word = *self.words.get(start + index)?;
            if word == 0 {
                return None;
            }
            index = index * 64 + word.trailing_zeros() as usize;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, vec};

    proptest! {
        #[test]
        fn agrees_with_a_set(
            count in 0_usize..20_000,
            steps in prop::collection::vec((any::<bool>(), 0_usize..20_100), 0..200),
        ) {
            let mut words = vec![u64::MAX; FreeMap::words_for(count)];
            let mut map = FreeMap::new(&mut words, count);
            prop_assert_eq!(map.capacity(), count);
            let mut model = BTreeSet::new();
            for (insert, name) in steps {
                if insert {
                    map.set(name);
                    if name < count {
                        model.insert(name);
                    }
                } else {
                    map.clear(name);
                    model.remove(&name);
                }
                prop_assert_eq!(map.first_free(), model.first().copied());
            }
        }

        #[test]
        fn too_few_words_only_make_it_smaller(count in 0_usize..300_000, words in 0_usize..500) {
            let mut words = vec![0; words];
            let length = words.len();
            let map = FreeMap::new(&mut words, count);
            prop_assert!(FreeMap::words_for(map.capacity()) <= length);
        }
    }
}
