//! checkpoint: a computation that is killed again and again, and goes on from its last checkpoint.
//!
//! The computation runs in an environment of its own, which saves it: [`saver`] takes a snapshot by
//! copy-on-write and writes the pages that have changed to a [`log`], while the computation goes on.
//! This program keeps the log, kills the environment at random moments, and starts another one, which
//! reads the log and goes on. Frames may be asked back at any time, from the environment that is
//! called `computation`.
//!
//! Arguments: `kills=N`, `rounds=N` of the computation. The code is 0 only if the result is right and
//! each environment but the first has gone on from a checkpoint.
#![no_std]
#![no_main]

extern crate alloc;

mod computation;
mod coroutine;
mod log;
mod region;
mod saver;
mod worker;

use core::sync::atomic::Ordering::Relaxed;
use libos_posix::exo_user::abi::tables::EnvState;
use libos_posix::exo_user::abi::upcall::Event;
use libos_posix::exo_user::{
    self, EnvName, Error, capability, child, contract, control, environment, slice, tables, time,
};
use libos_posix::memory::Heap;
use libos_posix::{Start, println};
use log::Log;

// The heap is the computation's. This program, which outlives it, has none.
exo_user::program!(main, heap = Heap::new() => Heap);

/// The contract of the environment in which the computation runs.
const CONTRACT: child::Contract<'_> = child::Contract {
    label: "computation",
    number: 1,
    frames: 360,
    floor: 240,
    notice: 200 * time::MILLISECOND,
    slices: 1,
};
/// How often the log is looked at, in nanoseconds.
const LOOK: u64 = 200_000;
/// More environments than this are not started for one that was killed.
const PATIENCE: u64 = 3;

fn main(start: &Start<'_>) -> u64 {
    match run(start) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            println!("checkpoint: the kernel refuses: {error:?}");
            2
        }
    }
}

fn run(start: &Start<'_>) -> Result<bool, Error> {
    let kills = start.number("kills", 5);
    let log = Log::create()?;
    let place = free_a_slice()?;
    let mut random = start.seed | 1;
    let (mut killed, mut ended, mut well) = (0, 0, false);
    while !well && ended <= kills * PATIENCE {
        let before = log.complete();
        let environment = begin(log, place)?;
        // At least one more checkpoint, so that there is progress, and a while at random.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let limit = (killed < kills).then_some((before + 1, random >> 32));
        let code = wait(log, environment, limit);
        child::remove(environment);
        control::take(Event::ChildEnded);
        match code {
            Some(0) => well = true,
            Some(code) => println!("checkpoint: the environment has ended with code {code}"),
            None => {
                killed += 1;
                println!("checkpoint: killed after checkpoint {}", log.complete());
            }
        }
        ended += 1;
    }
    let right =
        log.result.load(Relaxed) == computation::expected(computation::rounds(), region::NUMBERS);
    println!(
        "checkpoint: {} checkpoints of {} pages in all, {} given up; {killed} times killed, {} times \
         restored",
        log.complete(),
        log.written.load(Relaxed),
        log.given_up.load(Relaxed),
        log.restored.load(Relaxed),
    );
    println!("checkpoint: the result is {}", if well && right { "right" } else { "wrong" });
    Ok(well && right && killed == kills && log.restored.load(Relaxed) >= kills)
}

/// Gives one of this program's slices back, for the environment. Returns its processor and position.
fn free_a_slice() -> Result<(u32, u32), Error> {
    let (own, positions) = (contract::name().0, tables::system().positions);
    let mut held = tables::slices().iter().filter(|(_, slice)| slice.holder == own);
    let index = held.next().ok_or(Error::OverLimit)?.0 as u64;
    let place = ((index / positions) as u32, (index % positions) as u32);
    slice::give_back(place.0, place.1, capability::OWN)?;
    Ok(place)
}

/// Starts an environment that goes on with the computation.
fn begin(log: &Log, (cpu, position): (u32, u32)) -> Result<EnvName, Error> {
    let environment = child::create(CONTRACT)?;
    log.share(environment)?;
    child::take_slice(environment, cpu, position)?;
    child::start(environment, worker::work, 0)?;
    Ok(environment)
}

/// Waits until the environment has ended, and returns its code; or until there is the checkpoint of
/// this number, and a while more, which is a random number.
fn wait(log: &Log, environment: EnvName, limit: Option<(u64, u64)>) -> Option<u64> {
    loop {
        control::take(Event::ChildEnded);
        let entry = tables::environment_named(environment)?;
        if entry.state & 0xff == EnvState::Ended as u64 {
            return Some(entry.end_code);
        }
        if let Some((checkpoint, while_more)) = limit
            && log.complete() >= checkpoint
        {
            environment::sleep(time::now() + while_more % (20 * time::MILLISECOND));
            let entry = tables::environment_named(environment)?;
            let ended = entry.state & 0xff == EnvState::Ended as u64;
            return ended.then_some(entry.end_code);
        }
        environment::sleep(time::now() + LOOK);
    }
}
