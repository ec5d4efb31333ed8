//! The kernel's mechanism on a machine of plain memory.

mod accounts;
mod environments;
mod fake;
mod fuzz;
mod network;
mod predicates;
mod revocation;
mod shares;
mod transfer;
mod upcalls;
