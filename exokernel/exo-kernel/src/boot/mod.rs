//! From QEMU's first instruction to memory that the kernel can be built in.

mod entry;
pub(crate) mod memory;
pub(crate) mod pvh;
