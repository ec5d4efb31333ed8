//! The system tests: each boots a machine of its own.

mod boot;
mod console;
mod counting;
mod filters;
mod hostile;
mod laboratory;
mod network;
mod paging;
mod processors;
mod revocation;
mod schedulers;
mod shares;
mod storms;
mod stress;
mod template;
mod transfer;
mod web;
