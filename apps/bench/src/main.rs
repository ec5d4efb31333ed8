//! bench: does one small thing many times, and says how long it took. An instruction counter under
//! the machine, if there is one, sees the marks around it; `cargo xtask bench` reads both.
//!
//! Arguments: `benches=NAME,…`, from the tables in [`processor`], [`transfer`], [`memory`],
//! [`tables`], [`network`] and [`predicates`]; or `role=NAME` for the second program that some of them need, from the table in
//! [`peer`].
//!
//! To add a bench: a line in a table here and a function beside it; a line in the table of figures
//! of the host tool (`qemu/src/bench/figure.rs`) and one in `qemu/linux/bench.c` for its peer.
#![no_std]
#![no_main]

extern crate alloc;

mod handlers;
mod mark;
mod measurement;
mod memory;
mod network;
mod peer;
mod pingpongs;
mod predicates;
mod processor;
mod repossession;
mod tables;
mod transfer;

use libos_posix::exo_user::{Start, println};
use measurement::Measurement;

libos_posix::exo_user::program!(main);

/// A bench: what it is called, and what it does.
type Bench = (&'static str, fn(&mut Measurement) -> Result<(), libos_posix::exo_user::Error>);

/// The exit code after a bench that failed.
const FAILED: u64 = 1;
/// The exit code for arguments that mean nothing.
const BAD_ARGUMENTS: u64 = 2;

fn main(start: &Start<'_>) -> u64 {
    if let Some(role) = start.argument("role") {
        return peer::run(role).unwrap_or(BAD_ARGUMENTS);
    }
    let Some(names) = start.argument("benches") else {
        println!("which? benches=NAME,… or role=NAME");
        return BAD_ARGUMENTS;
    };
    let mut code = 0;
    for name in names.split(',') {
        let Some((name, bench)) = benches().find(|(known, _)| *known == name) else {
            println!("bench {name} unknown");
            continue;
        };
        let mut measurement = Measurement::default();
        match bench(&mut measurement) {
            Ok(()) => println!("bench {name} {measurement}"),
            Err(error) => {
                println!("bench {name} failed: {error:?}");
                code = FAILED;
            }
        }
    }
    code
}

fn benches() -> impl Iterator<Item = Bench> {
    processor::BENCHES
        .iter()
        .chain(transfer::BENCHES)
        .chain(memory::BENCHES)
        .chain(tables::BENCHES)
        .chain(network::BENCHES)
        .chain(predicates::BENCHES)
        .copied()
}
