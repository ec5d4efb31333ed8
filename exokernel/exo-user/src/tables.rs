//! The kernel's tables, as iterators over loads.
//!
//! Nothing here is a snapshot. An entry is read word by word while the kernel goes on; where two
//! words have to agree ([`EnvEntry`]), the entry is read again until its name is the same before
//! and after.

use crate::shared;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::layout::LABEL;
use exo_abi::tables::{
    ENV_WORDS, EnvEntry, EnvWord, FilterEntry, FrameEntry, MOVE_WORDS, Move, RingEntry,
    STATISTICS_WORDS, SliceEntry, Statistics, StatisticsWord, SystemPage, SystemWord,
    TableReference,
};
use exo_abi::{EnvName, FrameNumber};

/// An entry of a table, as words.
pub trait Entry: Sized {
    /// How many words it has.
    const WORDS: usize;

    /// The entry, from a source of its words by their index.
    fn read(word: impl Fn(usize) -> u64) -> Self;
}

impl Entry for FrameEntry {
    const WORDS: usize = 2;

    fn read(word: impl Fn(usize) -> u64) -> Self {
        Self::from_words([word(0), word(1)])
    }
}

impl Entry for EnvEntry {
    const WORDS: usize = ENV_WORDS;

    fn read(word: impl Fn(usize) -> u64) -> Self {
        loop {
            let entry = environment(&word);
            if entry.name == word(EnvWord::Name as usize) {
                return entry;
            }
        }
    }
}

fn environment(word: impl Fn(usize) -> u64) -> EnvEntry {
    let field = |index: EnvWord| word(index as usize);
    let mut label = [0; LABEL];
    for (index, chunk) in label.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&word(EnvWord::Label as usize + index).to_le_bytes());
    }
    EnvEntry {
        name: field(EnvWord::Name),
        parent: field(EnvWord::Parent),
        state: field(EnvWord::State),
        end_reason: field(EnvWord::EndReason),
        end_code: field(EnvWord::EndCode),
        end_rip: field(EnvWord::EndRip),
        end_address: field(EnvWord::EndAddress),
        run_time: field(EnvWord::RunTime),
        calls: field(EnvWord::Calls),
        upcalls: field(EnvWord::Upcalls),
        exceptions: field(EnvWord::Exceptions),
        refills: field(EnvWord::Refills),
        excess: field(EnvWord::Excess),
        frames: field(EnvWord::Frames),
        frames_limit: field(EnvWord::FramesLimit),
        frames_floor: field(EnvWord::FramesFloor),
        frames_donated: field(EnvWord::FramesDonated),
        slices: field(EnvWord::Slices),
        filters: field(EnvWord::Filters),
        rings: field(EnvWord::Rings),
        asks: field(EnvWord::Asks),
        surrendered: field(EnvWord::Surrendered),
        repossessed: field(EnvWord::Repossessed),
        transfers: field(EnvWord::Transfers),
        debt: field(EnvWord::Debt),
        label,
    }
}

impl Entry for SliceEntry {
    const WORDS: usize = 1;

    fn read(word: impl Fn(usize) -> u64) -> Self {
        Self { holder: word(0) }
    }
}

impl Entry for FilterEntry {
    const WORDS: usize = 4;

    fn read(word: impl Fn(usize) -> u64) -> Self {
        Self { holder: word(0), ring: word(1), matches: word(2), dropped: word(3) }
    }
}

impl Entry for RingEntry {
    const WORDS: usize = 4;

    fn read(word: impl Fn(usize) -> u64) -> Self {
        Self { holder: word(0), slots: word(1), delivered: word(2), dropped: word(3) }
    }
}

impl Entry for Move {
    const WORDS: usize = MOVE_WORDS;

    fn read(word: impl Fn(usize) -> u64) -> Self {
        Self { time: word(0), victim: word(1), other: word(2), what: word(3), count: word(4) }
    }
}

impl Entry for Statistics {
    const WORDS: usize = STATISTICS_WORDS;

    fn read(word: impl Fn(usize) -> u64) -> Self {
        Self {
            calls: word(0),
            refused: word(1),
            exceptions: word(2),
            refills: word(3),
            upcalls: word(4),
            interrupts: word(5),
            switches: word(6),
            idle: word(7),
            received: word(8),
            unclaimed: word(9),
            sent: word(10),
            asks: word(11),
            surrendered: word(12),
            repossessed: word(13),
            created: word(14),
            ended: word(15),
            transfers: word(16),
            slice_end: word(17),
            handled: word(18),
            trapped: word(19),
        }
    }
}

