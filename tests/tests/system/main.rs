//! The system tests: each boots a machine of its own.

mod boot;
mod template;
