//! Several processors that create, end, fault, transfer, revoke and sleep at once.
//!
//! What goes wrong once in a million times takes long to find: with `EXO_STRESS_SECONDS=600` the test on
//! processors that run at once takes ten minutes.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use system_tests::Guest;
use system_tests::guest::Setup;

/// How many programs run the mix; each has up to three children.
const PROGRAMS: [&str; 4] = ["stress"; 4];
/// How much longer than asked for a run may take: all children have to be ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// The environment variable that says for how many seconds processors that run at once do so.
const SECONDS: &str = "EXO_STRESS_SECONDS";

/// How late a sleeper may wake, in milliseconds, where time is instructions: as long as the others
/// may have the processor before it.
const BOUND: u64 = 25;
/// The same where time is that of a host that does other things too.
const HOST_BOUND: u64 = 20_000;

/// Runs the mix for some seconds and looks whether every program found all in order; the harness
/// looks whether all was given back.
fn survive(mut setup: Setup<'_>, seconds: u64, bound: u64) -> Result<()> {
    for label in ["stress", "stress-2", "stress-3", "stress-4"] {
        setup = setup.args(label, &format!("seconds={seconds} report=5 bound={bound}"));
    }
    let outcome = setup.boot()?.finish_within(Duration::from_secs(seconds) + PATIENCE)?;
    let folder = outcome.folder.display();
    let seed = outcome.transcript.iter().find(|line| line.contains("] seed "));
    println!("{}", seed.context("no seed was printed")?);
    for (name, code) in &outcome.exits {
        let said = |line: &&String| line.contains("broken: ");
        let broken = outcome.transcript.iter().filter(said).collect::<Vec<_>>();
        ensure!(*code == 0, "{name} ended with {code}: {broken:?}, all of it: {folder}");
    }
    ensure!(outcome.exits.len() == PROGRAMS.len(), "some have not ended: {folder}");
    let created = outcome.transcript.iter().find(|line| line.contains("survived with "));
    created.context("nothing was done")?;
    Ok(())
}

#[test]
fn nothing_is_lost_on_four_processors_at_once() -> Result<()> {
    let seconds = env::var(SECONDS).map_or(Ok(20), |text| text.parse())?;
    survive(Guest::with(PROGRAMS).cpus(4).timed(), seconds, HOST_BOUND)
}

#[test]
fn nobody_wakes_late_on_four_processors() -> Result<()> {
    survive(Guest::with(PROGRAMS).cpus(4).exact(), 5, BOUND)
}

#[test]
fn nobody_wakes_late_on_one_processor() -> Result<()> {
    survive(Guest::with(PROGRAMS).cpus(1).exact(), 5, BOUND)
}
