//! Where a program finds its own things. The kernel knows nothing of this; `init` loads programs so
//! and [`program!`](crate::program) starts them so.
//!
//! | from | what |
//! |---|---|
//! | [`UPCALL_STACK`] | a place for an upcall stack, unbound at first |
//! | [`START_BLOCK`] | the start block, one page, read only |
//! | [`SHARED`] | pages that are shared with others |
//! | [`STACK`] | the stack, 64 KiB, wired; unbound pages on both sides |
//! | [`IMAGE`] | the image: text, constants, data |
//! | [`HEAP`] | the heap of [`heap`](crate::heap), wired |
//! | [`WINDOW`] | a window through which a loader fills other programs' frames |
//! | [`ARCHIVE`](exo_abi::boot::ARCHIVE) | the boot archive, where somebody binds it |
//! | [`FREE`] | nothing: a library operating system's own |
//!
//! Everything that a small program uses lies in the first gigabyte, so that few page tables, which
//! are donated frames, reach all of it.

use core::ops::Range;
use exo_abi::layout::USER_END;

/// The place of an upcall stack. Whoever installs handlers binds frames here, or elsewhere.
pub const UPCALL_STACK: Range<u64> = 0x1_0000..0x5_0000;
/// The address of the start block, which [`Start`](crate::Start) reads.
pub const START_BLOCK: u64 = 0x5_8000;
/// What is shared with others, as the page of a pipe.
pub const SHARED: Range<u64> = 0x6_0000..0xd_0000;
/// The stack.
pub const STACK: Range<u64> = 0xe_0000..0xf_0000;
/// Where a program's image may be. `.cargo/config.toml` tells the linker where it begins. Its first
/// megabyte has the page table of all that is above: whoever takes over from another environment
/// touches text, stack and what both share at once.
pub const IMAGE: Range<u64> = 0x10_0000..0x1000_0000;
/// Where the heap of [`heap`](crate::heap) may be.
pub const HEAP: Range<u64> = 0x1000_0000..0x8_0000_0000;
/// A window on frames that are somebody else's soon.
pub const WINDOW: Range<u64> = 0x9_0000_0000..0x9_4000_0000;
/// What nobody has a use for yet.
pub const FREE: Range<u64> = 0x20_0000_0000..USER_END;
