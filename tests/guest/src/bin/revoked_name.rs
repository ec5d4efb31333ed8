//! Rule: a name that was taken back is nobody else's: neither what they could forge below it, nor the
//! pages that they have bound by it, on whatever processor they run. What else they have stays.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::{
    Capability, EnvName, Error, FrameNumber, Rights, Start, capability, environment, frame, tables,
    time,
};
use guest_probes::attempt;
use guest_probes::child;
use guest_probes::fork::{Fork, Meeting};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{granted, holds, refused, same};

exo_user::program!(main);

/// The last part of the name that is shared, and of one made of it.
const PART: u8 = 77;
/// Where the program keeps the name, where the child is given it, and where it keeps what it makes of it.
const KEPT: u32 = 11;
const GIVEN: u32 = 5;
const MADE: u32 = 6;
/// Pages of the shared frames, and one of the child's own.
const SHARED: u64 = page(40);
const OWN: u64 = page(41);
/// The words of the meeting page: the frame, how far both are, and the capability.
const FRAME: usize = 0;
const STAGE: usize = 1;
const GIVEN_WORDS: usize = 2;

fn both() -> Rights {
    Rights::READ | Rights::WRITE
}

fn wait(stage: u64) {
    let end = time::now() + 10 * time::SECOND;
    while Meeting::word(STAGE).load(SeqCst) < stage {
        holds(format_args!("stage {stage} comes"), time::now() < end);
        environment::sleep(time::now() + 100_000);
    }
}

fn bind(slot: u32, frame: FrameNumber) -> Result<(), Error> {
    ground::bind_by(SHARED, frame, DATA, slot)
}

/// The child: binds by the name, and looks what is left of it.
extern "sysv64" fn uses(_: u64) -> ! {
    attempt::prepare();
    wait(1);
    let words = [GIVEN_WORDS, GIVEN_WORDS + 1].map(|index| Meeting::word(index).load(SeqCst));
    let name = Capability::from_words(words).map(|given| given.name).unwrap_or_default();
    let frame = FrameNumber(Meeting::word(FRAME).load(SeqCst) as u32);
    let below = name.child(1).unwrap_or_default();
    let made = Capability { name: below, rights: Rights::READ };
    granted("to derive", capability::grant(EnvName::NONE, 0, MADE, GIVEN, made));
    granted("to bind by the name", bind(GIVEN, frame));
    ground::store(SHARED, 1);
    ground::bound(OWN, DATA);
    // It cannot take the name back from who gave it, nor from all.
    for (source, name, error) in [
        (GIVEN, name, Error::NotDominated),
        (capability::OWN, name, Error::NotDominated),
        (capability::OWN, capability::programs(), Error::NotDominated),
        (9, name, Error::NoCapability),
    ] {
        let [low, high] = Capability { name, rights: both() }.to_words();
        refused(exo_user::Call::CapabilityRevoke { source, low, high, frame: 0 }, error);
    }
    Meeting::word(STAGE).store(2, SeqCst);
    wait(3);
    holds("the page is gone", attempt::read(SHARED).is_some());
    same("to bind it again", bind(GIVEN, frame), Err(Error::NoCapability));
    same("to bind it by what was made", bind(MADE, frame), Err(Error::NoCapability));
    same("to bind it by its own name", bind(capability::OWN, frame), Err(Error::NotDominated));
    holds("its own page stays", attempt::read(OWN).is_none());
    environment::exit(7);
}

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    let meeting = Meeting::open();
    let own = child::own_name();
    let name = own.child(PART).unwrap_or_default();
    let shared = Capability { name, rights: both() | Rights::GRANT };
    granted("a name", capability::grant(EnvName::NONE, 0, KEPT, capability::OWN, shared));
    let mut frames = [FrameNumber::ANY];
    granted("a frame", frame::allocate(&mut frames, KEPT));
    granted("to bind it", ground::bind_by(SHARED, frames[0], DATA, KEPT));
    let cpu = (tables::system().cpus - 1) as u32;
    let user = Fork::start(start, Some(meeting), &[cpu], uses, 0);
    let capability = Capability { rights: both(), ..shared };
    for (index, word) in (GIVEN_WORDS..).zip(capability.to_words()) {
        Meeting::word(index).store(word, SeqCst);
    }
    let (authority, source) = (capability::OWN, KEPT);
    granted("to grant", capability::grant(user.name, authority, GIVEN, source, capability));
    Meeting::word(FRAME).store(frames[0].0.into(), SeqCst);
    Meeting::word(STAGE).store(1, SeqCst);
    wait(2);
    let mappings = tables::frames().get(frames[0].0 as usize).map(|entry| entry.bindings);
    same("bindings of both", mappings, Some(2));
    granted("to revoke", capability::revoke(KEPT, capability));
    Meeting::word(STAGE).store(3, SeqCst);
    same("what the child wrote", ground::load(SHARED), 1);
    let end = time::now() + 10 * time::SECOND;
    while user.end_code().is_none() && time::now() < end {
        environment::sleep(time::now() + 100_000);
    }
    same("the child's code", user.end_code(), Some(7));
    user.end();
    ground::free(&frames);
    granted("to empty a slot", capability::drop(KEPT));
    0
}
