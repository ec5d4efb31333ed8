//! Rule: who sleeps until words hold wakes when they do, and at no lie about them; nobody says so of
//! frames that it could not write; and a frame that is taken takes its predicates with it.
#![no_std]
#![no_main]

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::tables::FrameState;
use exo_user::abi::upcall::Event;
use exo_user::predicate::{self, ArmError, Clause, ClauseError, Comparison, FIRST_OFFSET, Watched};
use exo_user::{
    Call, Error, Kind, Start, capability, control, environment, frame, revocation, tables, time,
};
use guest_probes::attempt;
use guest_probes::fork::{self, Fork, Meeting, SPARE, wait};
use guest_probes::ground::{self, DATA, page};
use guest_probes::neighbour;
use guest_probes::rule::{granted, holds, refused, refused_with, same};

exo_user::program!(main);

/// Where both see the frame.
const SHARED: u64 = page(40);
/// The words of the meeting page: how often the sleeper has gone to sleep, how often its predicate held
/// then, and whether it has lost the frame.
const SLEPT: usize = 0;
const HELD: usize = 1;
const LOST: usize = 2;
/// How often words are said to have changed that have not.
const STORM: u64 = 20_000;

fn watched() -> Watched<'static> {
    // SAFETY: the page is bound when it is used, and read and written as atomic words alone.
    Watched::new(unsafe { &*(SHARED as *const [AtomicU64; 512]) })
}

fn at_least(offset: u16, value: u64) -> Clause {
    Clause { offset, mask: u64::MAX, comparison: Comparison::AtLeast, value }
}

/// Sleeps until the predicate holds, again and again, or the frame is asked for.
extern "sysv64" fn sleeps(_: u64) -> ! {
    loop {
        control::take(Event::Predicate);
        if control::take(Event::Revoke) {
            break;
        }
        if watched().holds() {
            watched().word(FIRST_OFFSET).store(0, SeqCst);
            Meeting::word(HELD).fetch_add(1, SeqCst);
        }
        Meeting::word(SLEPT).fetch_add(1, SeqCst);
        environment::sleep(time::NEVER);
    }
    while !control::take(Event::Lost) {
        environment::sleep(time::NEVER);
    }
    Meeting::word(LOST).store(1, SeqCst);
    loop {
        environment::sleep(time::NEVER);
    }
}

/// Frames that the program could not write to.
fn foreign(archive: exo_user::FrameNumber) {
    let notify =
        |frame: exo_user::FrameNumber, capability| Call::Notify { frame: frame.0, capability };
    for victim in [neighbour::first(), neighbour::witness()] {
        let frame = ground::frame_of(victim.index(), FrameState::Held);
        refused(notify(frame, capability::OWN), Error::NotDominated);
        refused(notify(frame, 9), Error::NoCapability);
        let donated = ground::frame_of(victim.index(), FrameState::Donated);
        refused(notify(donated, capability::OWN), Error::NoFrame);
    }
    // It may read that one.
    refused(notify(archive, capability::ARCHIVE), Error::NotDominated);
    for frame in [0, tables::system().frames_total as u32, u32::MAX] {
        refused(notify(exo_user::FrameNumber(frame), capability::OWN), Error::NoFrame);
    }
    let [own] = ground::frames();
    ground::free(&[own]);
    refused_with(notify(own, capability::OWN), &[Error::NoFrame, Error::NotDominated]);
}

/// What is no clause, in a frame of the program's own.
fn malformed() {
    let frame = ground::bound(SHARED, DATA);
    for (offset, error) in
        [(FIRST_OFFSET + 1, ClauseError::Unaligned), (4096, ClauseError::OutsideFrame)]
    {
        let clauses = [at_least(FIRST_OFFSET, 0), at_least(offset, 0)];
        same("a crooked clause", watched().arm(0, &clauses), Err(ArmError::Clause(1, error)));
    }
    same("too many", watched().arm(63, &[at_least(FIRST_OFFSET, 0); 2]), Err(ArmError::NoRoom));
    same("none of them is there", granted("to say so", predicate::notify(frame, 0)), false);
    // Unaligned words, and such behind the frame's end, without asking the library.
    for offset in [1_u64, 4, 4093, 4096, 0xfff8, 0xffff] {
        ground::store(SHARED, 4 << 16 | offset);
        ground::store(SHARED + 16, u64::MAX);
        same("it wakes who wrote it", granted("to say so", predicate::notify(frame, 0)), true);
        holds("the event came", control::take(Event::Predicate));
    }
    ground::free(&[frame]);
}

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    foreign(start.archive_frame);
    malformed();
    let meeting = Meeting::open();
    let shared = ground::bound(SHARED, DATA);
    granted("to say so", predicate::notify(shared, 0));
    let goal = [at_least(FIRST_OFFSET, 7), at_least(FIRST_OFFSET + 8, 1)];
    same("a predicate", watched().arm(5, &goal), Ok(()));
    let cpu = (tables::system().cpus - 1) as u32;
    let sleeper = Fork::start(start, Some(meeting), &[cpu], sleeps, 0);
    granted("to share it", fork::share(sleeper.name, SHARED, shared, DATA));
    granted("to give it away", frame::transfer(&[shared], sleeper.name, capability::OWN));
    wait("it sleeps", || Meeting::word(SLEPT).load(SeqCst) == 1);
    watched().word(FIRST_OFFSET).store(7, SeqCst);
    for _ in 0..STORM {
        same("one half of it holds", predicate::notify(shared, 0), Ok(false));
    }
    same("nobody was woken", Meeting::word(SLEPT).load(SeqCst), 1);
    watched().word(FIRST_OFFSET + 8).store(1, SeqCst);
    environment::sleep(time::now() + time::MILLISECOND);
    same("nor by what nobody has said", Meeting::word(SLEPT).load(SeqCst), 1);
    same("it holds", predicate::notify(shared, 0), Ok(true));
    wait("it wakes", || Meeting::word(HELD).load(SeqCst) == 1);
    wait("it sleeps again", || Meeting::word(SLEPT).load(SeqCst) == 2);
    // The frame is taken away from the sleeper.
    let (name, rights) = (sleeper.name, capability::REVOKE);
    granted("to ask", revocation::revoke(name, rights, Kind::Frames, SPARE, 0, 0));
    wait("it is told of the loss", || Meeting::word(LOST).load(SeqCst) == 1);
    wait("it is free", || frame::allocate(&mut [shared], capability::OWN).is_ok());
    same("its predicate is gone", predicate::notify(shared, 0), Ok(false));
    same("who had it had nothing of that", Meeting::word(SLEPT).load(SeqCst), 2);
    ground::free(&[shared]);
    sleeper.end();
    0
}
