//! Secure bindings: who may use which physical name, and how that is taken back.
//!
//! This crate owns capabilities, the frame table, the software TLB with its reverse map, the
//! hardware page tables as a cache of it, the accounts of the abort protocol and the record of
//! losses. It is plain data: memory and translation caches are reached through two traits, so that
//! all of it runs under host tests.
//!
//! - Authority is checked when a page is bound; afterwards the hardware's tables check each access.
//! - The hardware tables are a cache of the software TLB, which is a cache of what the program
//!   knows. Either may lose an entry that is not wired; neither may invent one.
//! - Break before reuse: no frame is free before every translation of it is gone from every CPU.
//! - Kernel memory is donated by the environment that causes it to be used. Nothing is allocated.
//! - No input panics: whatever a number from outside indexes is looked up, not assumed.
#![no_std]
#![forbid(unsafe_code)]

pub mod account;
pub mod binding;
pub mod capability;
pub mod frame;
pub mod free_map;
pub mod memory;
mod pool;
pub mod record;
mod revocation;
pub mod space;
mod tables;
pub mod tlb;

pub use account::Accounts;
pub use binding::{
    Bindings, Protect, Refill, check_pages, leaf_entry, leaf_table, protect, refill, writable_frame,
};
pub use capability::CapabilityTable;
pub use frame::{FrameRecord, FrameTable};
pub use free_map::FreeMap;
pub use memory::{FrameMemory, Page, TranslationCache};
pub use record::Record;
pub use space::Space;
pub use tables::LEAF_SPAN;
pub use tlb::Tlb;
