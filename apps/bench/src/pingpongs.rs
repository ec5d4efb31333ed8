//! Control transfers to and fro on two processors at once: whether one slows the other down.

use crate::measurement::Measurement;
use crate::transfer::reflect;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use libos_posix::exo_user::abi::calls::TransferMode;
use libos_posix::exo_user::abi::name::PAGE_SIZE;
use libos_posix::exo_user::abi::request::BindRequest;
use libos_posix::exo_user::child::{self, Contract};
use libos_posix::exo_user::gate::{self, Rested};
use libos_posix::exo_user::time::{self, MILLISECOND, NEVER, SECOND};
use libos_posix::exo_user::{
    EnvName, Error, Rights, binding, capability, contract, environment, frame, layout, slice,
    tables,
};

/// How often each is measured; the fastest counts, for whatever else the host does only ever adds.
const ROUNDS: u64 = 120;
/// How long each time: shorter than what a busy host leaves a processor alone.
const WINDOW: u64 = 8 * MILLISECOND;
/// How long they take to come to speed, or to rest.
const PAUSE: u64 = 2 * MILLISECOND;
/// How often one that is not to run looks whether it is.
const LOOK: u64 = MILLISECOND;

/// What a pair shares with this program: a page, so that two pairs share none.
#[repr(C)]
struct Board {
    /// Whether it is to run.
    runs: AtomicU64,
    /// How often it went to and fro.
    rounds: AtomicU64,
    /// The other of the two.
    reflector: AtomicU64,
}

fn board(number: u64) -> &'static Board {
    let address = layout::SHARED.start + number * PAGE_SIZE;
    // SAFETY: `Pair::new` has bound the page, for ever, before anybody looks at it.
    unsafe { &*(address as *const Board) }
}

/// Two environments on a processor.
struct Pair {
    number: u64,
    driver: EnvName,
    reflector: EnvName,
}

impl Pair {
    fn new(number: u64) -> Result<Self, Error> {
        let page = layout::SHARED.start + number * PAGE_SIZE;
        let rights = Rights::READ | Rights::WRITE | Rights::WIRED;
        let request =
            BindRequest::new(page, frame::allocate_any(capability::OWN)?, rights, capability::OWN);
        // SAFETY: nothing else is there.
        unsafe { binding::bind(&[request])? };
        let create = |index: u64, slices| {
            let number = (1 + 2 * number + index) as u8;
            child::create(Contract { label: "ping-pong", number, slices, ..Contract::default() })
        };
        let (driver, reflector) = (create(0, 1)?, create(1, 0)?);
        child::share(driver, page, rights)?;
        board(number).reflector.store(reflector.0, Relaxed);
        child::take_slice(driver, number as u32, free_position(number)?)?;
        child::start(reflector, reflect, driver.0)?;
        child::start(driver, drive, number)?;
        Ok(Self { number, driver, reflector })
    }

    fn remove(self) {
        child::remove(self.driver);
        child::remove(self.reflector);
    }
}

/// Gives back all positions but one: the others are for the pairs.
fn give_slices_back() -> Result<(), Error> {
    let count = tables::system().positions;
    let own = contract::name().0;
    let held = tables::slices().iter().filter(|(_, entry)| entry.holder == own);
    for (index, _) in held.skip(1) {
        let (cpu, position) = (index as u64 / count, index as u64 % count);
        slice::give_back(cpu as u32, position as u32, capability::OWN)?;
    }
    Ok(())
}

/// A position on this processor that nobody holds.
fn free_position(cpu: u64) -> Result<u32, Error> {
    let count = tables::system().positions;
    let is_free = |position: &u64| {
        let entry = tables::slices().get((cpu * count + position) as usize);
        entry.is_some_and(|entry| entry.holder == 0)
    };
    (0..count).find(is_free).map(|position| position as u32).ok_or(Error::NoSlice)
}

extern "sysv64" fn drive(number: u64) -> ! {
    let board = board(number);
    let reflector = EnvName(board.reflector.load(Relaxed));
    loop {
        while board.runs.load(SeqCst) == 0 {
            environment::sleep(time::now() + LOOK);
        }
        match gate::transfer(reflector, TransferMode::Synchronous, NEVER) {
            Ok(Rested::Entered) => board.rounds.store(board.rounds.load(Relaxed) + 1, Relaxed),
            // It is not at rest for this yet. If it cannot run either, the next transfer says so.
            _ => drop(environment::yield_to(reflector)),
        }
    }
}

/// How many rounds in a second these pairs make when they run together.
fn rate(pairs: &[Pair]) -> u64 {
    let rounds = || pairs.iter().map(|pair| board(pair.number).rounds.load(Relaxed)).sum::<u64>();
    let set = |runs| pairs.iter().for_each(|pair| board(pair.number).runs.store(runs, SeqCst));
    let sleep = |span| environment::sleep(time::now() + span);
    set(1);
    sleep(PAUSE);
    let (before, start) = (rounds(), time::now());
    sleep(WINDOW);
    let (after, end) = (rounds(), time::now());
    set(0);
    sleep(PAUSE);
    (after - before) * SECOND / (end - start)
}

/// The rate of two pairs on two processors, by the mean rate of one that runs alone.
pub(crate) fn two_pingpongs(measurement: &mut Measurement) -> Result<(), Error> {
    if tables::system().cpus < 2 {
        return Err(Error::NoSlice);
    }
    give_slices_back()?;
    let pairs = [Pair::new(0)?, Pair::new(1)?];
    let (mut alone, mut together) = ([0; 2], 0);
    for _ in 0..ROUNDS {
        for (fastest, pair) in alone.iter_mut().zip(pairs.chunks(1)) {
            *fastest = rate(pair).max(*fastest);
        }
        together = rate(&pairs).max(together);
    }
    pairs.into_iter().for_each(Pair::remove);
    let mean = alone.iter().sum::<u64>() as f64 / alone.len() as f64;
    measurement.ratio(together as f64 / mean);
    Ok(())
}
