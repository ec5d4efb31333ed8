//! Rule: a frame that was taken by force is out of reach of everybody, also of one that keeps a
//! mapping for its sibling, on another processor if there is one.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::{Kind, Start, capability, environment, frame, revocation, tables, time};
use guest_probes::attempt;
use guest_probes::fork::{self, Fork, Meeting, SPARE, wait};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{granted, holds, same};

exo_user::program!(main);

/// Where the sibling sees the frame.
const SHARED: u64 = page(960);
/// What is in the frame, and what is there when it is another's.
const CLEAR: u64 = 0xc1ea_0c1e_a000_0000;
const FOUL: u64 = 0xf001_f001_f001_f001;
/// The words of the meeting page: the round that the sibling is to look in, the last word that it has
/// seen, and the round in which it saw nothing any more.
const ROUND: usize = 0;
const SEEN: usize = 1;
const GONE: usize = 2;
const ROUNDS: u64 = 10;

/// Looks at the frame until it is gone, in each round.
extern "sysv64" fn looks(_: u64) -> ! {
    attempt::prepare();
    let mut done = 0;
    loop {
        let round = Meeting::word(ROUND).load(SeqCst);
        if round == done {
            environment::sleep(time::now() + 50_000);
            continue;
        }
        let mut pair = [SHARED, CLEAR];
        let code = guest_probes::code!("mov rax, [rdi]", "mov rax, [rax]", "mov [rdi + 8], rax");
        // SAFETY: it reads the page and writes the second word of the pair.
        let fault = unsafe { attempt::attempt(code, pair.as_mut_ptr() as u64) };
        if fault.is_some() {
            done = round;
            Meeting::word(GONE).store(round, SeqCst);
        } else {
            // SAFETY: the pair is on this stack.
            Meeting::word(SEEN).store(unsafe { pair.as_ptr().add(1).read_volatile() }, SeqCst);
        }
    }
}

/// Holds what it was given, and hears nothing.
extern "sysv64" fn holds_on(_: u64) -> ! {
    loop {
        environment::sleep(time::NEVER);
    }
}

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    let meeting = Some(Meeting::open());
    let cpu = (tables::system().cpus - 1) as u32;
    let sibling = Fork::start(start, meeting, &[cpu], looks, 0);
    let owner = Fork::start(start, None, &[0], holds_on, 0);
    for round in 1..=ROUNDS {
        let [taken] = ground::frames();
        granted("to see it", ground::bind(page(20), taken, DATA));
        ground::store(page(20), CLEAR);
        granted("to share it", fork::share(sibling.name, SHARED, taken, DATA));
        granted("to give it away", frame::transfer(&[taken], owner.name, capability::OWN));
        Meeting::word(SEEN).store(0, SeqCst);
        Meeting::word(ROUND).store(round, SeqCst);
        wait("the sibling sees it", || Meeting::word(SEEN).load(SeqCst) == CLEAR);
        let (name, rights) = (owner.name, capability::REVOKE);
        granted("to ask", revocation::revoke(name, rights, Kind::Frames, SPARE, 0, 0));
        // As soon as it is free it is this program's, and has another content.
        wait("it is taken", || frame::allocate(&mut [taken], capability::OWN).is_ok());
        granted("to see it", ground::bind(page(21), taken, DATA));
        ground::store(page(21), FOUL);
        wait("it is gone", || Meeting::word(GONE).load(SeqCst) == round);
        same("what the sibling saw", Meeting::word(SEEN).load(SeqCst), CLEAR);
        holds("the old page is gone", attempt::read(page(20)).is_some());
        ground::free(&[taken]);
        granted("to grant it", revocation::grant(owner.name, Kind::Frames, SPARE));
    }
    sibling.end();
    owner.end();
    0
}
