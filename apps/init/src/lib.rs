//! What of `init` also runs on the host: the manifest, and the judgement of an executable.
//!
//! The program `init` itself is `main.rs`. This library holds the type that crosses from the host
//! into the machine, so that the host tool writes exactly what the program reads, and the check of
//! every image before it is loaded, so that it can be tested with images that no linker makes.
//!
//! - One definition, encoded with postcard on both sides: no hand-written parser in the guest.
//! - Plain data: nothing here allocates a resource or calls the kernel.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod image;
pub mod manifest;
