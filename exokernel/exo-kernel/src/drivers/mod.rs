//! The devices that the kernel itself drives.

pub(crate) mod network;
pub(crate) mod pci;
pub(crate) mod queue;
pub(crate) mod serial;
