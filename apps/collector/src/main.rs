//! collector: a generational garbage collector whose write barrier is the protection of pages.
//!
//! A store into an object is a plain store. That old objects came to refer to young ones is noticed
//! by a fault on the first store to their page, which the library hands to this program: see
//! [`barrier`]. The heap is larger than what the contract holds, and pages itself; old pages that
//! nobody writes to need not be in memory when the nursery is collected. Frames may be asked back
//! at any time; the program notices nothing of it.
//!
//! Arguments: `steps=N` changes to `buckets=N` lists, with `ready=N` frames that can be taken by force
//! at any time. The code is 0 only if everything was in its place at the end.
#![no_std]
#![no_main]

extern crate alloc;

mod barrier;
mod collector;
mod space;
mod word;
mod workload;

use collector::{Heap, HeapError};
use libos_posix::memory::{self, Clock, Extents};
use libos_posix::{Start, println};
use workload::Workload;

// Whole generations are protected alike: few runs, however many pages.
libos_posix::program!(main, table = Extents<'static>, policy = |_: &Start<'_>| Clock);

/// How often there is a line about it.
const REPORTS: u64 = 4;

fn main(start: &Start<'_>) -> u64 {
    match run(start) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            println!("collector: no new object: {error:?}");
            2
        }
    }
}

fn run(start: &Start<'_>) -> Result<bool, HeapError> {
    let (steps, buckets) = (start.number("steps", 400_000), start.number("buckets", 3_072).max(1));
    memory::keep_ready(start.number("ready", 32) as usize);
    let mut workload = Workload::new(buckets as usize, start.seed)?;
    println!("collector: {steps} changes to {buckets} lists");
    for step in 1..=steps {
        if !workload.step(step)? {
            println!("collector: a tree is damaged");
            return Ok(false);
        }
        if step % (steps / REPORTS).max(1) == 0 {
            report(step, &workload.heap);
        }
    }
    let wrong = workload.wrong();
    let memory::Report { statistics, resident, store_frames } = memory::report();
    println!(
        "collector: {resident} pages resident, {store_frames} frames of compressed pages, {} loaded",
        statistics.loaded
    );
    println!("collector: {} frames given back by choice", statistics.surrendered);
    println!("collector: {} frames taken by force", statistics.told);
    println!("collector: {wrong} of {buckets} lists are wrong");
    Ok(wrong == 0)
}

fn report(step: u64, heap: &Heap) {
    let collector::Statistics { minor, major, searched, spared, moved } = heap.statistics;
    println!(
        "collector: step {step}: {minor} collections of the nursery, {major} of {} old pages; {} \
         barriers, {searched} old pages searched, {spared} spared; {moved} words moved",
        heap.old_pages(),
        barrier::hits()
    );
}
