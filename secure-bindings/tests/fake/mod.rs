//! A machine made of plain memory, with one CPU whose translation cache forgets nothing that it
//! is not told to forget: a missing flush shows.

#![allow(dead_code, reason = "each test uses what it needs")]

use exo_abi::FrameNumber;
use secure_bindings::{FrameMemory, Page, TranslationCache};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;

/// What a program does to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
    /// Executes it.
    Fetch,
}

/// What the CPU knows of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Translation {
    /// The frame behind it.
    pub(crate) frame: FrameNumber,
    /// Whether programs may write it.
    pub(crate) writable: bool,
    /// Whether programs may execute it.
    pub(crate) executable: bool,
    /// Whether the leaf entry is marked as written.
    pub(crate) dirty: bool,
}

impl Translation {
    fn allows(self, access: Access) -> bool {
        match access {
            Access::Read => true,
            Access::Write => self.writable,
            Access::Fetch => self.executable,
        }
    }
}

/// Memory and the translation cache.
pub(crate) struct FakeMachine {
    pages: Vec<Page>,
    cached: RefCell<HashMap<(FrameNumber, u64), Translation>>,
    /// A planted bug: flushes of pages are not heard.
    pub(crate) deaf_to_pages: Cell<bool>,
    /// A planted bug: flushes of spaces are not heard.
    pub(crate) deaf_to_spaces: Cell<bool>,
    /// How many flushes of either sort were asked for.
    pub(crate) flushes: Cell<u64>,
}

impl FakeMachine {
    /// A machine with `frames` frames full of garbage.
    pub(crate) fn new(frames: usize) -> Self {
        let page = || std::array::from_fn(|word| AtomicU64::new(0xdead_0007 + word as u64));
        Self {
            pages: (0..frames).map(|_| page()).collect(),
            cached: RefCell::default(),
            deaf_to_pages: Cell::new(false),
            deaf_to_spaces: Cell::new(false),
            flushes: Cell::new(0),
        }
    }

    /// The leaf entry of an address and what the levels together allow a program, as the hardware
    /// walks the tables. Changes nothing.
    pub(crate) fn walk(
        &self,
        root: FrameNumber,
        address: u64,
    ) -> Option<(&AtomicU64, Translation)> {
        let (mut table, mut writable, mut executable) = (root, true, true);
        for level in (0..4).rev() {
            let entry = &self.page(table)[(address >> (12 + 9 * level)) as usize & 511];
            let value = entry.load(Relaxed);
            if value & (PRESENT | USER) != PRESENT | USER {
                return None;
            }
            writable &= value & WRITE != 0;
            executable &= value & NO_EXECUTE == 0;
            table = FrameNumber(((value & 0x000f_ffff_ffff_f000) >> 12) as u32);
            if level == 0 {
                let dirty = value & DIRTY != 0;
                return Some((entry, Translation { frame: table, writable, executable, dirty }));
            }
        }
        None
    }

    /// What happens when a program touches the address: the frame, or a fault.
    pub(crate) fn touch(
        &self,
        root: FrameNumber,
        address: u64,
        access: Access,
    ) -> Option<FrameNumber> {
        let key = (root, address & !0xfff);
        if let Some(&known) = self.cached.borrow().get(&key)
            && known.allows(access)
            && (access != Access::Write || known.dirty)
        {
            return Some(known.frame);
        }
        // A fault, or a first write: the hardware forgets the page and walks again.
        self.cached.borrow_mut().remove(&key);
        let (entry, mut found) = self.walk(root, address)?;
        if !found.allows(access) {
            return None;
        }
        let used = if access == Access::Write { ACCESSED | DIRTY } else { ACCESSED };
        found.dirty = entry.fetch_or(used, Relaxed) & DIRTY != 0 || access == Access::Write;
        self.cached.borrow_mut().insert(key, found);
        Some(found.frame)
    }

    /// The word at an address that a program can read, without noting it anywhere.
    pub(crate) fn peek(&self, root: FrameNumber, address: u64) -> Option<u64> {
        let (_, found) = self.walk(root, address)?;
        Some(self.page(found.frame)[(address & 0xfff) as usize / 8].load(Relaxed))
    }

    /// Everything that the CPU remembers: the root, the page, what it is.
    pub(crate) fn remembered(&self) -> Vec<(FrameNumber, u64, Translation)> {
        self.cached.borrow().iter().map(|(&(root, page), &found)| (root, page, found)).collect()
    }

    /// A remembered translation that the tables no longer allow, if there is one.
    pub(crate) fn stale(&self) -> Option<(FrameNumber, u64)> {
        let stale =
            |&(root, page, known): &(FrameNumber, u64, Translation)| match self.walk(root, page) {
                None => true,
                Some((_, now)) => {
                    now.frame != known.frame
                        || known.writable && !now.writable
                        || known.executable && !now.executable
                        || known.dirty && !now.dirty
                }
            };
        self.remembered().into_iter().find(stale).map(|(root, page, _)| (root, page))
    }
}

impl FrameMemory for FakeMachine {
    fn page(&self, frame: FrameNumber) -> &Page {
        &self.pages[frame.0 as usize]
    }

    fn read(&self, frame: FrameNumber, offset: usize, into: &mut [u8]) {
        let page = self.page(frame);
        for (at, byte) in (offset..4096).zip(into) {
            *byte = page[at / 8].load(Relaxed).to_le_bytes()[at % 8];
        }
    }

    fn write(&self, frame: FrameNumber, offset: usize, from: &[u8]) {
        let page = self.page(frame);
        for (at, &byte) in (offset..4096).zip(from) {
            let mut bytes = page[at / 8].load(Relaxed).to_le_bytes();
            bytes[at % 8] = byte;
            page[at / 8].store(u64::from_le_bytes(bytes), Relaxed);
        }
    }

    fn clear(&self, frame: FrameNumber) {
        self.page(frame).iter().for_each(|word| word.store(0, Relaxed));
    }
}

impl TranslationCache for FakeMachine {
    fn flush(&self, root: FrameNumber, address: u64) {
        self.flushes.set(self.flushes.get() + 1);
        if !self.deaf_to_pages.get() {
            self.cached.borrow_mut().remove(&(root, address & !0xfff));
        }
    }

    fn flush_space(&self, root: FrameNumber) {
        self.flushes.set(self.flushes.get() + 1);
        if !self.deaf_to_spaces.get() {
            self.cached.borrow_mut().retain(|key, _| key.0 != root);
        }
    }
}
