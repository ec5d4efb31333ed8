//! Rule: whatever is asked of whom, the books agree afterwards, and the record covers every loss.
//!
//! This program has three children, which hold frames and slices and answer each in its own way
//! ([`victim`]). It asks one of them at random for some of what it holds, waits until the debt is paid
//! or taken, and compares all that the kernel says about it ([`books`]). Now and then a child is ended
//! in the middle of it all. Arguments: `storms=N`, `seed=N`.
#![no_std]
#![no_main]

mod books;
mod victim;

use books::Books;
use exo_user::abi::tables::EnvState;
use exo_user::{
    EnvName, Error, FrameNumber, Kind, Start, capability, contract, environment, println,
    revocation, slice, tables, time,
};
use guest_probes::attempt;
use guest_probes::fork::{Fork, Meeting};
use guest_probes::ground;
use guest_probes::random::Random;
use guest_probes::rule::{holds, same};

exo_user::program!(main);

/// How many children there are.
const CHILDREN: usize = 3;
/// One of so many storms comes with the end of a child.
const ENDS: u64 = 150;
/// How long after its notice a debt may take to be paid, in nanoseconds: a busy host is slow.
const PATIENCE: u64 = 30 * time::SECOND;

/// Who is asked, and what of it has not been given back yet.
struct Child {
    fork: Fork,
    /// Frames and slices.
    owed: [u64; 2],
}

struct Storms<'a> {
    start: &'a Start<'a>,
    meeting: FrameNumber,
    random: Random,
    children: [Option<Child>; CHILDREN],
    asked: u64,
    refused: u64,
}

impl Storms<'_> {
    /// The child with this number, made if there is none.
    fn child(&mut self, index: usize) -> &mut Child {
        let (start, meeting) = (self.start, self.meeting);
        let random = &mut self.random;
        self.children[index].get_or_insert_with(|| {
            let cpus = tables::system().cpus;
            let homes: [u32; victim::SLICES] = core::array::from_fn(|_| random.below(cpus) as u32);
            let argument = index as u64 | random.next() << 8;
            // Names of their own, so that nobody can bind what is another's.
            let frames = (index as u8 + 1, victim::FRAMES, victim::FLOOR);
            let fork =
                Fork::start_with(frames, start, Some(meeting), &homes, victim::run, argument);
            Child { fork, owed: [0; 2] }
        })
    }

    /// One storm, and what the books say afterwards.
    fn storm(&mut self) {
        let index = self.random.below(CHILDREN as u64) as usize;
        if self.random.below(ENDS) == 0
            && let Some(child) = self.children[index].take()
        {
            child.fork.end();
            // What was asked of the others is theirs, and not for the next child.
            (0..CHILDREN).filter(|&other| other != index).for_each(|other| self.give_back(other));
        }
        if self.random.below(3) > 0 {
            self.give_back(index);
        }
        let kind = if self.random.below(4) == 0 { Kind::Slices } else { Kind::Frames };
        let most = if kind == Kind::Frames { victim::FRAMES } else { victim::SLICES as u64 };
        let count = 1 + self.random.below(most);
        let [own, wall] = [0; 2].map(|_| self.random.below(4) * time::MILLISECOND / 2);
        let child = self.child(index);
        let before = Books::of(child.fork.name);
        let name = child.fork.name;
        match revocation::revoke(name, capability::REVOKE, kind, count, own, wall) {
            Ok(_) => {
                child.owed[kind as usize] += count;
                self.asked += 1;
                let deadline = time::now() + own.max(wall) + PATIENCE;
                before.settle(name, kind, count, deadline);
            }
            Err(error) => {
                same("an ask that is refused", error, Error::BelowFloor);
                self.refused += 1;
            }
        }
        let entry = tables::environment_named(name).unwrap_or_default();
        let state = EnvState::from_number(entry.state);
        holds(
            format_args!("a child goes on: {state:?}, code {}", entry.end_code),
            state.is_some_and(|state| state != EnvState::Ended),
        );
    }

    /// Gives a child the right to hold what was asked for back.
    fn give_back(&mut self, index: usize) {
        let child = self.child(index);
        for (kind, owed) in [Kind::Frames, Kind::Slices].into_iter().zip(&mut child.owed) {
            if *owed > 0 {
                same("a grant", revocation::grant(child.fork.name, kind, *owed), Ok(()));
                *owed = 0;
            }
        }
        keep_running(child.fork.name);
    }

    /// Ends all children.
    fn end(&mut self) {
        for child in self.children.iter_mut().filter_map(Option::take) {
            child.fork.end();
        }
    }
}

/// Gives a child that has lost all of its slices one, without which it could not take any.
fn keep_running(child: EnvName) {
    let held = tables::environment_named(child).map_or(1, |entry| entry.slices);
    if held > 0 {
        return;
    }
    let positions = tables::system().positions.max(1) as usize;
    let free = tables::slices().iter().find(|(_, entry)| entry.holder == 0);
    if let Some((index, _)) = free {
        let (cpu, position) = ((index / positions) as u32, (index % positions) as u32);
        same("a slice", slice::take(cpu, position, child, capability::OWN), Ok(()));
    }
}

fn main(start: &Start<'_>) -> u64 {
    let (count, seed) = (start.number("storms", 100), start.number("seed", start.seed));
    println!("storms: seed {seed}");
    attempt::prepare();
    let meeting = Meeting::open();
    let limits = || Kind::ALL.map(|kind| contract::account(kind).limit);
    let before = (ground::held(), limits());
    let mut storms = Storms {
        start,
        meeting,
        random: Random::new(seed),
        children: [const { None }; CHILDREN],
        asked: 0,
        refused: 0,
    };
    for index in 0..CHILDREN {
        storms.child(index);
    }
    for number in 0..count {
        storms.storm();
        if (number + 1).is_multiple_of(1000) {
            println!("storms: {} over", number + 1);
        }
    }
    storms.end();
    same("frames and limits", (ground::held(), limits()), before);
    same("children", contract::account(Kind::Environments).held, 0);
    let [rounds, told, kernel] = [0, 1, 2].map(victim::count);
    println!(
        "storms: {} asks, {} refused, {told} losses told, {kernel} of kernel memory, in {rounds} rounds: \
         survived",
        storms.asked, storms.refused
    );
    environment::exit(u64::from(told == 0));
}
