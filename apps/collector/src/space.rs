//! A space: words on whole pages, handed out from one end to the other.

use crate::word::Word;
use alloc::vec::Vec;
use core::ops::Range;
use libos_posix::memory::PAGE_SIZE;

/// The words of a page.
pub(crate) const PAGE_WORDS: usize = PAGE_SIZE / size_of::<Word>();

#[derive(Clone)]
#[repr(align(4096))]
struct Page([Word; PAGE_WORDS]);

/// Pages come as they are needed; none is touched before.
pub(crate) struct Space {
    pages: Vec<Page>,
    /// The first word that was not handed out. The first of all never is.
    top: usize,
}

impl Space {
    pub(crate) fn new(pages: usize) -> Self {
        Self { pages: Vec::with_capacity(pages), top: 1 }
    }

    /// The addresses that it may come to use.
    pub(crate) fn addresses(&self) -> Range<u64> {
        let start = self.pages.as_ptr() as u64;
        start..start + (self.pages.capacity() * PAGE_SIZE) as u64
    }

    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// Whether there is room for so many words.
    pub(crate) fn has_room(&self, words: usize) -> bool {
        self.top + words <= self.pages.capacity() * PAGE_WORDS
    }

    /// Hands words out, all of them nil, and returns the first. There is room for them.
    pub(crate) fn take(&mut self, words: usize) -> usize {
        let first = self.top;
        self.top += words;
        self.pages.resize(self.pages.len().max(self.used_pages()), Page([Word::NIL; PAGE_WORDS]));
        first
    }

    /// Takes everything back that was handed out.
    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.top = 1;
    }

    /// The pages on which something was handed out.
    pub(crate) fn used_pages(&self) -> usize {
        self.top.div_ceil(PAGE_WORDS)
    }

    pub(crate) fn get(&self, index: usize) -> Word {
        self.pages[index / PAGE_WORDS].0[index % PAGE_WORDS]
    }

    pub(crate) fn set(&mut self, index: usize, word: Word) {
        self.pages[index / PAGE_WORDS].0[index % PAGE_WORDS] = word;
    }
}
