//! The host side: it builds the kernel and the programs, makes the boot image, starts QEMU, reads
//! the console and judges the outcome. `main.rs` is the command `cargo xtask`; this library is what
//! its verbs and the system tests share.
//!
//! - Whatever is started was built just before: no stale image is ever booted.
//! - A wait is for an event and has a deadline. Nothing sleeps, nothing is tried again.
//! - The verdict is QEMU's exit status, which only the guest's kernel can choose; text on the
//!   console informs people, and counts as evidence only under a label that the kernel wrote.
//! - What a run did can be read afterwards in its folder under `target/runs`.

/// The manifest, which the host tool writes and `init` reads.
pub use init::manifest;

pub mod accelerator;
pub mod archive;
pub mod artifact;
pub mod backlog;
pub mod backtrace;
pub mod bench;
pub mod console;
pub mod elf;
pub mod guest;
pub mod image;
pub mod installation;
pub mod lab;
pub mod machine;
pub mod module;
pub mod record;
pub mod reference;
pub mod stub;
pub mod template;
pub mod toolchain;
pub mod verdict;
pub mod wire;
pub mod workspace;
