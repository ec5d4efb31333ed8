//! Rule: whatever several processors do at once, nothing is lost, mixed up or kept.
//!
//! Several of these run at once, each with children of its own code. All of them do random steps
//! that check themselves ([`worker`]); this one makes and ends children too, changes their memory
//! and their time while they run, and takes frames back. What a step depends on is the seed, which
//! is printed; what the processors make of it is not. A line each second says that all is going on.
#![no_std]
#![no_main]

mod brood;
mod tally;
mod worker;

use brood::{Brood, TALLY, WINDOW};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use exo_user::upcall::{self, Handlers};
use exo_user::{Kind, Start, contract, environment, println, time};
use guest_probes::attempt;
use guest_probes::ground::{self, DATA};
use guest_probes::rule::{granted, holds, same};
use tally::Count;
use worker::Worker;

exo_user::program!(main);

/// The pages of the upcall stack.
const STACK_PAGES: u64 = 4;
/// Sleeps that end later than this are lost. Where a busy host runs four processors on two, an
/// honest one takes long.
const BOUND: u64 = 2 * time::SECOND;

/// [`BOUND`], as the arguments say; children find it in their copy.
static LATEST: AtomicU64 = AtomicU64::new(BOUND);

static TOLD: Handlers = Handlers {
    exception: attempt::caught,
    slice_end: Some(upcall::give_slice_up),
    ..Handlers::NONE
};
static FORCED: Handlers = Handlers { exception: attempt::caught, ..Handlers::NONE };

/// Installs the handlers: half of all want to know of the end of a slice.
fn prepare(seed: u64) {
    let handlers = if seed & 1 == 0 { &TOLD } else { &FORCED };
    granted("an upcall stack", upcall::install_with_stack(STACK_PAGES, handlers));
}

/// What a child runs.
extern "sysv64" fn child(seed: u64) -> ! {
    prepare(seed);
    let mut worker = Worker::new(seed, TALLY, LATEST.load(Relaxed));
    // Most are ended by their parent before.
    let steps = 1 << worker.random.below(18);
    for _ in 0..steps {
        worker.pay();
        brood::look_through_window();
        worker.step();
    }
    worker.end()
}

fn main(start: &Start<'_>) -> u64 {
    let seed = start.number("seed", start.seed) ^ contract::name().0 << 32;
    let seconds = start.number("seconds", 5);
    let report = start.number("report", 1) * time::SECOND;
    LATEST.store(start.number("bound", BOUND / time::MILLISECOND) * time::MILLISECOND, Relaxed);
    println!("seed {}, {seconds} s", start.number("seed", start.seed));
    prepare(seed);
    ground::bound(TALLY, DATA | exo_user::Rights::WIRED);
    let mut worker = Worker::new(seed, TALLY, LATEST.load(Relaxed));
    let mut brood = Brood::new(start);
    let before = (ground::held(), contract::account(Kind::Frames).limit);
    let end = time::now() + seconds * time::SECOND;
    let mut next = 0;
    while time::now() < end {
        for _ in 0..4 {
            worker.step();
        }
        brood.step(&mut worker);
        if time::now() >= next {
            next = time::now() + report;
            say(&worker);
        }
    }
    brood.end(&mut worker);
    worker.clear();
    same("frames and their limit", (ground::held(), contract::account(Kind::Frames).limit), before);
    same("children", contract::account(Kind::Environments).held, 0);
    say(&worker);
    holds("no wakeup is lost", worker.tally.get(Count::LateBound) == 0);
    holds("nobody wakes without a reason", worker.tally.get(Count::Early) == 0);
    holds("its name", environment::name() == contract::name());
    println!("survived with {} children", worker.tally.get(Count::Created));
    0
}

/// One line with all counts.
fn say(worker: &Worker) {
    let count = |count| worker.tally.get(count);
    println!(
        "{} steps, {} children, transfers {} made {} refused {} entered {} answered, {} faults, \
         {} lost, {} asked, {} bound, {} moved; {} sleeps, {} early, late: {} by 10 ms, {} by \
         100 ms, {} lost, at most {} us",
        count(Count::Steps),
        count(Count::Created),
        count(Count::Transfers),
        count(Count::Refused),
        count(Count::Entered),
        count(Count::Answered),
        count(Count::Faults),
        count(Count::Lost),
        count(Count::Revoked),
        count(Count::Bound),
        count(Count::Moved),
        count(Count::Sleeps),
        count(Count::Early),
        count(Count::Late10),
        count(Count::Late100),
        count(Count::LateBound),
        count(Count::Latest),
    );
}

// The window is where a parent changes pages under a running child.
const _: () = assert!(WINDOW > TALLY);
