//! Where the contents of pages are while they are not in a frame of their own.

use crate::memory::page_table::CopyName;
use crate::memory::resident::HeldFrame;
use core::fmt;
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

/// The bytes of a page.
pub type PageBytes = [u8; PAGE_SIZE];

/// The size of a page in bytes.
pub const PAGE_SIZE: usize = exo_user::abi::name::PAGE_SIZE as usize;

/// Why a copy cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyLost;

/// A place outside the resident set, to which dirty pages go and from which they come back.
///
/// Saving has two steps, so that a store which lives in memory can be given more of it in between,
/// when memory is short already: [`stage`](BackingStore::stage) reads the page, after which its
/// frame is no longer needed, and [`commit`](BackingStore::commit) keeps what was staged.
///
/// It runs inside handlers: it must not touch the paged heap.
pub trait BackingStore {
    /// Takes in the contents of a page. What was staged before is forgotten.
    fn stage(&mut self, page: &PageBytes);

    /// Keeps what was staged. `None`: there is no room; nothing is forgotten.
    fn commit(&mut self) -> Option<CopyName>;

    /// Brings a copy back. It stays in the store.
    ///
    /// # Errors
    /// [`CopyLost`]: the memory that it was in was repossessed.
    fn load(&mut self, copy: CopyName, page: &mut PageBytes) -> Result<(), CopyLost>;

    /// Forgets a copy.
    fn discard(&mut self, copy: CopyName);

    /// The number of the block of memory that the store could use next. `None`: it wants no more.
    fn wanted_block(&self) -> Option<u32>;

    /// Gives the store memory for the block that it wanted: a frame, and where it can be reached.
    /// What is staged fits then.
    fn add_block(&mut self, block: u32, frame: HeldFrame, memory: &'static mut PageBytes);

    /// Takes back a block in which nothing is kept.
    fn take_block(&mut self) -> Option<(u32, HeldFrame)>;

    /// Says that the frame behind a block is gone. Copies that were in it are lost.
    fn lose_block(&mut self, block: u32);

    /// The blocks that the store has, and their frames.
    fn blocks(&self) -> impl Iterator<Item = (u32, HeldFrame)> + '_;
}

/// The pieces in which compressed pages are kept, in bytes.
const CELL: usize = 128;
/// The cells of a block.
const CELLS: usize = PAGE_SIZE / CELL;
/// What precedes a page's compressed bytes: their length.
const PREFIX: usize = 2;
/// The most bytes that a compressed page can have, prefix included. A page that needs more stands
/// as it is in a whole block's worth of cells.
const COMPRESSED: usize = PAGE_SIZE - CELL;
/// What the compressor may write before it knows.
const STAGED: usize = PREFIX + get_maximum_output_size(PAGE_SIZE);
/// The end of a chain of cells.
const END: u32 = u32::MAX;

/// One frame of compressed pages. What it holds is the store's own affair.
#[derive(Debug)]
pub struct Block {
    memory: Option<(HeldFrame, &'static mut PageBytes)>,
    /// A bit for each cell that is taken.
    taken: u32,
    /// For each cell that is taken, the cell after it.
    next: [u32; CELLS],
}

impl Block {
    /// A block without memory.
    pub const EMPTY: Self = Self { memory: None, taken: 0, next: [END; CELLS] };
}

/// The working memory of a [`Compressed`] store.
pub struct Workspace {
    table: CompressTable,
    staged: [u8; STAGED],
    length: usize,
}

impl Workspace {
    /// An empty workspace.
    pub const EMPTY: Self = Self { table: CompressTable::small(), staged: [0; STAGED], length: 0 };
}

/// Compressed memory.
///
/// A page becomes a chain of cells of 128 bytes, wherever cells are free, the lowest block first.
/// So there are no holes that are too small, and the last blocks empty themselves in the course of
/// time and can be given back. The links are kept apart from the cells: losing a block loses the
/// copies in it and no more.
pub struct Compressed<'a> {
    blocks: &'a mut [Block],
    work: &'a mut Workspace,
    free_cells: usize,
    /// No block below this has both memory and a free cell.
    first_free: usize,
}

impl fmt::Debug for Compressed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressed").field("free_cells", &self.free_cells).finish_non_exhaustive()
    }
}

impl<'a> Compressed<'a> {
    /// An empty store that can grow to as many blocks as there are.
    pub fn new(blocks: &'a mut [Block], work: &'a mut Workspace) -> Self {
        blocks.fill_with(|| Block::EMPTY);
        Self { blocks, work, free_cells: 0, first_free: 0 }
    }

