//! Asking a program for frames.

use crate::listing::living;
use crate::number;
use alloc::format;
use alloc::string::String;
use libos_posix::exo_user::{
    EnvName, Error, Kind, capability, environment, revocation, tables, time,
};
use libos_posix::println;

/// The notice where none is named, in milliseconds.
const NOTICE: u64 = 20;

/// Asks the program `name` for `count` frames, waits until the debt is paid or taken, and gives the
/// right to hold them back.
pub(crate) fn ask(name: &str, count: &str, notice: Option<&&str>) -> Result<(), String> {
    let count = number(count)?;
    let notice = notice.map_or(Ok(NOTICE), |text| number(text))?;
    let found = living().find(|(_, entry)| tables::label(entry) == name);
    let Some((_, before)) = found else { return Err(format!("{name}: no such program")) };
    let victim = EnvName(before.name);
    let nanoseconds = notice.saturating_mul(time::MILLISECOND);
    let asked = time::now();
    let debt = revocation::revoke(
        victim,
        capability::REVOKE,
        Kind::Frames,
        count,
        nanoseconds,
        nanoseconds,
    )
    .map_err(|error| format!("{name}: {}", reason(error)))?;
    println!("asked {name} for {count} frames: it owes {debt}");
    while let Some(entry) = tables::environment_named(victim)
        && entry.frames > entry.frames_limit
    {
        environment::sleep(time::now() + time::MILLISECOND);
    }
    let paid = (time::now() - asked) / 1000;
    match tables::environment_named(victim) {
        Some(after) => println!(
            "after {paid} us: {} given back by choice, {} taken by force",
            after.surrendered - before.surrendered,
            after.repossessed - before.repossessed
        ),
        None => println!("after {paid} us: {name} has ended"),
    }
    match revocation::grant(victim, Kind::Frames, count) {
        Ok(()) => println!("{name} may hold {count} frames more again"),
        Err(error) => println!("the right to them stays here: {}", reason(error)),
    }
    Ok(())
}

/// Why the kernel has refused, in its own words.
fn reason(error: Error) -> &'static str {
    Error::ALL
        .iter()
        .find(|(known, ..)| *known == error)
        .map_or("refused", |(_, _, text)| text.trim())
}
