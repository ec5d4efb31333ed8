//! The hash table that the filters of every shape share, in memory that the caller passes.
//!
//! One writer changes it while any number of readers look things up, who never wait. It is an
//! array of cache lines: keys and constants, then one word for each bucket, then the slots, five
//! for a bucket. The word of a bucket has a tag for each slot: eleven bits of the hash of the filter
//! that is in it, never zero, or zero for a free slot; its highest bit is clear if there are filters
//! that found the bucket full and are in a later one. So a look-up that finds nothing mostly reads
//! one word. A slot has a head (version, shape, id), then the words of a filter. How many filters
//! passed a bucket is counted behind the slots, for the writer.
//!
//! The hash is multilinear, `seed + sum(key * word)` modulo 2^64 with secret keys, whose upper half is
//! strongly universal (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): whoever
//! does not know the keys cannot make filters meet more often than chance does. That is said of any
//! two. Words in a row make sums in a row, which one key in a hundred puts into a few buckets; so the
//! upper half is that of the square of the sum.
//!
//! What readers rely on:
//! 1. A filter never moves: it stays in its slot until it is removed.
//! 2. The words of a slot change only while its head says that it is free, and each time they do
//!    the head's version goes up. A reader takes what it found only if the head is still the same
//!    after it has compared the words; if not, the filter that it met came or went meanwhile.
//! 3. A bucket that a filter passed says so before the filter is in its slot, and until after it has
//!    left it.
//! 4. No filter passes the last bucket, so a look-up ends there at the latest.

use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::filter::{MAX_ATOMS, Words};

/// One line of the memory of a [`FilterSet`](crate::FilterSet).
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Line([AtomicU64; 8]);

impl Line {
    pub(crate) const BYTES: u32 = 64;
}

/// How many secret words a set wants: one for each place of an atom, one for the shape, a seed.
pub const SECRET: usize = MAX_ATOMS + 2;

/// How many buckets a filter may be in, from its first one on.
const PATH: u64 = 8;
/// The slots of a bucket.
const WAYS: u64 = 5;
/// The bits of the word of a bucket for each: a tag, and one that is clear.
const LANE: u64 = 12;
const TAG: u64 = (1 << (LANE - 1)) - 1;
/// The lowest bit of each lane.
const LANES: u64 = 0x0001_0010_0100_1001;
/// What carries into the highest bit of a lane that is not zero.
const FILL: u64 = LANES * TAG;
/// In the word of a bucket: nobody passed.
const LAST: u64 = 1 << 63;
/// The highest bits of the lanes, and that one.
const HIGHS: u64 = LANES << (LANE - 1) | LAST;
/// The lines of keys and constants.
const HEAD_LINES: u64 = 3;
/// The bits of a slot's head that hold the id; above them are 8 with the shape.
pub(crate) const ID: u32 = 0xff_ffff;
/// In place of a shape: the slot is free.
pub(crate) const FREE: u8 = 0xff;

/// Where emitted code finds what it needs, in bytes from the first line.
pub(crate) mod layout {
    use super::{HEAD_LINES, Line};

    /// How many buckets paths begin in.
    pub(crate) const HOMES: u32 = 2 * Line::BYTES;
    pub(crate) const LANES: u32 = HOMES + 8;
    pub(crate) const FILL: u32 = HOMES + 16;
    pub(crate) const HIGHS: u32 = HOMES + 24;
    pub(crate) const HEADERS: u32 = HEAD_LINES as u32 * Line::BYTES;
    pub(crate) const TAG: u32 = super::TAG as u32;
    pub(crate) const WAYS: u32 = super::WAYS as u32;
    /// `bit * STEP >> SHIFT` is the lane of a bit.
    pub(crate) const STEP: u8 = 43;
    pub(crate) const SHIFT: u8 = 9;
}

/// The number of lines for so many filters: the slots are twice as many, or a little more.
pub const fn lines_for(filters: usize) -> usize {
    let buckets = filters as u64 * 2 / WAYS + 2 * PATH;
    (HEAD_LINES + 2 + buckets.div_ceil(8) + buckets * WAYS + buckets.div_ceil(64)) as usize
}

