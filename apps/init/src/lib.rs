//! What the host tool and `init` have to agree on: the manifest.
//!
//! The program `init` itself is `main.rs`. This library holds only the type that crosses from the
//! host into the machine, so that the host tool writes exactly what the program reads.
//!
//! - One definition, encoded with postcard on both sides: no hand-written parser in the guest.
//! - Plain data: nothing here allocates a resource or calls the kernel.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod manifest;
