//! What eBPF programs are promised, held against the public vectors, random programs, another
//! implementation and a disassembler.

mod code;
mod conformance;
mod differential;
mod machine;
mod specimen;
mod verification;