/// The table, as its one writer sees it.
pub(crate) struct Table<'m> {
    lines: &'m [Line],
    buckets: u64,
}

impl<'m> Table<'m> {
    /// An empty table in these lines, whatever they hold.
    pub(crate) fn new(lines: &'m [Line], secret: &[u64; SECRET]) -> Self {
        lines.iter().flat_map(|line| &line.0).for_each(|word| word.store(0, Relaxed));
        let room = (lines.len() as u64).min(1 << 24).saturating_sub(HEAD_LINES + 2);
        let buckets = room * 64 / (64 * WAYS + 8 + 1);
        let constants = [buckets.saturating_sub(PATH), LANES, FILL, HIGHS];
        let head = lines.iter().flat_map(|line| &line.0);
        for (word, value) in head.zip(secret.iter().chain(&constants)) {
            word.store(*value, Relaxed);
        }
        let table = Table { lines, buckets };
        (0..buckets).filter_map(|b| table.header(b)).for_each(|word| word.store(LAST, Relaxed));
        (0..buckets * WAYS).for_each(|slot| table.set_head(slot, u64::from(FREE) << 24));
        table
    }

    /// The first line, for emitted code.
    pub(crate) fn start(&self) -> *const Line {
        self.lines.as_ptr()
    }

    /// Where the slots are, in bytes from the first line.
    pub(crate) fn slots_offset(&self) -> u32 {
        self.first_slot() as u32 * Line::BYTES
    }

    /// What the sum of a hash starts with, for a shape.
    pub(crate) fn seed(&self, shape: u8) -> u64 {
        let key = |place| self.word(place).map_or(0, |word| word.load(Relaxed));
        key(SECRET as u64 - 1)
            .wrapping_add(key(SECRET as u64 - 2).wrapping_mul(u64::from(shape) + 1))
    }

    /// What a word adds to the sum of a hash.
    pub(crate) fn term(&self, place: usize, word: u32) -> u64 {
        let key = self.word(place as u64).map_or(0, |word| word.load(Relaxed));
        key.wrapping_mul(u64::from(word))
    }

    /// The id of the filter of this shape with these words.
    pub(crate) fn find(&self, shape: u8, words: &Words) -> Option<u32> {
        let (home, tag) = self.home(shape, words);
        for bucket in home..self.buckets {
            let header = self.header(bucket)?.load(Acquire);
            let mut tagged = (0..WAYS).filter(|way| header >> (LANE * way) & TAG == tag);
            let found = tagged.find_map(|way| self.read(bucket * WAYS + way, shape, words));
            if found.is_some() || header & LAST != 0 {
                return found;
            }
        }
        None
    }

    /// Puts a filter in that is not there; its slot, or `None` if there is no room on its path.
    pub(crate) fn insert(&self, shape: u8, words: &Words, id: u32) -> Option<u32> {
        let (home, tag) = self.home(shape, words);
        for bucket in home..(home + PATH).min(self.buckets) {
            let header = self.header(bucket)?.load(Relaxed);
            let free = (0..WAYS).find(|way| header >> (LANE * way) & TAG == 0);
            let Some(way) = free else { continue };
            self.pass(home..bucket, 1);
            let slot = bucket * WAYS + way;
            self.fill(slot, shape, words, id);
            self.header(bucket)?.store(header | tag << (LANE * way), Release);
            return u32::try_from(slot).ok();
        }
        None
    }

    /// Takes out what is in a slot.
    pub(crate) fn remove(&self, slot: u32) {
        let slot = u64::from(slot);
        let bucket = slot / WAYS;
        let (Some(header), Some((shape, words))) = (self.header(bucket), self.content(slot)) else {
            return;
        };
        let tags = header.load(Relaxed) & !(TAG << (LANE * (slot % WAYS)));
        header.store(tags, Release);
        let version = self.head(slot) >> 32;
        self.set_head(slot, (version + 1) << 32 | u64::from(FREE) << 24);
        self.pass(self.home(shape, &words).0..bucket, u8::MAX);
    }

