//! From QEMU's first instruction to memory that the kernel can be built in, and to the other
//! processors.

pub(crate) mod acpi;
mod entry;
pub(crate) mod memory;
pub(crate) mod processors;
pub(crate) mod pvh;
