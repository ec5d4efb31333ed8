//! A computation over four times more data than the contract has memory, which answers for its
//! result: every record says of itself whether it is whole, and the checksum is computed a second
//! time without the data.
//!
//! Arguments: `policy=fifo|clock|mru`, `pages=N` (a power of two) pages of data, `passes=N` over it,
//! in order and in a scattered order in turn.
#![no_std]
#![no_main]

extern crate alloc;

mod computation;
mod policy;

use alloc::vec;
use computation::{Computation, RECORDS_PER_PAGE};
use libos_posix::memory::{self, Report};
use libos_posix::{Start, println};

libos_posix::program!(main, policy = |start: &Start<'_>| policy::chosen(start).unwrap_or_default());

/// The exit code of a program whose arguments make no sense.
const EXIT_USAGE: u64 = 2;

fn main(start: &Start<'_>) -> u64 {
    let pages = start.number("pages", 1024) as usize;
    let passes = start.number("passes", 8);
    let Some(policy) = policy::chosen(start) else {
        println!("pages: policy= has to be fifo, clock or mru");
        return EXIT_USAGE;
    };
    if !pages.is_power_of_two() || pages > 1 << 16 {
        println!("pages: pages= has to be a power of two up to 65536");
        return EXIT_USAGE;
    }
    let limit = libos_posix::exo_user::contract::account(libos_posix::exo_user::Kind::Frames).limit;
    println!("pages: {pages} pages of data, a contract of {limit} frames, policy {policy}");
    let mut computation = Computation::new(vec![[0; _]; pages * RECORDS_PER_PAGE]);
    for pass in 0..passes {
        let before = memory::report().statistics.faults;
        if let Err(index) = computation.pass(pass) {
            println!("pages: record {index} is damaged");
            return 1;
        }
        let faults = memory::report().statistics.faults - before;
        println!("pages: pass {} of {passes}, {}: {faults} faults", pass + 1, order(pass));
    }
    print_report(&memory::report());
    let (checksum, expected) = (computation.checksum(), computation.expected(passes));
    match checksum {
        Some(checksum) if checksum == expected => {
            println!("pages: checksum {checksum:#018x} ok");
            0
        }
        Some(checksum) => {
            println!("pages: checksum {checksum:#018x} wrong, {expected:#018x} expected");
            1
        }
        None => {
            println!("pages: a record is damaged");
            1
        }
    }
}

fn order(pass: u64) -> &'static str {
    if computation::is_scattered(pass) { "scattered" } else { "in order" }
}

fn print_report(report: &Report) {
    let Report { statistics, resident, store_frames } = *report;
    println!(
        "pages: {} faults: {} pages zeroed, {} loaded, {} bound again",
        statistics.faults, statistics.zeroed, statistics.loaded, statistics.rebound
    );
    println!(
        "pages: {} evictions, {} of them stored; {resident} pages resident, {store_frames} frames \
         of compressed pages",
        statistics.evicted, statistics.stored
    );
    println!("pages: {} frames given back by choice", statistics.surrendered);
    println!(
        "pages: {} frames taken by force, {} of them the only copy",
        statistics.told, statistics.lost_for_good
    );
}