    /// The shape and words in a slot.
    pub(crate) fn content(&self, slot: impl Into<u64>) -> Option<(u8, Words)> {
        let slot = slot.into();
        let line = self.slot(slot)?;
        Some(((line.head() >> 24) as u8, core::array::from_fn(|place| line.word(place))))
    }

    fn hash(&self, shape: u8, words: &Words) -> u32 {
        let terms = words.iter().enumerate().map(|(place, word)| self.term(place, *word));
        let sum = terms.fold(self.seed(shape), u64::wrapping_add);
        (sum.wrapping_mul(sum) >> 32) as u32
    }

    /// The bucket where a filter's path begins, and its tag.
    fn home(&self, shape: u8, words: &Words) -> (u64, u64) {
        let hash = u64::from(self.hash(shape, words));
        ((hash * self.buckets.saturating_sub(PATH)) >> 32, (hash & TAG).max(1))
    }

    /// Counts a filter in or out of the buckets that it passes. The counts fit: at most
    /// `PATH * WAYS` filters can pass a bucket.
    fn pass(&self, buckets: Range<u64>, change: u8) {
        for bucket in buckets {
            let (counts, place) = (self.count(bucket), (bucket % 8) as usize);
            let (Some(counts), Some(header)) = (counts, self.header(bucket)) else { continue };
            let mut bytes = counts.load(Relaxed).to_le_bytes();
            bytes[place] = bytes[place].wrapping_add(change);
            counts.store(u64::from_le_bytes(bytes), Relaxed);
            let tags = header.load(Relaxed) & !LAST;
            header.store(if bytes[place] == 0 { tags | LAST } else { tags }, Release);
        }
    }

    /// The id in a slot, if this filter is in it and stays in it meanwhile.
    fn read(&self, slot: u64, shape: u8, words: &Words) -> Option<u32> {
        let line = self.slot(slot)?;
        let head = line.head();
        let same = (head >> 24) as u8 == shape
            && words.iter().enumerate().all(|(place, word)| line.word(place) == *word);
        (same && line.head() == head).then_some(head as u32 & ID)
    }

    /// Fills a free slot.
    fn fill(&self, slot: u64, shape: u8, words: &Words, id: u32) {
        let Some(line) = self.slot(slot) else { return };
        let pairs = words.chunks_exact(2);
        for (place, pair) in line.0.iter().skip(1).zip(pairs) {
            let pair = pair.iter().rev().fold(0, |both, word| both << 32 | u64::from(*word));
            place.store(pair, Release);
        }
        let version = (self.head(slot) >> 32) + 1;
        self.set_head(slot, version << 32 | u64::from(shape) << 24 | u64::from(id & ID));
    }

    fn head(&self, slot: u64) -> u64 {
        self.slot(slot).map_or(0, Line::head)
    }

    fn set_head(&self, slot: u64, head: u64) {
        if let Some([word, ..]) = self.slot(slot).map(|line| &line.0) {
            word.store(head, Release);
        }
    }

    fn first_slot(&self) -> u64 {
        HEAD_LINES + self.buckets.div_ceil(8)
    }

    fn count(&self, bucket: u64) -> Option<&'m AtomicU64> {
        self.word(8 * (self.first_slot() + WAYS * self.buckets) + bucket / 8)
    }

    fn slot(&self, slot: u64) -> Option<&'m Line> {
        self.lines.get((self.first_slot() + slot) as usize)
    }

    fn header(&self, bucket: u64) -> Option<&'m AtomicU64> {
        self.word(8 * HEAD_LINES + bucket)
    }

    fn word(&self, place: u64) -> Option<&'m AtomicU64> {
        self.lines.get((place / 8) as usize)?.0.get((place % 8) as usize)
    }
}

impl Line {
    fn head(&self) -> u64 {
        self.0[0].load(Acquire)
    }

    /// One of the words of a filter, of which there are two in each of ours.
    fn word(&self, place: usize) -> u32 {
        let both = self.0.get(1 + place / 2).map_or(0, |word| word.load(Acquire));
        (both >> (32 * (place % 2))) as u32
    }
}
