//! The kernel's tables as JSON, for the host.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use exo_user::abi::layout::LABEL;
use exo_user::abi::tables::{self as abi, EndReason, EnvEntry, EnvState, FrameState, NO_RING};
use exo_user::{EnvName, println, tables};
use serde::{Serialize, Serializer};

/// The most bytes in one line: with the words before them, the console keeps them in one piece.
const PART: usize = 200;

/// All tables.
#[derive(Serialize)]
struct Tables {
    system: System,
    environments: Vec<Environment>,
    /// Frames by who holds them; those that nobody holds under `free`.
    frames: BTreeMap<String, u64>,
    /// The holder of each slice position of each CPU in turn.
    slices: Vec<Option<String>>,
    filters: Vec<Filter>,
    rings: Vec<Ring>,
    #[serde(with = "Statistics")]
    statistics: abi::Statistics,
}

#[derive(Serialize)]
struct System {
    time: u64,
    slice: u64,
    cpus: u64,
    frames_total: u64,
    frames_free: u64,
}

/// An environment, as [`EnvEntry`] has it.
#[derive(Serialize)]
#[serde(transparent)]
struct Environment(#[serde(with = "EnvironmentFields")] EnvEntry);

#[derive(Serialize)]
#[serde(remote = "EnvEntry")]
struct EnvironmentFields {
    #[serde(rename = "slot", serialize_with = "slot")]
    name: u64,
    #[serde(serialize_with = "label_of")]
    parent: u64,
    #[serde(serialize_with = "state")]
    state: u64,
    #[serde(serialize_with = "reason")]
    end_reason: u64,
    end_code: u64,
    end_rip: u64,
    end_address: u64,
    run_time: u64,
    calls: u64,
    upcalls: u64,
    exceptions: u64,
    refills: u64,
    excess: u64,
    frames: u64,
    frames_limit: u64,
    frames_floor: u64,
    frames_donated: u64,
    slices: u64,
    filters: u64,
    rings: u64,
    asks: u64,
    surrendered: u64,
    repossessed: u64,
    #[serde(skip)]
    reserved: u64,
    #[serde(serialize_with = "text")]
    label: [u8; LABEL],
}

#[derive(Serialize)]
struct Filter {
    id: usize,
    holder: String,
    ring: Option<u64>,
    matches: u64,
    dropped: u64,
}

#[derive(Serialize)]
struct Ring {
    id: usize,
    holder: String,
    slots: u64,
    delivered: u64,
    dropped: u64,
}

#[derive(Serialize)]
#[serde(remote = "abi::Statistics")]
struct Statistics {
    calls: u64,
    refused: u64,
    exceptions: u64,
    refills: u64,
    upcalls: u64,
    interrupts: u64,
    switches: u64,
    idle: u64,
    received: u64,
    unclaimed: u64,
    sent: u64,
    asks: u64,
    surrendered: u64,
    repossessed: u64,
    created: u64,
    ended: u64,
}

/// Prints all tables, in parts that the host puts together.
pub(crate) fn print_tables() {
    let tables = Tables {
        system: system(),
        environments: environments(),
        frames: frames(),
        slices: tables::slices().iter().map(|(_, slice)| label(slice.holder)).collect(),
        filters: filters(),
        rings: rings(),
        statistics: tables::statistics(),
    };
    match serde_json::to_string(&tables) {
        Ok(text) => print_parts(&text),
        Err(error) => println!("the tables cannot be written: {error}"),
    }
}

fn print_parts(text: &str) {
    let parts: Vec<&str> = parts(text).collect();
    for (part, number) in parts.iter().zip(1..) {
        println!("@tables-part {number}/{} {part}", parts.len());
    }
}

/// Cuts a text where no character is.
fn parts(mut text: &str) -> impl Iterator<Item = &str> {
    core::iter::from_fn(move || {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART));
        text = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// The label of a living or ended environment; `None` for nobody.
fn label(name: u64) -> Option<String> {
    let entry = tables::environment_named(EnvName(name)).filter(|_| name != 0)?;
    Some(tables::label(&entry).to_string())
}

fn holder(name: u64) -> String {
    label(name).unwrap_or_default()
}

fn system() -> System {
    let page = tables::system();
    System {
        time: page.time,
        slice: page.slice,
        cpus: page.cpus,
        frames_total: page.frames_total,
        frames_free: page.frames_free,
    }
}

fn environments() -> Vec<Environment> {
    let taken = |entry: &EnvEntry| entry.state != EnvState::Free as u64;
    tables::environments()
        .iter()
        .filter(|(_, entry)| taken(entry))
        .map(|(_, mut entry)| {
            if entry.state != EnvState::Ended as u64 {
                entry.end_reason = u64::MAX;
            }
            Environment(entry)
        })
        .collect()
}

fn slot<S: Serializer>(name: &u64, out: S) -> Result<S::Ok, S::Error> {
    EnvName(*name).index().serialize(out)
}

fn label_of<S: Serializer>(name: &u64, out: S) -> Result<S::Ok, S::Error> {
    label(*name).serialize(out)
}

fn state<S: Serializer>(number: &u64, out: S) -> Result<S::Ok, S::Error> {
    EnvState::from_number(*number).map(|state| format!("{state:?}").to_lowercase()).serialize(out)
}

fn reason<S: Serializer>(number: &u64, out: S) -> Result<S::Ok, S::Error> {
    EndReason::from_number(*number).map(|end| format!("{end:?}").to_lowercase()).serialize(out)
}

fn text<S: Serializer>(label: &[u8; LABEL], out: S) -> Result<S::Ok, S::Error> {
    tables::text(label).serialize(out)
}

fn frames() -> BTreeMap<String, u64> {
    let mut by_slot = BTreeMap::new();
    let mut free = 0;
    for (_, frame) in tables::frames().iter() {
        match FrameState::from_number(frame.state) {
            Some(FrameState::Free) => free += 1,
            Some(FrameState::Held | FrameState::Donated) => {
                *by_slot.entry(frame.owner).or_insert(0) += 1;
            }
            Some(FrameState::Reserved) | None => {}
        }
    }
    let environments = tables::environments();
    let mut frames: BTreeMap<String, u64> = BTreeMap::new();
    for (slot, count) in by_slot {
        let entry = environments.get(slot.into()).unwrap_or_default();
        *frames.entry(tables::label(&entry).to_string()).or_default() += count;
    }
    frames.insert("free".to_string(), free);
    frames
}

fn filters() -> Vec<Filter> {
    tables::filters()
        .iter()
        .filter(|(_, filter)| filter.holder != 0)
        .map(|(id, filter)| Filter {
            id,
            holder: holder(filter.holder),
            ring: (filter.ring != NO_RING).then_some(filter.ring),
            matches: filter.matches,
            dropped: filter.dropped,
        })
        .collect()
}

fn rings() -> Vec<Ring> {
    tables::rings()
        .iter()
        .filter(|(_, ring)| ring.holder != 0)
        .map(|(id, ring)| Ring {
            id,
            holder: holder(ring.holder),
            slots: ring.slots,
            delivered: ring.delivered,
            dropped: ring.dropped,
        })
        .collect()
}
