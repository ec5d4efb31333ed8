//! What the kernel's tables say, in a form that can be shown.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libos_net::exo_user::abi::tables::{
    EndReason, EnvEntry, EnvState, FrameState, NO_RING, Statistics as Counters, SystemPage,
};
use libos_net::exo_user::{EnvName, tables, time};
use serde::Serialize;

/// What nobody holds.
const FREE: &str = "(free)";
/// What no program can hold.
const KERNEL: &str = "(kernel)";
/// The most parts of the map.
const MAP_PARTS: usize = 1024;

/// Everything that `/state.json` tells.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the fields of the kernel's tables, under their names there")]
pub struct State {
    pub system: System,
    pub environments: Vec<Environment>,
    /// Who holds how many frames: environments, and what nobody holds.
    pub frames: Vec<Owner>,
    /// Whose the memory is, from the first frame to the last: a sample of each of its parts.
    pub map: Vec<Run>,
    /// For each CPU the holders of its positions.
    pub slices: Vec<Vec<Option<String>>>,
    pub filters: Vec<Filter>,
    pub rings: Vec<Ring>,
    pub revocations: Revocations,
    pub statistics: Statistics,
    pub web: Served,
}

/// What the server itself has to tell.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Served {
    /// Answers so far, this one not included.
    pub answers: u64,
    /// How many of them were errors.
    pub refusals: u64,
    /// Spare frames that it holds.
    pub reserve: u64,
    /// Frames of the reserve that it gave back when asked.
    pub given_back: u64,
    /// Frames of the reserve that were taken by force.
    pub lost: u64,
}

/// The machine.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "as in `State`")]
pub struct System {
    pub time_ns: u64,
    pub slice_ns: u64,
    pub cpus: u64,
    pub positions: u64,
    pub frames_total: u64,
    pub frames_free: u64,
}

/// An environment.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "as in `State`")]
pub struct Environment {
    /// The name in hexadecimal digits: as a number it may be too large for some readers.
    pub name: String,
    pub label: String,
    pub state: &'static str,
    /// Why it ended, if it has.
    pub end: Option<End>,
    pub frames: Frames,
    pub slices: u64,
    pub filters: u64,
    pub rings: u64,
    pub asks: u64,
    pub surrendered: u64,
    pub repossessed: u64,
    pub run_time_ns: u64,
    pub excess_ns: u64,
    pub calls: u64,
    pub upcalls: u64,
    pub exceptions: u64,
    pub refills: u64,
}

/// Why an environment ended.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "as in `State`")]
pub struct End {
    pub reason: &'static str,
    pub code: u64,
}

/// An environment's account of frames.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "as in `State`")]
pub struct Frames {
    pub held: u64,
    pub limit: u64,
    pub floor: u64,
    pub donated: u64,
}

/// Frames with the same owner, counted in the table of frames.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Owner {
    /// The label of the environment; `free` or `kernel` in brackets for what none holds.
    pub owner: String,
    /// How many frames.
    pub frames: u64,
    /// How many of them it has donated to the kernel for its own tables.
    pub donated: u64,
}

/// Neighbouring parts of the memory with the same owner: the owner and how many parts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Run(pub String, pub u64);

/// A packet filter or a reservation.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Filter {
    /// Its id.
    pub id: usize,
    /// The label of its holder.
    pub holder: String,
    /// The ring that it leads to; none: a reservation.
    pub ring: Option<u64>,
    /// Packets matched.
    pub matches: u64,
    /// Packets matched that found the ring full.
    pub dropped: u64,
}

/// A receive ring.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ring {
    /// Its id.
    pub id: usize,
    /// The label of its holder.
    pub holder: String,
    /// Its packet slots.
    pub slots: u64,
    /// Packets delivered.
    pub delivered: u64,
    /// Packets that found it full.
    pub dropped: u64,
}

/// The abort protocol so far, for all environments together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Revocations {
    /// How often somebody was asked.
    pub asks: u64,
    /// Names given back by choice.
    pub surrendered: u64,
    /// Names taken by force.
    pub repossessed: u64,
}

/// The kernel's counters.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "as in `State`")]
pub struct Statistics {
    pub calls: u64,
    pub refused: u64,
    pub exceptions: u64,
    pub refills: u64,
    pub upcalls: u64,
    pub interrupts: u64,
    pub switches: u64,
    pub idle_ns: u64,
    pub received: u64,
    pub unclaimed: u64,
    pub sent: u64,
    pub created: u64,
    pub ended: u64,
}

