//! What a program in ring 3 needs to speak with the kernel, and nothing that decides for it.
//!
//! The crate owns the `syscall` instruction, the entry of a program, the trampoline of upcalls and
//! the views of the pages that the kernel shares. A library operating system stands on it, and so
//! can a program alone.
//!
//! | for | look at |
//! |---|---|
//! | a program's first line | [`program!`](crate::program), [`Start`] |
//! | calls, by the noun that they are about | [`frame`], [`binding`], [`environment`], [`capability`], [`slice`](mod@slice), [`revocation`], [`ring`], [`filter`], [`packet`], [`console`] |
//! | what the kernel tells | [`tables`], [`contract`], [`loss`], [`time`] |
//! | what the kernel asks | [`upcall`], [`control`] |
//! | another environment, entered while it rests | [`gate`], [`rpc`](mod@rpc), [`lrpc`], [`pipe`] |
//! | several calls with one entry | [`batch`] |
//! | a function in an environment of its own | [`child`] |
//! | where things are | [`layout`] |
//! | a heap for programs that want no other | [`heap`] |
//!
//! # Principles
//!
//! 1. *One call, one function.* A wrapper packs arguments and unpacks the answer. It keeps no state
//!    and makes no choice, so that nothing has to be undone by who chooses differently.
//! 2. *Safe where the machine makes it safe.* A call that can pull memory away from under a
//!    reference is `unsafe`; all others are not.
//! 3. *Reading is free.* Tables, accounts, losses and the time are loads from shared pages, never
//!    a call.
//! 4. *The logic runs on the host.* Views take words, not addresses; the addresses are in one place.
#![no_std]

extern crate alloc;

pub mod backtrace;
pub mod batch;
pub mod binding;
pub mod call;
pub mod capability;
pub mod child;
pub mod console;
pub mod contract;
pub mod control;
pub mod environment;
pub mod filter;
pub mod frame;
pub mod gate;
pub mod handler;
pub mod heap;
pub mod layout;
pub mod loss;
pub mod lrpc;
pub mod machine;
pub mod memory;
pub mod packet;
pub mod panic;
pub mod pipe;
pub mod predicate;
pub mod revocation;
pub mod ring;
pub mod rpc;
mod shared;
pub mod slice;
pub mod start;
pub mod tables;
pub mod time;
pub mod upcall;

pub use exo_abi as abi;
pub use exo_abi::{
    Call, Capability, CapabilityName, EnvName, Error, FrameNumber, Kind, Registers, Rights,
};
pub use start::Start;