/// A table of entries.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a, T> {
    words: &'a [AtomicU64],
    stride: usize,
    entries: PhantomData<fn() -> T>,
}

impl<'a, T: Entry> Table<'a, T> {
    /// The table in these words, an entry every `stride` words. A stride too small for the entry
    /// makes a table without entries.
    pub fn new(words: &'a [AtomicU64], stride: usize) -> Self {
        let words = if stride < T::WORDS { &[] } else { words };
        Self { words, stride: stride.max(1), entries: PhantomData }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.words.len() / self.stride
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry with this index.
    pub fn get(&self, index: usize) -> Option<T> {
        let first = index.checked_mul(self.stride)?;
        let words = self.words.get(first..first.checked_add(self.stride)?)?;
        Some(T::read(|word| words[word].load(Ordering::Relaxed)))
    }

    /// One word of every entry.
    fn column(&self, word: usize) -> impl Iterator<Item = u64> + use<'a, T> {
        self.words.chunks_exact(self.stride).map(move |entry| entry[word].load(Ordering::Relaxed))
    }

    /// The entries, each with its index.
    pub fn iter(&self) -> impl Iterator<Item = (usize, T)> + use<'a, T> {
        let Self { words, stride, .. } = *self;
        words
            .chunks_exact(stride)
            .map(|words| T::read(|word| words[word].load(Ordering::Relaxed)))
            .enumerate()
    }
}

/// The first page: the time, the machine's size, where the tables are.
pub fn system() -> SystemPage {
    read_system(shared::system())
}

fn read_system(words: &[AtomicU64]) -> SystemPage {
    let load = |index: usize| words[index].load(Ordering::Relaxed);
    let word = |word: SystemWord| load(word as usize);
    let reference = |first: SystemWord| TableReference {
        address: word(first),
        count: load(first as usize + 1),
        entry_size: load(first as usize + 2),
    };
    SystemPage {
        magic: word(SystemWord::Magic),
        version: word(SystemWord::Version),
        time: word(SystemWord::Time),
        tsc_frequency: word(SystemWord::TscFrequency),
        tsc_boot: word(SystemWord::TscBoot),
        slice: word(SystemWord::Slice),
        cpus: word(SystemWord::Cpus),
        positions: word(SystemWord::Positions),
        frames_total: word(SystemWord::FramesTotal),
        frames_free: word(SystemWord::FramesFree),
        donation_minimum: word(SystemWord::DonationMinimum),
        link_address: word(SystemWord::LinkAddress),
        statistics: reference(SystemWord::Statistics),
        environments: reference(SystemWord::Environments),
        slices: reference(SystemWord::Slices),
        filters: reference(SystemWord::Filters),
        rings: reference(SystemWord::Rings),
        moves: reference(SystemWord::Moves),
        frames: reference(SystemWord::Frames),
        moves_count: word(SystemWord::MovesCount),
    }
}

fn table<T: Entry>(reference: TableReference) -> Table<'static, T> {
    let stride = (reference.entry_size / 8) as usize;
    Table::new(shared::table(reference.address, reference.count as usize * stride), stride)
}

/// The frames, indexed by number.
pub fn frames() -> Table<'static, FrameEntry> {
    table(system().frames)
}

/// The environments, indexed by slot.
pub fn environments() -> Table<'static, EnvEntry> {
    table(system().environments)
}

/// The slices: the positions of each CPU in turn.
pub fn slices() -> Table<'static, SliceEntry> {
    table(system().slices)
}

/// The filters, indexed by id.
pub fn filters() -> Table<'static, FilterEntry> {
    table(system().filters)
}

/// The rings, indexed by id.
pub fn rings() -> Table<'static, RingEntry> {
    table(system().rings)
}

/// The latest moves of resources; number `n` is in entry `n % len`.
pub fn moves() -> Table<'static, Move> {
    table(system().moves)
}

/// The kernel's counters, an entry for each CPU.
pub fn counters() -> Table<'static, Statistics> {
    table(system().statistics)
}

