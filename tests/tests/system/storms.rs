//! Storms of asks, with everything compared after each.
//!
//! A few thousand by default; `EXO_STORMS=10000 cargo xtask test storms` makes ten thousand.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use system_tests::Guest;
use system_tests::guest::Setup;

/// The environment variable that says how many storms there are.
const STORMS: &str = "EXO_STORMS";
/// How many there are without it.
const FEW: u64 = 3000;
/// How long a storm may take where four processors run on a busy host, and the whole beside that.
const EACH: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_secs(60);

fn survive(machine: Setup<'_>) -> Result<()> {
    let count = env::var(STORMS).map_or(Ok(FEW), |text| text.parse())?;
    let patience = PATIENCE + EACH * u32::try_from(count)?;
    let machine = machine.args("storms", &format!("storms={count}")).memory(64);
    let outcome = machine.boot()?.finish_within(patience)?;
    let lines = || outcome.transcript.iter();
    println!("{}", lines().find(|line| line.contains(": seed ")).context("no seed")?);
    let broken: Vec<_> = lines().filter(|line| line.contains("broken: ")).collect();
    ensure!(
        outcome.exits == [("storms".to_owned(), 0)],
        "{broken:?}: {}",
        outcome.folder.display()
    );
    println!("{}", lines().find(|line| line.contains("survived")).context("not all")?);
    Ok(())
}

#[test]
fn the_books_agree_after_each_on_one_processor() -> Result<()> {
    survive(Guest::with(["storms"]).cpus(1).exact())
}

#[test]
fn the_books_agree_after_each_on_four_processors() -> Result<()> {
    survive(Guest::with(["storms"]).cpus(4).timed())
}