    /// Takes the lowest free cell.
    fn take_cell(&mut self) -> Option<u32> {
        while let Some(block) = self.blocks.get_mut(self.first_free) {
            let cell = block.taken.trailing_ones();
            if block.memory.is_some() && cell < CELLS as u32 {
                block.taken |= 1 << cell;
                self.free_cells -= 1;
                return Some(self.first_free as u32 * CELLS as u32 + cell);
            }
            self.first_free += 1;
        }
        None
    }

    fn cell(&mut self, name: u32) -> Option<&mut [u8; CELL]> {
        let (_, memory) = self.blocks.get_mut(name as usize / CELLS)?.memory.as_mut()?;
        memory.as_chunks_mut().0.get_mut(name as usize % CELLS)
    }

    fn next(&mut self, name: u32) -> Option<&mut u32> {
        let block = self.blocks.get_mut(name as usize / CELLS)?;
        let cell = name as usize % CELLS;
        if block.taken & 1 << cell == 0 { None } else { block.next.get_mut(cell) }
    }

    /// Brings the cells of a copy together, and returns their length in bytes.
    fn gather(&mut self, copy: CopyName) -> Result<usize, CopyLost> {
        let mut name = copy.0;
        let mut length = 0;
        while name != END {
            let cell = *self.cell(name).ok_or(CopyLost)?;
            let place = self.work.staged.get_mut(length..length + CELL).ok_or(CopyLost)?;
            place.copy_from_slice(&cell);
            length += CELL;
            name = *self.next(name).ok_or(CopyLost)?;
        }
        self.work.length = 0;
        Ok(length)
    }
}

