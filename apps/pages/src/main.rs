//! A computation over some four times more data than the contract has memory, which answers for its
//! result: every record says of itself whether it is whole, and the checksum is computed a second
//! time without the data.
//!
//! Arguments: `table=linear|hashed|extents`, `policy=fifo|clock|lru|mru|ws`, `pages=N` (a power of two)
//! pages of data, `passes=N` over it, `order=alternating` (in order and scattered in turn) or
//! `order=cyclic`.
#![no_std]
#![no_main]

extern crate alloc;

mod computation;
mod policy;
mod table;

use alloc::vec;
use computation::{Computation, Order, RECORDS_PER_PAGE};
use libos_posix::memory::{self, Report};
use libos_posix::{Start, println};
use table::Table;

libos_posix::program!(
    main,
    table = Table,
    policy = |start: &Start<'_>| policy::chosen(start).unwrap_or_default()
);

/// The exit code of a program whose arguments make no sense.
const EXIT_USAGE: u64 = 2;

fn main(start: &Start<'_>) -> u64 {
    let pages = start.number("pages", 1024) as usize;
    let passes = start.number("passes", 8);
    let Some(policy) = policy::chosen(start) else {
        println!("pages: policy= has to be fifo, clock, lru, mru or ws");
        return EXIT_USAGE;
    };
    let Some(table) = table::chosen(start) else {
        println!("pages: table= has to be linear, hashed or extents");
        return EXIT_USAGE;
    };
    let order = match start.argument("order") {
        None | Some("alternating") => Order::Alternating,
        Some("cyclic") => Order::Cyclic,
        Some(_) => {
            println!("pages: order= has to be alternating or cyclic");
            return EXIT_USAGE;
        }
    };
    if !pages.is_power_of_two() || pages > 1 << 16 {
        println!("pages: pages= has to be a power of two up to 65536");
        return EXIT_USAGE;
    }
    let limit = libos_posix::exo_user::contract::account(libos_posix::exo_user::Kind::Frames).limit;
    println!(
        "pages: {pages} pages of data, a contract of {limit} frames, policy {policy}, table {table}"
    );
    let mut computation = Computation::new(vec![[0; _]; pages * RECORDS_PER_PAGE], order);
    for pass in 0..passes {
        let before = memory::report().statistics.faults;
        if let Err(index) = computation.pass(pass) {
            println!("pages: record {index} is damaged");
            return 1;
        }
        let faults = memory::report().statistics.faults - before;
        let way = if order.is_scattered(pass) { "scattered" } else { "in order" };
        println!("pages: pass {} of {passes}, {way}: {faults} faults", pass + 1);
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
