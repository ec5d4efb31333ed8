//! Frames taken by force.

use crate::mark;
use crate::measurement::{Measurement, counter};
use crate::memory::Pages;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};
use libos_posix::exo_user::abi::contract::KINDS;
use libos_posix::exo_user::abi::layout::LABEL;
use libos_posix::exo_user::abi::request::EnvironmentRequest;
use libos_posix::exo_user::abi::tables::StatisticsWord;
use libos_posix::exo_user::{
    Capability, CapabilityName, EnvName, Error, FrameNumber, Kind, Rights, binding, capability,
    environment, frame, revocation, tables, time,
};

/// How many frames are taken: the kernel takes them in steps, one at each tick.
const FRAMES: u64 = 256;

/// The frames of a child that never runs, which this program has mapped too, are asked for and not
/// given back. From the deadline on, the kernel takes them; this program waits for that, and what
/// it executes meanwhile does not count. The ticks do, with which the steps come.
pub(crate) fn abort_frame(measurement: &mut Measurement) -> Result<(), Error> {
    abort(|taken, all| {
        measurement.marked(|| {
            mark::begin();
            mark::wait_until(taken, all);
            mark::end();
            FRAMES
        });
    })
}

/// The longest that this program is kept waiting while its frames are taken: with a counter, a
/// nanosecond is an instruction.
pub(crate) fn abort_step(measurement: &mut Measurement) -> Result<(), Error> {
    abort(|taken, all| {
        let (mut last, mut longest) = (time::now(), 0);
        while taken.load(Ordering::Relaxed) < all {
            let now = time::now();
            longest = longest.max(now - last);
            last = now;
        }
        measurement.longest(longest);
    })
}

/// Has frames taken. `wait` gets the counter of those that were, and what it will be in the end.
fn abort(wait: impl FnOnce(&'static AtomicU64, u64)) -> Result<(), Error> {
    let pages = Pages::touched(FRAMES)?;
    let child = child(FRAMES)?;
    binding::bind_for(child, capability::OWN, &pages.requests())?;
    frame::transfer(&pages.frames, child, capability::OWN)?;
    let taken = counter(StatisticsWord::Repossessed);
    let before = taken.load(Ordering::Relaxed);
    let (own, wall) = (0, 0);
    revocation::revoke(child, capability::REVOKE, Kind::Frames, FRAMES, own, wall)?;
    wait(taken, before + FRAMES);
    // Once to end it, once to free its slot.
    environment::destroy(child, capability::OWN, 0)?;
    environment::destroy(child, capability::OWN, 0)
}

/// An environment that may hold so many frames beside those that it is made of.
fn child(frames: u64) -> Result<EnvName, Error> {
    let mut donation = vec![FrameNumber::ANY; tables::system().donation_minimum as usize + 4];
    frame::allocate(&mut donation, capability::OWN)?;
    let mut limits = [0; KINDS];
    limits[Kind::Frames as usize] = donation.len() as u64 + frames;
    // `init` numbers the programs from 1, and this is the first.
    let name = CapabilityName::ROOT.child(1).and_then(|name| name.child(1));
    let guard = Capability { name: name.ok_or(Error::BadArgument)?, rights: Rights::CONTROL };
    let mut label = [0; LABEL];
    label[..5].copy_from_slice(b"child");
    let request = EnvironmentRequest {
        tlb_frames: 4,
        capability: capability::OWN.into(),
        guard: guard.to_words(),
        limits,
        label,
        ..EnvironmentRequest::default()
    };
    // SAFETY: the frames are new, and nothing is bound to them.
    unsafe { environment::create(&request, &donation) }
}
