//! Under construction.
#![no_std]
#![forbid(unsafe_code)]

pub mod memory;

pub use memory::{FrameMemory, Page, TranslationCache};
