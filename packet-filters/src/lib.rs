//! Packet filters: a declarative language, its decisions, its merge tree and its code generator.
//!
//! The crate owns the meaning of a filter. A [`Filter`] is a conjunction of masked compares, with
//! shifts for headers of variable length. Programs and people make filters with the crate
//! `filter-language`; the kernel decodes them from bytes, collects them in a [`FilterSet`] and
//! compiles the set to machine code that names the owner of a packet.
//!
//! | question | answer |
//! |---|---|
//! | does this packet match? | [`Filter::matches`] |
//! | can one packet match both? | [`overlaps`] |
//! | may the holder of a reservation install it? | [`contains`] |
//! | whose packet is it? | the code that [`FilterSet::compile`] emits |
//! | what of a program for a handler or predicate? | [`ebpf`] verifies and compiles it |
//! | how does it travel? | as bytes, see [`Filter::decode`] |
//!
//! # Principles
//!
//! 1. *Only valid filters exist.* Every way to make a [`Filter`] goes through [`Filter::new`], which
//!    takes atoms in the one canonical form only. Code behind it has no error cases left to forget.
//! 2. *Meaning, not text.* Overlap and containment compare the bits that filters look at. Where a
//!    shift makes that undecidable the answer errs to the safe side: "may overlap", "not contained".
//! 3. *Every load is in bounds:* `base + offset + width <= length`, in the interpreter and in the
//!    emitted code. A load past the end is a filter that does not match, never a fault.
//! 4. *No heap, no unsafe code, no panic.* The crate runs in ring 0 on bytes from strangers.
//!    Filters are in memory that the caller passed; emitted code goes to the caller's buffer.
//! 5. *Two readings of one language* (interpreter and machine code): the tests hold the code of a
//!    set against every filter tried in turn.
#![no_std]
#![forbid(unsafe_code)]

mod atom;
mod codegen;
pub mod ebpf;
mod filter;
mod interpreter;
mod overlap;
mod set;
mod shape;
mod table;
mod wire;

pub use atom::{Atom, MAX_END, MAX_SHIFT, Width};
pub use codegen::{BufferTooSmall, Classifier, Step, code_for, verdict};
pub use filter::{Filter, FilterError, MAX_ATOMS, MAX_SHIFTS};
pub use overlap::{contains, overlaps};
pub use set::{FilterSet, InsertError, Memory};
pub use shape::{Link, Shape};
pub use table::{Line, SECRET, lines_for};
pub use wire::{DecodeError, MAX_ENCODED, SHIFT, VERSION};