/// Reads the kernel's tables: loads only, no call.
pub fn read() -> State {
    let page = tables::system();
    let counters = tables::statistics();
    let entries = tables::environments();
    let label_of = |holder: u64| {
        let entry = entries.get(EnvName(holder).index()).filter(|entry| entry.name == holder);
        entry.map_or_else(|| "(ended)".to_owned(), |entry| tables::label(&entry).to_owned())
    };
    let filters =
        (tables::filters().iter()).filter(|(_, entry)| entry.holder != 0).map(|(id, entry)| {
            Filter {
                id,
                holder: label_of(entry.holder),
                ring: (entry.ring != NO_RING).then_some(entry.ring),
                matches: entry.matches,
                dropped: entry.dropped,
            }
        });
    let rings = tables::rings().iter().filter(|(_, entry)| entry.holder != 0).map(|(id, entry)| {
        let (slots, delivered, dropped) = (entry.slots, entry.delivered, entry.dropped);
        Ring { id, holder: label_of(entry.holder), slots, delivered, dropped }
    });
    let holders: Vec<_> = (tables::slices().iter())
        .map(|(_, entry)| (entry.holder != 0).then(|| label_of(entry.holder)))
        .collect();
    let used = entries.iter().filter(|(_, entry)| entry.state != EnvState::Free as u64);
    let environments: Vec<_> = used.map(|(_, entry)| environment(&entry)).collect();
    State {
        system: System {
            time_ns: time::now(),
            slice_ns: page.slice,
            cpus: page.cpus,
            positions: page.positions,
            frames_total: page.frames_total,
            frames_free: page.frames_free,
        },
        frames: owners(&page, &environments),
        map: map(&page),
        environments,
        slices: holders.chunks(page.positions.max(1) as usize).map(<[_]>::to_vec).collect(),
        filters: filters.collect(),
        rings: rings.collect(),
        revocations: Revocations {
            asks: counters.asks,
            surrendered: counters.surrendered,
            repossessed: counters.repossessed,
        },
        statistics: statistics(&counters),
        web: Served::default(),
    }
}

/// Who holds how many frames, by the accounts.
fn owners(page: &SystemPage, environments: &[Environment]) -> Vec<Owner> {
    let mut owners: Vec<_> = (environments.iter())
        .map(|one| Owner {
            owner: one.label.clone(),
            frames: one.frames.held,
            donated: one.frames.donated,
        })
        .collect();
    let held: u64 = owners.iter().map(|owner| owner.frames).sum();
    let rest = page.frames_total.saturating_sub(held).saturating_sub(page.frames_free);
    for (owner, frames) in [(KERNEL, rest), (FREE, page.frames_free)] {
        owners.push(Owner { owner: owner.to_owned(), frames, donated: 0 });
    }
    owners
}

/// Looks at one frame in each part of the memory. All of them would be too many for each answer.
fn map(page: &SystemPage) -> Vec<Run> {
    let frames = tables::frames();
    let environments = tables::environments();
    let step = (page.frames_total as usize).div_ceil(MAP_PARTS).max(1);
    let mut runs: Vec<Run> = Vec::new();
    let mut last = None;
    for frame in (0..frames.len()).step_by(step).filter_map(|number| frames.get(number)) {
        let holder = match FrameState::from_number(frame.state) {
            Some(FrameState::Free) => Holder::Nobody,
            Some(FrameState::Held | FrameState::Donated) => Holder::Slot(frame.owner),
            Some(FrameState::Reserved) | None => Holder::Kernel,
        };
        match runs.last_mut().filter(|_| last == Some(holder)) {
            Some(run) => run.1 += 1,
            None => {
                let owner = match holder {
                    Holder::Nobody => FREE.to_owned(),
                    Holder::Kernel => KERNEL.to_owned(),
                    Holder::Slot(slot) => (environments.get(slot.into()))
                        .map_or_else(String::new, |entry| tables::label(&entry).to_owned()),
                };
                runs.push(Run(owner, 1));
            }
        }
        last = Some(holder);
    }
    runs
}

/// Whose a frame is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Kernel,
    Slot(u16),
}

fn environment(entry: &EnvEntry) -> Environment {
    let state = EnvState::from_number(entry.state);
    let reason = match EndReason::from_number(entry.end_reason) {
        Some(EndReason::Exited) => "exited",
        Some(EndReason::Destroyed) => "destroyed",
        Some(EndReason::Exception) => "exception",
        Some(EndReason::UpcallStack) => "no upcall stack",
        Some(EndReason::Overrun) => "overrun",
        None => "unknown",
    };
    Environment {
        name: format!("{:#x}", entry.name),
        label: tables::label(entry).to_owned(),
        state: match state {
            Some(EnvState::Free) => "free",
            Some(EnvState::Created) => "created",
            Some(EnvState::Runnable | EnvState::Preempted) => "runnable",
            Some(EnvState::Running) => "running",
            Some(EnvState::Asleep) => "asleep",
            Some(EnvState::Ended) => "ended",
            None => "unknown",
        },
        end: (state == Some(EnvState::Ended)).then_some(End { reason, code: entry.end_code }),
        frames: Frames {
            held: entry.frames,
            limit: entry.frames_limit,
            floor: entry.frames_floor,
            donated: entry.frames_donated,
        },
        slices: entry.slices,
        filters: entry.filters,
        rings: entry.rings,
        asks: entry.asks,
        surrendered: entry.surrendered,
        repossessed: entry.repossessed,
        run_time_ns: entry.run_time,
        excess_ns: entry.excess,
        calls: entry.calls,
        upcalls: entry.upcalls,
        exceptions: entry.exceptions,
        refills: entry.refills,
    }
}

fn statistics(counters: &Counters) -> Statistics {
    Statistics {
        calls: counters.calls,
        refused: counters.refused,
        exceptions: counters.exceptions,
        refills: counters.refills,
        upcalls: counters.upcalls,
        interrupts: counters.interrupts,
        switches: counters.switches,
        idle_ns: counters.idle,
        received: counters.received,
        unclaimed: counters.unclaimed,
        sent: counters.sent,
        created: counters.created,
        ended: counters.ended,
    }
}
