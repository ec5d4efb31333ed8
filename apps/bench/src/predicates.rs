//! Wakeups by predicates, while others sleep.

use crate::measurement::Measurement;
use crate::memory::Pages;
use core::sync::atomic::AtomicU64;
use libos_posix::exo_user::abi::predicate::CLAUSES;
use libos_posix::exo_user::abi::upcall::Event;
use libos_posix::exo_user::predicate::{self, Clause, Comparison, FIRST_OFFSET, Watched};
use libos_posix::exo_user::{Error, FrameNumber, capability, control, environment, layout, time};

/// How many predicates sleep in [`predicates`].
const SLEEPING: usize = 1_000;
/// How often the one that does not is woken.
const WAKEUPS: u64 = 2_000;
/// The words of a frame.
type Words = [AtomicU64; 512];

/// The frame of this number of those that are bound.
fn watched(number: usize) -> Watched<'static> {
    // SAFETY: `Pages` binds them there for good, and they are used as atomic words alone.
    Watched::new(unsafe { &*(layout::FREE.start as *const Words).add(number) })
}

/// A clause about the first word of a frame.
fn at_least(value: u64) -> Clause {
    let comparison = Comparison::AtLeast;
    Clause { offset: FIRST_OFFSET, mask: u64::MAX, comparison, value }
}

/// A word has changed: who sleeps until it has this value is told, and does not sleep on.
fn wake(measurement: &mut Measurement, frame: FrameNumber) -> Result<(), Error> {
    watched(0).arm(0, &[at_least(1)]).map_err(|_| Error::BadArgument)?;
    watched(0).word(FIRST_OFFSET).store(1, core::sync::atomic::Ordering::Release);
    let mut woken = Ok(true);
    measurement.repeat(WAKEUPS, || {
        woken = woken.and_then(|all| Ok(all & predicate::notify(frame, capability::OWN)?));
        environment::sleep(time::NEVER);
        control::take(Event::Predicate);
    });
    if woken? { Ok(()) } else { Err(Error::NotRunnable) }
}

fn wakeup(measurement: &mut Measurement) -> Result<(), Error> {
    let pages = Pages::touched(1)?;
    wake(measurement, pages.frames[0])
}

fn predicates(measurement: &mut Measurement) -> Result<(), Error> {
    let pages = Pages::touched(1 + SLEEPING.div_ceil(CLAUSES) as u64)?;
    for number in 0..SLEEPING {
        let (frame, place) = (watched(1 + number / CLAUSES), number % CLAUSES);
        frame.arm(place, &[at_least(u64::MAX)]).map_err(|_| Error::BadArgument)?;
    }
    wake(measurement, pages.frames[0])
}

/// The benches of this file.
pub(crate) const BENCHES: &[crate::Bench] = &[("wakeup", wakeup), ("predicates", predicates)];
