//! The processor: its tables, traps, timer and features.

pub(crate) mod apic;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod gdt;
pub(crate) mod idt;
pub(crate) mod layout;
pub(crate) mod paging;
pub(crate) mod segments;
pub(crate) mod switch;
pub(crate) mod trap;
pub(crate) mod vectors;
