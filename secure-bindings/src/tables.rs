//! Hardware page tables of x86-64: four levels, 4 KiB pages.
//!
//! Every table is a frame that the environment donated. The functions here read entries and link
//! tables; what may be in an entry is decided by their callers. An upper table that is linked is
//! never empty: tables are built from the top to the leaf in one go, and unlinked from the leaf up.

use crate::memory::{FrameMemory, Page};
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::layout::{CONTROL, PAGE_TABLE, USER_END};
use exo_abi::upcall::FaultCode;
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
/// The entry holds a binding, though perhaps one that allows nothing now. The hardware leaves this
/// bit, the two beside it and those of [`granted`] to software.
pub(crate) const BOUND: u64 = 1 << 10;
/// The binding is wired: the bit that says so in [`Rights`] too.
pub(crate) const WIRED: u64 = Rights::WIRED.bits() as u64;
/// The rights to read, write and execute that the page was bound with, where they begin.
const GRANTED: u32 = 52;
/// What changes with the rights that the page has now.
const ALLOWED: u64 = PRESENT | WRITE | USER | WIRED | NO_EXECUTE;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LINK: u64 = PRESENT | WRITE | USER | ACCESSED;

/// The top-level entry of the pages that the kernel shares with the environment.
pub(crate) const SHARED_SLOT: usize = index(CONTROL, 3);
/// The top-level entry through which the environment reads its tables.
pub(crate) const RECURSIVE_SLOT: usize = index(PAGE_TABLE, 3);
/// The entries of a table.
pub(crate) const LEAF_ENTRIES: usize = 512;
/// The bytes that one leaf table maps.
pub const LEAF_SPAN: u64 = 1 << 21;
/// The tables between the root and a page.
pub(crate) const DEPTH: u32 = 3;

/// The index of `address` in the table of a level; 0 is the leaf, 3 the root.
pub(crate) const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

const _: () = assert!(
    Rights::READ.bits() as u64 == PRESENT && Rights::WRITE.bits() as u64 == WRITE,
    "a present page can be read, and both say in the same bit that it can be written"
);
const _: () = assert!(Rights::EXECUTE.bits() == 4 && WIRED == BOUND >> 1, "as `GRANTED` has them");

/// The bits that allow a program what the rights say, which are some that a page can have.
fn allowed(rights: Rights) -> u64 {
    let bits = u64::from(rights.bits());
    bits & (PRESENT | WRITE | WIRED) | USER | (!bits >> 2) << 63
}

/// What a binding has that was granted these rights; bit 11 says that it may be wired.
fn granted(rights: Rights) -> u64 {
    let bits = u64::from(rights.bits());
    BOUND | (bits & 7) << GRANTED | (bits & WIRED) << 2
}

/// The entry of a page that is bound with these rights, but for the frame.
pub(crate) fn bound_with(rights: Rights) -> u64 {
    granted(rights) | allowed(rights)
}

/// A change of a binding's rights, worked out once for many entries.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    needed: u64,
    allowed: u64,
}

impl Change {
    /// To these rights, if a page can have them: none, or to read, and then to write or to execute.
    #[inline]
    pub(crate) fn to(rights: Rights) -> Option<Self> {
        let possible = Rights::PAGE.contains(rights) && 0b10_1011 >> (rights.bits() & 7) & 1 != 0;
        possible.then(|| Self { needed: granted(rights), allowed: allowed(rights) })
    }

    /// Whether an entry is a binding that was granted as much.
    pub(crate) fn is_granted(self, entry: u64) -> bool {
        entry & self.needed == self.needed
    }

    /// Whether all of some entries are such bindings, and as wired as they are to be, by the bits
    /// that all of them have and those that any has.
    pub(crate) fn is_simple(self, all: u64, any: u64) -> bool {
        self.is_granted(all) && ((all ^ self.allowed) | (any ^ self.allowed)) & WIRED == 0
    }

    /// The entry with the new rights.
    pub(crate) fn apply(self, entry: u64) -> u64 {
        entry & !ALLOWED | self.allowed
    }

    /// Whether a CPU may remember that some entries allowed more, by the bits that all of them had
    /// and those that any had. Entries that now allow more need no flush: who is refused is asked
    /// again.
    pub(crate) fn narrows(self, all: u64, any: u64) -> bool {
        let executable = !all & self.allowed & NO_EXECUTE;
        any & PRESENT != 0 && (any & !self.allowed & (PRESENT | WRITE) | executable) != 0
    }
}

const _: () = assert!(
    FaultCode::WRITE.bits() == WRITE && FaultCode::FETCH.bits() << 59 == NO_EXECUTE,
    "what an access needs is said by the bit of an entry that allows or forbids it"
);

/// Whether the hardware with this entry, and no older one, would let a program do that.
#[inline]
pub(crate) fn allows(entry: u64, access: FaultCode) -> bool {
    let needed = PRESENT | access.bits() & WRITE | access.bits() << 59 & NO_EXECUTE;
    (entry ^ NO_EXECUTE) & needed == needed
}

/// What the hardware notes about an access.
#[inline]
pub(crate) fn used(access: FaultCode) -> u64 {
    ACCESSED | (access.bits() & WRITE) << 5
}

/// The rights that the entry of a binding gives now.
pub(crate) fn rights_now(entry: u64) -> Rights {
    let execute = (entry & PRESENT & !(entry >> 63)) << 2;
    Rights::from_bits_truncate((entry & (PRESENT | WRITE | WIRED) | execute) as u16)
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
    frame.address() | allowed(rights) | ACCESSED | DIRTY
}

/// The entry through which the environment reads its own tables.
pub(crate) fn recursive_entry(root: FrameNumber) -> u64 {
    root.address() | allowed(Rights::READ) | ACCESSED
}

fn child(memory: &impl FrameMemory, table: FrameNumber, index: usize) -> Option<FrameNumber> {
    let entry = memory.page(table)[index & 511].load(Ordering::Relaxed);
    (entry & PRESENT != 0).then_some(frame_in(entry))
}

/// The frame that is the leaf table of the page with this address, or how many tables are missing
/// between the root and the page.
pub(crate) fn walk(
    memory: &impl FrameMemory,
    root: FrameNumber,
    address: u64,
) -> Result<FrameNumber, u32> {
    let upper = child(memory, root, index(address, 3)).ok_or(3_u32)?;
    let middle = child(memory, upper, index(address, 2)).ok_or(2_u32)?;
    child(memory, middle, index(address, 1)).ok_or(1)
}

/// The leaf entry of the page with this address, if there is a table for it.
pub(crate) fn entry<M: FrameMemory>(
    memory: &M,
    root: FrameNumber,
    address: u64,
) -> Option<&AtomicU64> {
    Some(&memory.page(walk(memory, root, address).ok()?)[index(address, 0)])
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

/// Unlinks the leaf table of this address, whatever is in it, and the tables above it that are empty
/// then; the leaf comes first. The caller flushes the space before it reuses any of them.
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
