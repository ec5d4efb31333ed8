//! recorder: writes down how many of each kind every program holds, whenever that changes, and what
//! is given back and taken, as lines for `cargo xtask lab`. All of it stands in tables that every
//! program can read.
//!
//! Arguments: `period=MILLISECONDS` between two looks.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use exo_user::abi::tables::{Cause, EnvEntry, EnvState, Move};
use exo_user::time::{self, MILLISECOND};
use exo_user::{EnvName, Kind, Start, environment, println, tables};

exo_user::program!(main);

/// Where a kind's holdings are in an entry.
type Held = fn(&EnvEntry) -> u64;

/// The kinds whose holdings are in everybody's tables.
const KINDS: [(Kind, Held); 4] = [
    (Kind::Frames, |entry| entry.frames),
    (Kind::Slices, |entry| entry.slices),
    (Kind::Filters, |entry| entry.filters),
    (Kind::Rings, |entry| entry.rings),
];

/// What was seen of a program when it was last looked at.
struct Seen {
    name: u64,
    label: String,
    held: [u64; KINDS.len()],
    limit: u64,
    ended: bool,
}

impl Seen {
    fn new(entry: &EnvEntry) -> Self {
        let label = tables::label(entry).to_string();
        Self { name: entry.name, label, held: [0; KINDS.len()], limit: 0, ended: false }
    }

    fn look(&mut self, now: u64) {
        let label = &self.label;
        let Some(entry) = tables::environment_named(EnvName(self.name)).filter(is_alive) else {
            self.ended = true;
            return println!("@lab {now} ended {label}");
        };
        for ((kind, held), before) in KINDS.into_iter().zip(&mut self.held) {
            let held = held(&entry);
            if held != *before {
                *before = held;
                println!("@lab {now} held {label} {} {held}", kind.label());
            }
        }
        if entry.frames_limit != self.limit {
            self.limit = entry.frames_limit;
            println!("@lab {now} limit {label} frames {}", self.limit);
        }
    }
}

fn is_alive(entry: &EnvEntry) -> bool {
    !matches!(EnvState::from_number(entry.state), None | Some(EnvState::Free | EnvState::Ended))
}

/// Reads the kernel's ring of moves.
#[derive(Default)]
struct Moves {
    read: u64,
}

impl Moves {
    /// Tells what was given back and taken since the last time; of what was taken at once, how many.
    fn tell(&mut self, programs: &[Seen]) {
        let mut last: Option<(Move, u64)> = None;
        let until = tables::system().moves_count;
        let kept = tables::moves().len() as u64;
        if until - self.read > kept {
            println!("@lab {} missed {}", time::now(), until - self.read - kept);
            self.read = until - kept;
        }
        while self.read < until {
            let entry = tables::moves().get((self.read % kept) as usize).unwrap_or_default();
            self.read += 1;
            let count = if entry.cause() == Some(Cause::Repossessed) { 1 } else { entry.count };
            match &mut last {
                Some((before, sum)) if is_same(before, &entry) => *sum += count,
                _ => {
                    let told = last.replace((entry, count));
                    told.iter().for_each(|(entry, count)| tell(programs, entry, *count));
                }
            }
        }
        last.iter().for_each(|(entry, count)| tell(programs, entry, *count));
    }
}

/// Whether two moves differ only in the name or the number of what moved.
fn is_same(one: &Move, other: &Move) -> bool {
    (one.time, one.victim, one.what) == (other.time, other.victim, other.what)
}

fn tell(programs: &[Seen], entry: &Move, count: u64) {
    let word = match entry.cause() {
        Some(Cause::Surrendered) => "surrendered",
        Some(Cause::Repossessed) => "repossessed",
        // Who asks and who gives says so.
        Some(Cause::Asked | Cause::Granted) | None => return,
    };
    let named = |name: u64| programs.iter().find(|seen| seen.name == name);
    let Some(victim) = named(entry.victim) else { return };
    let kind = entry.kind().map_or("", Kind::label);
    let to = named(entry.other).map_or("-", |seen| &seen.label);
    println!("@lab {} {word} {} {kind} {count} {to}", entry.time, victim.label);
}

fn main(start: &Start<'_>) -> u64 {
    let period = start.number("period", 1) * MILLISECOND;
    let mut programs: Vec<Seen> = Vec::new();
    let mut moves = Moves::default();
    let mut free = u64::MAX;
    loop {
        let now = time::now();
        for (_, entry) in tables::environments().iter().filter(|(_, entry)| is_alive(entry)) {
            if !programs.iter().any(|seen| seen.name == entry.name) {
                programs.push(Seen::new(&entry));
            }
        }
        moves.tell(&programs);
        programs.iter_mut().filter(|seen| !seen.ended).for_each(|seen| seen.look(now));
        let left = tables::system().frames_free;
        if left != free {
            free = left;
            println!("@lab {now} free {free}");
        }
        environment::sleep(now + period);
    }
}
