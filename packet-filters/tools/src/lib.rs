//! eBPF on the host, outside of ring 0: what people and tests do with programs for the kernel.
//!
//! | module | |
//! |---|---|
//! | [`source`] | compiles C and Rust |
//! | [`object`] | takes a program out of an ELF object that clang or rustc made |
//! | [`assembler`] | assembles text, in the syntax of uBPF and the conformance vectors |
//! | [`interpreter`] | runs a verified program, checking everything each time: the reference |
//! | [`profile`] | profiles beside the handlers' |
//! | [`native`] | runs compiled code |
//! | [`refusal`] | says in words why a program is refused |

mod arithmetic;
pub mod assembler;
pub mod interpreter;
pub mod native;
pub mod object;
pub mod profile;
pub mod refusal;
pub mod source;
