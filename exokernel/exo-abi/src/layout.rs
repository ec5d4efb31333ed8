//! Where things are in an environment's address space.
//!
//! The lower half is the environment's, but for three top-level slots at its end, which the kernel
//! fills and programs can read.

use crate::name::PAGE_SIZE;

/// The first address that can be bound: page 0 stays empty, so that a null pointer faults.
pub const USER_START: u64 = PAGE_SIZE;
/// The first address behind what can be bound.
pub const USER_END: u64 = 0x7e80_0000_0000;

/// The environment's [`ControlPage`](crate::control::ControlPage): read and write.
pub const CONTROL: u64 = USER_END;
/// The environment's [`ContractPage`](crate::contract::ContractPage): read only.
pub const CONTRACT: u64 = USER_END + PAGE_SIZE;
/// The environment's [`LossRing`](crate::contract::LossRing): read only.
pub const LOSS_RING: u64 = USER_END + 2 * PAGE_SIZE;
/// The bitmaps of what was lost of other kinds than frames, one behind the other: see
/// [`Kind::lost_bit`](crate::Kind::lost_bit). Read only.
pub const LOST_NAMES: u64 = LOST_FRAMES - PAGE_SIZE;
/// The bitmap of lost frames, a bit per frame of the machine: read only.
pub const LOST_FRAMES: u64 = USER_END + 0x10_0000;
/// How many pages the bitmap of lost frames can have: enough for 512 GiB.
pub const LOST_FRAMES_PAGES: u64 = 4096;
/// The environment's software TLB, a frame after the other: a header of 128 words, then entries of three:
/// read only.
pub const SOFTWARE_TLB: u64 = USER_END + 0x1000_0000;

/// The first of the tables that are the same for everybody: the
/// [`SystemPage`](crate::tables::SystemPage). The others are found through it. Read only.
pub const SYSTEM: u64 = 0x7f00_0000_0000;

/// The environment's own hardware page tables, as eight-byte entries: the entry of the page that
/// holds address `a` is at `PAGE_TABLE + (a >> 12) * 8`. Read only.
///
/// An entry that is not 0 is a binding, even if it allows nothing now; it says what rights the page
/// has, before [`SOFTWARE_TLB`] does. Bits 9 to 11 and 52 to 54 are the kernel's.
pub const PAGE_TABLE: u64 = 0x7f80_0000_0000;

/// The number of capability slots of an environment.
pub const CAPABILITIES: usize = 16;
/// The most entries that a list in one call may have.
pub const LIST_MAX: u64 = 512;
/// The most pages that one call binds.
pub const BIND_MAX: u64 = 1024;
/// The most calls of one batch.
pub const BATCH_MAX: u64 = 64;
/// The most bytes of one console call.
pub const CONSOLE_MAX: u64 = 1024;
/// The longest frame that the network takes, link header included.
pub const PACKET_MAX: u64 = 1514;
/// The shortest frame that the network takes: a link header.
pub const PACKET_MIN: u64 = 14;
/// The longest program of a handler, in bytes.
pub const PROGRAM_MAX: u64 = 4096;
/// The length of an environment's label in bytes; shorter labels end with zeros.
pub const LABEL: usize = 16;
