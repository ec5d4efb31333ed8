//! The pages that the kernel shares: the one place where an address becomes a reference.

use core::sync::atomic::AtomicU64;
use exo_abi::contract::{ACCOUNT_WORDS, ACCOUNTS_WORD, KINDS, LOSS_SLOTS, LOSSES_WORD};
use exo_abi::control::{FREE_WORD, SURRENDER_COUNT, SURRENDER_SLOTS, SURRENDER_WORD};
use exo_abi::layout::{CONTRACT, CONTROL, LOSS_RING, LOST_FRAMES, LOST_NAMES, PAGE_TABLE, SYSTEM};
use exo_abi::name::PAGE_SIZE;
use exo_abi::tables::SystemPage;

/// The words at an address of a page that the kernel shares.
///
/// # Safety
/// The kernel maps `count` words there, for as long as the program runs.
unsafe fn words(address: u64, count: usize) -> &'static [AtomicU64] {
    // SAFETY: the caller says that the words are there. The kernel writes them word by word, and
    // so every load here is atomic; words that are read only are never stored to.
    unsafe { core::slice::from_raw_parts(address as *const AtomicU64, count) }
}

/// The control page: the only one that the program writes.
pub(crate) fn control() -> &'static [AtomicU64] {
    // SAFETY: the kernel maps this page into every environment.
    unsafe { words(CONTROL, FREE_WORD) }
}

/// How many entries the surrender list has, and their words.
pub(crate) fn surrender_list() -> (&'static AtomicU64, &'static [AtomicU64]) {
    // SAFETY: as in `control`; both are in the control page.
    let list = unsafe { words(CONTROL + 8 * SURRENDER_COUNT as u64, 1 + 2 * SURRENDER_SLOTS) };
    const { assert!(SURRENDER_COUNT + 1 == SURRENDER_WORD) };
    (&list[0], &list[1..])
}

/// The bitmaps of what was lost of other kinds than frames.
pub(crate) fn lost_names() -> &'static [AtomicU64] {
    // SAFETY: as in `control`.
    unsafe { words(LOST_NAMES, PAGE_SIZE as usize / 8) }
}

/// The contract page.
pub(crate) fn contract() -> &'static [AtomicU64] {
    // SAFETY: as in `control`.
    unsafe { words(CONTRACT, ACCOUNTS_WORD + KINDS * ACCOUNT_WORDS) }
}

/// The ring of losses.
pub(crate) fn loss_ring() -> &'static [AtomicU64] {
    // SAFETY: as in `control`.
    unsafe { words(LOSS_RING, LOSSES_WORD + LOSS_SLOTS * 4) }
}

/// The bitmap of lost frames, for a machine of this many.
pub(crate) fn lost_frames(frames: usize) -> &'static [AtomicU64] {
    // SAFETY: the kernel maps a bit for each frame of the machine, in whole pages.
    unsafe { words(LOST_FRAMES, frames.div_ceil(64)) }
}

/// The first page of the common tables.
pub(crate) fn system() -> &'static [AtomicU64] {
    // SAFETY: as in `control`.
    unsafe { words(SYSTEM, size_of::<SystemPage>() / 8) }
}

/// A table that the system page refers to.
pub(crate) fn table(address: u64, words_in_all: usize) -> &'static [AtomicU64] {
    // SAFETY: only `tables` calls this, with what the kernel has written in the system page.
    unsafe { words(address, words_in_all) }
}

/// The entry for a page in the program's own hardware page table. Its own tables must be there: the
/// page is bound and has been touched.
pub(crate) fn page_table_entry(page: u64) -> &'static AtomicU64 {
    // SAFETY: the kernel maps the tables there; the caller has touched the page, so that there are
    // tables for it. If the kernel drops them in between, the load faults, which is no wrong read.
    unsafe { &*((PAGE_TABLE + (page >> 12) * 8) as *const AtomicU64) }
}
