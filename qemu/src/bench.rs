//! Measuring: how many instructions an operation takes, and how long, here and on Linux.
//!
//! - [`figure`] is the table of what is measured and of the bars.
//! - Instructions are counted by a plugin of QEMU (`qemu/plugin`) between marks that the guest
//!   sets, on a machine whose time follows its instructions: the figure is the same everywhere and
//!   in every run.
//! - Time is measured by the guest itself, on a machine without the plugin. On a shared host it is
//!   good only as a ratio, so both guests take turns.
//! - What also runs on the host (`filters`) is timed there, beside others that do the same.
//! - Both guests get the same board, processor, memory and options.

pub mod baseline;
pub mod comparison;
pub mod counter;
pub mod exokernel;
pub mod figure;
pub mod filters;
pub mod linux;
pub mod listing;
pub mod plot;
pub mod report;
pub mod sample;
pub mod trace;
pub mod traffic;
