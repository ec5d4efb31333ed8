//! deaf: never answers a revocation. It fills frames with a pattern and pays no debt, so the kernel
//! takes frames by force. It then compares what it is told with what it finds: the frames in the
//! record must be those behind the pages that are gone, no more and no fewer, and the pages that
//! are left must hold what was put there. What it gets back later, it fills again.
//!
//! Arguments: `frames=N` to fill, `rounds=N`, `period=MILLISECONDS` between two.
#![no_std]
#![no_main]

extern crate alloc;

mod fault;
mod hoard;

use exo_user::abi::upcall::Event;
use exo_user::time::{self, MILLISECOND};
use exo_user::{Start, control, environment, loss, println};
use hoard::{Hoard, Mismatch};

exo_user::program!(main);

/// The pages of the upcall stack.
const UPCALL_PAGES: u64 = 2;

fn main(start: &Start<'_>) -> u64 {
    if let Err(error) = fault::install(UPCALL_PAGES) {
        println!("deaf: no upcall stack: {error:?}");
        return 1;
    }
    let mut hoard = Hoard::new(start.number("frames", 100) as usize);
    println!("deaf: {} frames filled, not listening", hoard.fill());
    match run(&mut hoard, start.number("rounds", 100), start.number("period", 50)) {
        Ok(()) => 0,
        Err(mismatch) => {
            println!("deaf: {mismatch}");
            2
        }
    }
}

fn run(hoard: &mut Hoard, rounds: u64, period: u64) -> Result<(), Mismatch> {
    let mut record = loss::Reader::new();
    let (mut lost, mut told, mut times) = (0, 0, 0_u64);
    for _ in 0..rounds {
        let end = time::now() + period * MILLISECOND;
        while time::now() < end && !fault::take_lost() {
            // In at one ear, out at the other: a pending event would keep it awake.
            control::take(Event::Revoke);
            environment::sleep(end);
        }
        let round = hoard.compare(&mut record)?;
        if round.told > 0 {
            times += 1;
            // The first times in full, later ones now and then.
            if times.is_power_of_two() {
                println!("deaf: loss {times}: {round}");
            }
        }
        (lost, told) = (lost + round.lost, told + round.told);
        hoard.fill();
    }
    let sum = hoard.checksum()?;
    println!("deaf: checksum {sum:#018x} of {} frames ok", hoard.held());
    println!("deaf: lost {lost} frames, told {told}");
    Ok(())
}
