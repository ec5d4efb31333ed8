//! eBPF (RFC 9669) for handlers, predicates, and the parts of filters that can't be declared.
//!
//! A program is verified against a [`Profile`], which says what it is given: arguments, regions of
//! memory, helpers. What [`verify`] returns can be compiled to x86-64; the interpreter that the
//! code is held against is in the crate `ebpf-tools`, outside of ring 0.
//!
//! # Rules
//!
//! 1. *What is not known is refused:* encodings, fields that should be zero, jumps into the middle.
//! 2. *A register is a number or a pointer into one region*, decided for every place of the program
//!    before it runs. Nothing that was not written is read.
//! 3. *Verify or guard:* every access is shown to be in its region, or compared with its bounds each
//!    time, before it happens.
//! 4. *No address is ever in a register of the program.* A pointer is an offset; the region is part
//!    of its kind. So the worst that a mistaken kind can give away is an offset.
//! 5. *A program ends.* Going back burns fuel, at least as much as can happen until it goes back
//!    again, so that no more instructions are executed than the budget allows.
//! 6. *Verifying and compiling take a time that is linear in the program,* and no memory but the
//!    caller's.

mod activation;
mod compiler;
mod instruction;
mod profile;
mod range;
mod refusal;
mod state;
mod verifier;

pub use activation::{Activation, Compiled, Ended, Routine, Trap};
pub use instruction::{Instruction, MAX_SLOTS, class, operation};
pub use profile::{
    Argument, HANDLER, Helper, KEEP, MAX_HELPERS, MAX_REGIONS, Profile, QUIET, Region,
};
pub use refusal::{Reason, Refusal};
pub use state::STACK_REGION;
pub use verifier::{MAX_TARGETS, Slot, Verified, Workspace, verify};