impl BackingStore for Compressed<'_> {
    fn stage(&mut self, page: &PageBytes) {
        let Workspace { table, staged, length } = &mut *self.work;
        let (prefix, bytes) = staged.split_at_mut(PREFIX);
        match compress_into_with_table(page, bytes, table) {
            Ok(size) if PREFIX + size <= COMPRESSED => {
                prefix.copy_from_slice(&(size as u16).to_le_bytes());
                *length = PREFIX + size;
            }
            _ => {
                staged[..PAGE_SIZE].copy_from_slice(page);
                *length = PAGE_SIZE;
            }
        }
    }

    fn commit(&mut self) -> Option<CopyName> {
        let count = self.work.length.div_ceil(CELL);
        if count == 0 || count > self.free_cells {
            return None;
        }
        let mut after = END;
        for part in (0..count).rev() {
            let name = self.take_cell()?;
            *self.next(name)? = after;
            after = name;
            let end = self.work.length.min((part + 1) * CELL);
            let mut bytes = [0; CELL];
            let source = &self.work.staged[part * CELL..end];
            bytes[..source.len()].copy_from_slice(source);
            *self.cell(name)? = bytes;
        }
        self.work.length = 0;
        Some(CopyName(after))
    }

    fn load(&mut self, copy: CopyName, page: &mut PageBytes) -> Result<(), CopyLost> {
        if self.gather(copy)? == PAGE_SIZE {
            page.copy_from_slice(&self.work.staged[..PAGE_SIZE]);
            return Ok(());
        }
        let (prefix, bytes) = self.work.staged.split_at(PREFIX);
        let size = usize::from(u16::from_le_bytes([prefix[0], prefix[1]]));
        let bytes = bytes.get(..size).ok_or(CopyLost)?;
        match decompress_into(bytes, page) {
            Ok(PAGE_SIZE) => Ok(()),
            _ => Err(CopyLost),
        }
    }

    fn discard(&mut self, copy: CopyName) {
        let mut name = copy.0;
        while let Some(next) = self.next(name) {
            let next = core::mem::replace(next, END);
            let index = name as usize / CELLS;
            self.blocks[index].taken &= !(1 << (name as usize % CELLS));
            if self.blocks[index].memory.is_some() {
                self.free_cells += 1;
                self.first_free = self.first_free.min(index);
            }
            name = next;
        }
    }

    fn wanted_block(&self) -> Option<u32> {
        let free = |block: &Block| block.memory.is_none() && block.taken == 0;
        self.blocks.iter().position(free).map(|index| index as u32)
    }

    fn add_block(&mut self, block: u32, frame: HeldFrame, memory: &'static mut PageBytes) {
        let index = block as usize;
        if let Some(block) = self.blocks.get_mut(index) {
            block.memory = Some((frame, memory));
            self.free_cells += CELLS;
            self.first_free = self.first_free.min(index);
        }
    }

    fn take_block(&mut self) -> Option<(u32, HeldFrame)> {
        if self.free_cells < CELLS {
            return None;
        }
        let empty = |block: &Block| block.memory.is_some() && block.taken == 0;
        let index = self.blocks.iter().rposition(empty)?;
        let (frame, _) = self.blocks[index].memory.take()?;
        self.free_cells -= CELLS;
        Some((index as u32, frame))
    }

    fn lose_block(&mut self, block: u32) {
        if let Some(block) = self.blocks.get_mut(block as usize)
            && block.memory.take().is_some()
        {
            self.free_cells -= block.taken.count_zeros() as usize;
        }
    }

    fn blocks(&self) -> impl Iterator<Item = (u32, HeldFrame)> + '_ {
        let frames = self.blocks.iter().map(|block| block.memory.as_ref());
        (0..).zip(frames).filter_map(|(index, memory)| Some((index, memory?.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_user::FrameNumber;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn store(blocks: usize) -> Compressed<'static> {
        let blocks = (0..blocks).map(|_| Block::EMPTY).collect::<Vec<_>>().leak();
        Compressed::new(blocks, Box::leak(Box::new(Workspace::EMPTY)))
    }

    fn grow(store: &mut Compressed<'_>) -> bool {
        let Some(block) = store.wanted_block() else { return false };
        let frame = HeldFrame { number: FrameNumber(block + 100), generation: 1 };
        store.add_block(block, frame, Box::leak(Box::new([0xaa; PAGE_SIZE])));
        true
    }

    /// A page that compresses to about `noise` bytes.
    fn page(seed: u64, noise: usize) -> PageBytes {
        let mut state = seed | 1;
        let mut page = [seed as u8; PAGE_SIZE];
        for byte in &mut page[..noise] {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        page
    }

    fn save(store: &mut Compressed<'_>, page: &PageBytes) -> Option<CopyName> {
        store.stage(page);
        loop {
            match store.commit() {
                Some(copy) => return Some(copy),
                None if grow(store) => {}
                None => return None,
            }
        }
    }

    #[test]
    fn pages_come_back_however_well_they_compress() {
        let mut store = store(64);
        let pages: Vec<_> = (0..=32).map(|part| page(part, part as usize * 128)).collect();
        let copies: Vec<_> = pages.iter().map(|page| save(&mut store, page).unwrap()).collect();
        let mut back = [0; PAGE_SIZE];
        for (page, copy) in pages.iter().zip(&copies) {
            store.load(*copy, &mut back).unwrap();
            assert!(*page == back);
        }
        for copy in copies {
            store.discard(copy);
        }
        while store.take_block().is_some() {}
        assert_eq!(store.blocks().count(), 0, "every cell was free again");
        assert_eq!(store.free_cells, 0);
    }

    #[test]
    fn many_regular_pages_fit_in_one_block() {
        let mut store = store(1);
        let count = (0..).take_while(|&seed| save(&mut store, &page(seed, 64)).is_some()).count();
        assert!(count >= 15, "{count}");
    }

    #[test]
    fn a_full_store_forgets_nothing() {
        let mut store = store(1);
        let first = save(&mut store, &page(1, PAGE_SIZE)).unwrap();
        assert_eq!(save(&mut store, &page(2, PAGE_SIZE)), None);
        let mut back = [0; PAGE_SIZE];
        store.load(first, &mut back).unwrap();
        assert!(back == page(1, PAGE_SIZE));
    }

    #[test]
    fn a_lost_block_loses_its_copies_alone() {
        let mut store = store(8);
        let copies: Vec<_> =
            (0..6).map(|seed| save(&mut store, &page(seed, 2048)).unwrap()).collect();
        // The first is full, the last is not.
        store.lose_block(0);
        store.lose_block(3);
        let mut back = [0; PAGE_SIZE];
        let lost: Vec<_> =
            copies.iter().map(|&copy| store.load(copy, &mut back).is_err()).collect();
        assert_eq!(lost, [true, true, false, false, false, true]);
        for copy in copies {
            store.discard(copy);
        }
        while store.take_block().is_some() {}
        assert_eq!((store.free_cells, store.wanted_block()), (0, Some(0)));
    }

    proptest! {
        #[test]
        fn the_store_is_a_map(steps in proptest::collection::vec((0u8..8, 0u64..50, 0usize..PAGE_SIZE), 1..120)) {
            let mut store = store(24);
            let mut model = BTreeMap::new();
            for (action, key, noise) in steps {
                let taken = model.keys().nth(key as usize % model.len().max(1)).copied();
                match (action, taken) {
                    (0..4, _) => {
                        if let Some(copy) = save(&mut store, &page(key, noise)) {
                            prop_assert!(model.insert(copy, page(key, noise)).is_none());
                        }
                    }
                    (4..7, Some(copy)) => {
                        store.discard(copy);
                        model.remove(&copy);
                    }
                    (7, _) => { store.take_block(); }
                    _ => {}
                }
                let mut back = [0; PAGE_SIZE];
                for (copy, page) in &model {
                    prop_assert_eq!(store.load(*copy, &mut back), Ok(()));
                    prop_assert!(back == *page);
                }
            }
        }
    }
}
