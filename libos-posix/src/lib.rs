//! A library operating system with memory that pages itself, files, and descriptors.
//!
//! It owns the program's heap, its page table and its replacement policy, the tree of read-only
//! files from the boot archive, and the table of open descriptors. All of it is code of the
//! program: nothing here has a privilege that somebody else's library could not have, and a program
//! that wants another policy puts its own in the place of ours.
//!
//! # Principles
//!
//! 1. *Policy is a parameter.* The page table, the replacement policy and the backing store are
//!    types that the program names; ours are examples.
//! 2. *Give back by choice.* A revocation is answered in the program, with the pages that it can
//!    spare, before the kernel takes what it finds.
//! 3. *The machine is at the edge.* The pager, the policies, the store, the file tree and the line
//!    editor know no kernel, and run in tests on the host.
#![no_std]

#[cfg(test)]
extern crate std;

extern crate alloc;

pub mod console;
pub mod descriptor;
pub mod files;
pub mod line;
pub mod memory;

pub use exo_user;
pub use exo_user::{Start, print, println};
pub use filter_language;

/// Makes a program of a function, with a heap that pages itself.
///
/// - `program!(main)` with `fn main(start: &Start) -> u64`, which returns the exit code. Pages are
///   replaced by the [`Clock`](memory::Clock), and found in a [`Linear`](memory::Linear) table.
/// - `program!(main, policy = FUNCTION)` with `fn(&Start) -> P`, where `P` is a
///   [`Replacement`](memory::Replacement).
/// - `program!(main, table = TYPE, policy = FUNCTION)` with a [`PageTable`](memory::PageTable) that
///   is made [in wired memory](memory::InWired).
#[macro_export]
macro_rules! program {
    ($main:path) => {
        $crate::program!($main, policy = |_: &$crate::Start<'_>| $crate::memory::Clock);
    };
    ($main:path, policy = $policy:expr) => {
        $crate::program!($main, table = $crate::memory::Linear<'static>, policy = $policy);
    };
    ($main:path, table = $table:ty, policy = $policy:expr) => {
        fn main_with_memory(start: &$crate::Start<'_>) -> u64 {
            let main: fn(&$crate::Start<'_>) -> u64 = $main;
            match $crate::memory::start::<$table, _>(($policy)(start)) {
                Ok(()) => main(start),
                Err(error) => {
                    $crate::println!("{error}");
                    $crate::EXIT_NO_MEMORY
                }
            }
        }

        $crate::exo_user::program!(
            main_with_memory,
            heap = $crate::memory::Heap::new() => $crate::memory::Heap
        );
    };
}

/// The exit code of a program whose contract is too small to start in.
pub const EXIT_NO_MEMORY: u64 = 71;
