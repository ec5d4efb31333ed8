//! Hardware page tables of x86-64: four levels, 4 KiB pages.
//!
//! Every table is a frame that the environment donated. The functions here read entries and link
//! tables; what may be in an entry is decided by their callers. An upper table that is linked is
//! never empty: tables are built from the top to the leaf in one go, and unlinked from the leaf up.

use crate::memory::{FrameMemory, Page};
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::layout::{CONTROL, PAGE_TABLE, USER_END};
use exo_abi::{FrameNumber, Rights};

/// The entry translates.
pub(crate) const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// The hardware has used the entry.
pub(crate) const ACCESSED: u64 = 1 << 5;
/// The hardware has written through the entry.
pub(crate) const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LINK: u64 = PRESENT | WRITE | USER | ACCESSED;

/// The top-level entry of the pages that the kernel shares with the environment.
pub(crate) const SHARED_SLOT: usize = index(CONTROL, 3);
/// The top-level entry through which the environment reads its tables.
pub(crate) const RECURSIVE_SLOT: usize = index(PAGE_TABLE, 3);
/// The bytes that one leaf table maps.
pub(crate) const LEAF_SPAN: u64 = 1 << 21;
/// The tables between the root and a page.
pub(crate) const DEPTH: u32 = 3;

/// The index of `address` in the table of a level; 0 is the leaf, 3 the root.
pub(crate) const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

/// The entry of a page for a program, or 0 if the rights allow nothing.
pub(crate) fn page_entry(frame: FrameNumber, rights: Rights) -> u64 {
    if !rights.contains(Rights::READ) {
        return 0;
    }
    let mut entry = frame.address() | PRESENT | USER;
    if rights.contains(Rights::WRITE) {
        entry |= WRITE;
    }
    if !rights.contains(Rights::EXECUTE) {
        entry |= NO_EXECUTE;
    }
    entry
}

/// The frame of an entry.
pub(crate) fn frame_in(entry: u64) -> FrameNumber {
    FrameNumber(((entry & ADDRESS) >> 12) as u32)
}

/// The frame of an entry through which the program may write.
pub(crate) fn writable_frame(entry: u64) -> Option<FrameNumber> {
    const WRITABLE: u64 = PRESENT | WRITE | USER;
    (entry & WRITABLE == WRITABLE).then_some(frame_in(entry))
}

/// The entry of a page that the kernel provides. It counts as used, so that the hardware never
/// writes to it.
pub(crate) fn shared_entry(frame: FrameNumber, writable: bool) -> u64 {
    let rights = if writable { Rights::READ | Rights::WRITE } else { Rights::READ };
    page_entry(frame, rights) | ACCESSED | DIRTY
}

/// The entry through which the environment reads its own tables.
pub(crate) fn recursive_entry(root: FrameNumber) -> u64 {
    page_entry(root, Rights::READ) | ACCESSED
}

fn child(memory: &impl FrameMemory, table: FrameNumber, index: usize) -> Option<FrameNumber> {
    let entry = memory.page(table)[index & 511].load(Ordering::Relaxed);
    (entry & PRESENT != 0).then_some(frame_in(entry))
}

/// How many tables are missing between the root and the page with this address.
pub(crate) fn missing(memory: &impl FrameMemory, root: FrameNumber, address: u64) -> u32 {
    let mut table = root;
    for level in (1..=DEPTH).rev() {
        match child(memory, table, index(address, level)) {
            Some(next) => table = next,
            None => return level,
        }
    }
    0
}

/// The leaf table of the page with this address.
pub(crate) fn leaf<M: FrameMemory>(memory: &M, root: FrameNumber, address: u64) -> Option<&Page> {
    let upper = child(memory, root, index(address, 3))?;
    let middle = child(memory, upper, index(address, 2))?;
    Some(memory.page(child(memory, middle, index(address, 1))?))
}

/// The leaf entry of the page with this address, if there is a table for it.
pub(crate) fn entry<M: FrameMemory>(
    memory: &M,
    root: FrameNumber,
    address: u64,
) -> Option<&AtomicU64> {
    Some(&leaf(memory, root, address)?[index(address, 0)])
}

/// Links the tables that are missing, from cleared frames. Stops when there is no frame.
pub(crate) fn build<M: FrameMemory>(
    memory: &M,
    root: FrameNumber,
    address: u64,
    mut supply: impl FnMut() -> Option<FrameNumber>,
) -> Option<&Page> {
    let mut table = root;
    for level in (1..=DEPTH).rev() {
        let at = index(address, level);
        table = match child(memory, table, at) {
            Some(next) => next,
            None => {
                let next = supply()?;
                // The frame was cleared before: no CPU may walk into what was in it.
                memory.page(table)[at].store(next.address() | LINK, Ordering::Release);
                next
            }
        };
    }
    Some(memory.page(table))
}

/// The first address from `from` on that has a leaf table, among the pages that programs bind.
pub(crate) fn next_leaf(memory: &impl FrameMemory, root: FrameNumber, from: u64) -> Option<u64> {
    let after = |address: u64, level: u32| (address | ((1 << (12 + 9 * level)) - 1)) + 1;
    let mut address = from;
    while address < USER_END {
        let Some(upper) = child(memory, root, index(address, 3)) else {
            address = after(address, 3);
            continue;
        };
        let Some(middle) = child(memory, upper, index(address, 2)) else {
            address = after(address, 2);
            continue;
        };
        if child(memory, middle, index(address, 1)).is_some() {
            return Some(address & !(LEAF_SPAN - 1));
        }
        address = after(address, 1);
    }
    None
}

/// Unlinks the leaf table of this address, and the tables above it that are empty then. The caller
/// flushes the space before it reuses any of them.
pub(crate) fn unlink(
    memory: &impl FrameMemory,
    root: FrameNumber,
    address: u64,
) -> [Option<FrameNumber>; DEPTH as usize] {
    let mut unlinked = [None; DEPTH as usize];
    let upper = child(memory, root, index(address, 3));
    let middle = upper.and_then(|table| child(memory, table, index(address, 2)));
    let leaf = middle.and_then(|table| child(memory, table, index(address, 1)));
    let steps = [(middle, leaf, 1), (upper, middle, 2), (Some(root), upper, 3)];
    for (place, (parent, table, level)) in unlinked.iter_mut().zip(steps) {
        let (Some(parent), Some(table)) = (parent, table) else { break };
        if level > 1 && memory.page(table).iter().any(|entry| entry.load(Ordering::Relaxed) != 0) {
            break;
        }
        memory.page(parent)[index(address, level)].store(0, Ordering::Release);
        *place = Some(table);
    }
    unlinked
}
