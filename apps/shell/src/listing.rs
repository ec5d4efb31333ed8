//! What the kernel's tables say, as lines.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use libos_posix::exo_user::abi::tables::{EnvEntry, EnvState, FrameState, NO_RING};
use libos_posix::exo_user::{EnvName, tables};
use libos_posix::println;

/// The environments that exist.
pub(crate) fn living() -> impl Iterator<Item = (usize, EnvEntry)> {
    tables::environments().iter().filter(|(_, entry)| entry.state != EnvState::Free as u64)
}

pub(crate) fn environments() -> Result<(), String> {
    println!(
        "{:>4} {:<16} {:<8} {:>11} {:>7} {:>9} {:>8} {:>7} {:>5}",
        "slot", "name", "state", "frames", "slices", "calls", "upcalls", "run ms", "debt"
    );
    for (slot, entry) in living() {
        println!(
            "{slot:>4} {:<16} {:<8} {:>11} {:>7} {:>9} {:>8} {:>7} {:>5}",
            tables::label(&entry),
            state(entry.state),
            alloc::format!("{}/{}", entry.frames, entry.frames_limit),
            entry.slices,
            entry.calls,
            entry.upcalls,
            entry.run_time / 1_000_000,
            entry.frames.saturating_sub(entry.frames_limit),
        );
    }
    Ok(())
}

fn state(number: u64) -> &'static str {
    match EnvState::from_number(number) {
        Some(EnvState::Free) => "free",
        Some(EnvState::Created) => "created",
        Some(EnvState::Runnable) => "runnable",
        Some(EnvState::Preempted) => "preempted",
        Some(EnvState::Running) => "running",
        Some(EnvState::Asleep) => "asleep",
        Some(EnvState::Ended) => "ended",
        None => "?",
    }
}

pub(crate) fn frames() -> Result<(), String> {
    let mut held = BTreeMap::<u16, (u64, u64)>::new();
    let (mut free, mut reserved) = (0_u64, 0_u64);
    for (_, entry) in tables::frames().iter() {
        match FrameState::from_number(entry.state) {
            Some(FrameState::Held) => held.entry(entry.owner).or_default().0 += 1,
            Some(FrameState::Donated) => held.entry(entry.owner).or_default().1 += 1,
            Some(FrameState::Free) => free += 1,
            Some(FrameState::Reserved) | None => reserved += 1,
        }
    }
    println!("{:>8}  {:<16} {:>8}", "frames", "owner", "donated");
    for (owner, (held, donated)) in held {
        let entry = tables::environments().get(owner.into()).unwrap_or_default();
        println!("{:>8}  {:<16} {donated:>8}", held + donated, tables::label(&entry));
    }
    println!("{free:>8}  (free)");
    println!("{reserved:>8}  (the kernel's, and holes)");
    Ok(())
}

pub(crate) fn slices() -> Result<(), String> {
    let system = tables::system();
    let positions = system.positions.max(1) as usize;
    println!("{} positions of {} us on each CPU", positions, system.slice / 1000);
    let (mut first, mut holder) = (0, None);
    let all = tables::slices();
    for (index, slice) in all.iter().chain([(all.len(), Default::default())]) {
        let same = holder == Some(slice.holder) && index % positions != 0 && index < all.len();
        if !same {
            print_run(first, index, positions, holder);
            (first, holder) = (index, Some(slice.holder));
        }
    }
    Ok(())
}

/// Prints a run of positions that one environment holds.
fn print_run(first: usize, end: usize, positions: usize, holder: Option<u64>) {
    if let Some(holder) = holder.filter(|&holder| holder != 0) {
        let (cpu, from) = (first / positions, first % positions);
        println!("cpu {cpu}: {from:>4} to {:>4}  {}", from + end - first - 1, name(holder));
    }
}

pub(crate) fn filters() -> Result<(), String> {
    println!("{:>6}  {:<16} {:>6} {:>10} {:>8}", "filter", "holder", "ring", "matches", "dropped");
    for (id, entry) in tables::filters().iter().filter(|(_, entry)| entry.holder != 0) {
        let ring = if entry.ring == NO_RING { "none".to_string() } else { entry.ring.to_string() };
        println!(
            "{id:>6}  {:<16} {ring:>6} {:>10} {:>8}",
            name(entry.holder),
            entry.matches,
            entry.dropped
        );
    }
    Ok(())
}

/// The label of the environment with this name.
fn name(word: u64) -> String {
    match tables::environment_named(EnvName(word)) {
        Some(entry) => tables::label(&entry).to_string(),
        None => alloc::format!("{word:#x}"),
    }
}