/// The kernel's counters, all CPUs together, and the end of the slice that ends last.
pub fn statistics() -> Statistics {
    let counters = counters();
    let slice_end = counters.column(StatisticsWord::SliceEnd as usize).max().unwrap_or(0);
    Statistics { slice_end, ..Statistics::read(|word| counters.column(word).sum()) }
}

/// The entry of an environment, unless its slot is somebody else's by now.
pub fn environment_named(name: EnvName) -> Option<EnvEntry> {
    environments().get(name.index()).filter(|entry| entry.name == name.0)
}

/// How many nanoseconds an environment has run; 0 if its slot is somebody else's by now.
pub fn run_time(name: EnvName) -> u64 {
    environment_named(name).map_or(0, |entry| entry.run_time)
}

/// The label of an environment.
pub fn label(entry: &EnvEntry) -> &str {
    text(&entry.label)
}

/// A label as text, without the zeros behind it and from its first byte on that is no text.
pub fn text(label: &[u8; LABEL]) -> &str {
    let bytes = label.split(|&byte| byte == 0).next().unwrap_or(&[]);
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}

/// The frame behind a page of the caller's, which is bound and has just been touched: from the
/// caller's own hardware page table.
pub fn frame_behind(page: u64) -> Option<FrameNumber> {
    let entry = shared::page_table_entry(page).load(Ordering::Relaxed);
    let frame = entry >> 12 & 0xff_ffff_ffff;
    (entry & 1 != 0).then_some(FrameNumber(frame as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::cell::Cell;
    use core::mem::offset_of;

    fn words(values: &[u64]) -> Vec<AtomicU64> {
        values.iter().map(|&value| AtomicU64::new(value)).collect()
    }

    #[test]
    fn a_table_has_the_entries_that_its_stride_says() {
        let memory = words(&[1, 0, 2, 0, 3, 0, 4]);
        let table = Table::<SliceEntry>::new(&memory, 2);
        assert_eq!(table.len(), 3);
        assert_eq!(table.get(2), Some(SliceEntry { holder: 3 }));
        assert_eq!(table.get(3), None);
        assert_eq!(table.get(usize::MAX), None);
        assert_eq!(table.iter().map(|(_, slice)| slice.holder).sum::<u64>(), 6);
        assert!(Table::<FrameEntry>::new(&memory, 1).is_empty(), "a stride too small");
    }

    #[test]
    fn the_system_page_is_read_where_its_fields_are() {
        let memory = words(&(0..size_of::<SystemPage>() as u64 / 8).collect::<Vec<_>>());
        let page = read_system(&memory);
        assert_eq!(page.link_address, offset_of!(SystemPage, link_address) as u64 / 8);
        assert_eq!(page.frames.address, offset_of!(SystemPage, frames) as u64 / 8);
        assert_eq!(page.statistics.address, offset_of!(SystemPage, statistics) as u64 / 8);
        assert_eq!(page.moves_count + 1, memory.len() as u64);
    }

    #[test]
    fn entries_are_read_where_their_fields_are() {
        let environment = EnvEntry::read(|word| word as u64);
        assert_eq!(environment.repossessed, offset_of!(EnvEntry, repossessed) as u64 / 8);
        assert_eq!(environment.label[0], (offset_of!(EnvEntry, label) / 8) as u8);
        let statistics = Statistics::read(|word| word as u64);
        assert_eq!(statistics.ended, offset_of!(Statistics, ended) as u64 / 8);
        assert_eq!(statistics.asks, offset_of!(Statistics, asks) as u64 / 8);
    }

    #[test]
    fn an_environment_that_changes_under_the_reader_is_read_again() {
        let loads = Cell::new(0);
        let entry = EnvEntry::read(|word| {
            loads.set(loads.get() + 1);
            let second_life = loads.get() > 10;
            if word == 0 || word == 7 { 5 + u64::from(second_life) } else { 0 }
        });
        assert_eq!((entry.name, entry.run_time), (6, 6));
    }

    #[test]
    fn labels_end_at_the_first_zero() {
        let mut entry = EnvEntry { label: *b"web\0aaaaaaaaaaaa", ..Default::default() };
        assert_eq!(label(&entry), "web");
        entry.label = *b"0123456789abcdef";
        assert_eq!(label(&entry), "0123456789abcdef");
        entry.label = *b"ab\xffcdefghijklmno";
        assert_eq!(label(&entry), "ab");
    }
}
