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
use exo_user::abi::tables::{EnvEntry, EnvState};
use exo_user::time::{self, MILLISECOND};
use exo_user::{Kind, Start, environment, println, tables};

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
    surrendered: u64,
    repossessed: u64,
}

impl Seen {
    fn new(entry: &EnvEntry) -> Self {
        Self {
            name: entry.name,
            label: tables::label(entry).to_string(),
            held: [0; KINDS.len()],
            limit: 0,
            surrendered: entry.surrendered,
            repossessed: entry.repossessed,
        }
    }

    fn look(&mut self, entry: &EnvEntry, now: u64) {
        let label = &self.label;
        for ((kind, held), before) in KINDS.into_iter().zip(&mut self.held) {
            let held = held(entry);
            if held != *before {
                *before = held;
                println!("@lab {now} held {label} {} {held}", kind.label());
            }
        }
        if entry.frames_limit != self.limit {
            self.limit = entry.frames_limit;
            println!("@lab {now} limit {label} frames {}", self.limit);
        }
        for (word, before, value) in [
            ("surrendered", &mut self.surrendered, entry.surrendered),
            ("repossessed", &mut self.repossessed, entry.repossessed),
        ] {
            if value > *before {
                println!("@lab {now} {word} {label} frames {}", value - *before);
            }
            *before = value;
        }
    }
}

fn is_alive(entry: &EnvEntry) -> bool {
    !matches!(EnvState::from_number(entry.state), None | Some(EnvState::Free | EnvState::Ended))
}

fn main(start: &Start<'_>) -> u64 {
    let period = start.number("period", 1) * MILLISECOND;
    let mut programs: Vec<Seen> = Vec::new();
    let mut free = u64::MAX;
    loop {
        let now = time::now();
        for (_, entry) in tables::environments().iter().filter(|(_, entry)| is_alive(entry)) {
            if !programs.iter().any(|seen| seen.name == entry.name) {
                programs.push(Seen::new(&entry));
            }
        }
        programs.retain_mut(|seen| {
            let named = tables::environment_named(exo_user::EnvName(seen.name));
            match named.filter(is_alive) {
                Some(entry) => {
                    seen.look(&entry, now);
                    true
                }
                None => {
                    println!("@lab {now} ended {}", seen.label);
                    false
                }
            }
        });
        let left = tables::system().frames_free;
        if left != free {
            free = left;
            println!("@lab {now} free {free}");
        }
        environment::sleep(now + period);
    }
}
