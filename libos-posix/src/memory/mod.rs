//! Self-paging memory.
//!
//! The program decides where every page of its heap is: it takes frames from the kernel as far as
//! its contract goes, binds them, chooses which page gives up its frame when it needs another or
//! when somebody asks for one back, and keeps the contents of the others in a store of its own.
//!
//! | part | what it is | to replace it |
//! |---|---|---|
//! | [`Pager`] | the algorithm | - |
//! | [`PageTable`] | where each page is: [`Linear`], [`Hashed`], [`Extents`] | `program!(main, table = ...)` |
//! | [`Replacement`] | which page goes: [`Fifo`], [`Clock`], [`Lru`], [`Mru`], [`WorkingSet`] | `program!(main, policy = ...)` |
//! | [`BackingStore`] | where pages go: [`Compressed`] memory | a type parameter of [`Pager`] |
//! | [`Kernel`] | frames and bindings: [`Exokernel`], and a model in the tests | - |
//! | [`Heap`] | the global allocator over the paged area | `exo_user::program!` takes any |
//!
//! On top of it the program has, for its own ends, write barriers and guard pages ([`protect`],
//! [`on_barrier`]), and snapshots by copy-on-write ([`snapshot`]).
//!
//! # Principles
//!
//! 1. *The program's table is the truth.* The hardware's tables and the kernel's software TLB may
//!    forget a binding at any time; the fault is answered from the program's own table.
//! 2. *Handlers stand on wired memory.* A fault, a revocation and a loss are handled without the
//!    paged heap, without locks of the interrupted code, and with events held back. A page fault
//!    inside the pager is a bug, and ends the program with a report. So whoever calls a function of
//!    this module, or frees memory, has a stack that is wired, as the program's first one is; code
//!    on a stack in the paged area may do everything else.
//! 3. *A loss costs what was written and no more.* Pages with a copy are bound without the right
//!    to write, so the store's copy is current, and comes back when the frame is taken by force.

mod barrier;
mod exokernel;
mod heap;
mod kernel;
mod page_table;
mod pager;
mod replacement;
mod resident;
mod snapshot;
mod space;
mod store;
mod wired;

pub use barrier::{Barrier, ProtectError, on_barrier, protect};
pub use exokernel::Exokernel;
pub use heap::Heap;
pub use kernel::{Access, BindError, Kernel};
pub use page_table::{
    CopyName, Entry, Extent, Extents, Hashed, InWired, Linear, NAME_BITS, PageIndex, PageTable,
    Place, Protection, Seat, Slot, TableFull,
};
pub use pager::{BATCH, MemoryError, Pager, SnapshotError, Statistics};
pub use replacement::{Clock, Fifo, INSTRUCTION_PAGES, Lru, Mru, Replacement, Usage, WorkingSet};
pub use resident::{HeldFrame, Original, Resident, ResidentPlace, ResidentSet};
pub use snapshot::{Snapshot, snapshot};
pub(crate) use space::map_archive;
pub use space::{
    Recovery, Report, SelfPaging, StartError, keep_ready, lost_pages, on_page_lost, report, start,
};
pub use store::{BackingStore, Block, Compressed, CopyLost, PAGE_SIZE, PageBytes, Workspace};
pub use wired::WiredMemory;
