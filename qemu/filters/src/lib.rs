//! Packet filters on the host: expressions of tcpdump, pictures of what was merged, captures.
//!
//! Nothing here is trusted: what comes out is filters and bytecode, which the kernel checks.

pub use filter_language::show;

pub mod bytecode;
pub mod capture;
pub mod classic;
pub mod executable;
pub mod field;
pub mod libpcap;
pub mod lift;
pub mod measure;
pub mod merged;
pub mod overlap;
pub mod picture;
pub mod residual;
pub mod rule;
pub mod trace;
