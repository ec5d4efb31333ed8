//! Asking a program for some of what it holds.

use crate::listing::living;
use crate::number;
use alloc::format;
use alloc::string::String;
use libos_posix::exo_user::abi::tables::EnvEntry;
use libos_posix::exo_user::{
    EnvName, Error, Kind, capability, environment, revocation, tables, time,
};
use libos_posix::println;

/// The notice where none is named, in milliseconds.
const NOTICE: u64 = 20;
/// How long after its deadline a debt must be paid, by choice or by force, in nanoseconds.
const PATIENCE: u64 = 5 * time::SECOND;

/// What is to be asked, of whom.
struct Ask {
    victim: EnvEntry,
    kind: Kind,
    count: u64,
    /// In nanoseconds, by the clock and by the victim's run time.
    notice: u64,
}

/// The words behind `revoke`.
fn parse(words: &[&str]) -> Result<Ask, String> {
    let (program, kind, count, notice) = match *words {
        [program, kind, count] => (program, kind, count, NOTICE),
        [program, kind, count, "--deadline", milliseconds] => {
            (program, kind, count, number(milliseconds)?)
        }
        _ => return Err(String::from("revoke PROGRAM KIND N [--deadline MS]")),
    };
    let found = living().find(|(_, entry)| tables::label(entry) == program);
    let (_, victim) = found.ok_or_else(|| format!("{program}: no such program"))?;
    let labelled = Kind::ALL.into_iter().find(|known| known.label() == kind);
    let kind = labelled.ok_or_else(|| format!("{kind}: no kind of resource"))?;
    let notice = notice.saturating_mul(time::MILLISECOND);
    Ok(Ask { victim, kind, count: number(count)?, notice })
}

/// Asks a program for some of a kind, waits until the debt is paid or taken, and gives the right to
/// hold them back.
pub(crate) fn revoke(words: &[&str]) -> Result<(), String> {
    let Ask { victim: before, kind, count, notice } = parse(words)?;
    let (victim, name) = (EnvName(before.name), tables::label(&before));
    let begin = time::now();
    let debt = revocation::revoke(victim, capability::REVOKE, kind, count, notice, notice)
        .map_err(|error| format!("{name}: {}", reason(error)))?;
    println!("asked {name} for {count} {}: it owes {debt}", kind.label());
    let last = begin.saturating_add(notice).saturating_add(PATIENCE);
    while let Some(entry) = tables::environment_named(victim)
        && entry.debt > 0
        && time::now() < last
    {
        environment::sleep(time::now() + time::MILLISECOND);
    }
    let paid = (time::now() - begin) / 1000;
    match tables::environment_named(victim) {
        Some(after) if after.debt > 0 => {
            println!("after {paid} us: {name} still owes {}", after.debt);
        }
        Some(after) => println!(
            "after {paid} us: {} given back by choice, {} taken by force",
            after.surrendered - before.surrendered,
            after.repossessed - before.repossessed
        ),
        None => println!("after {paid} us: {name} has ended"),
    }
    match revocation::grant(victim, kind, count) {
        Ok(()) => println!("{name} may hold {count} {} more again", kind.label()),
        Err(error) => println!("the right to them stays here: {}", reason(error)),
    }
    Ok(())
}

/// Why the kernel has refused, in its own words.
pub(crate) fn reason(error: Error) -> &'static str {
    Error::ALL
        .iter()
        .find(|(known, ..)| *known == error)
        .map_or("refused", |(_, _, text)| text.trim())
}
