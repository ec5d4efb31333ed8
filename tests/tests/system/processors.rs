//! How many processors the kernel finds and starts.

use anyhow::{Context, Result};
use system_tests::guest::Setup;
use system_tests::{Board, Guest, Outcome};

/// The line that says that there is nothing to find processors by.
const NO_ACPI: &str = "[kernel] no ACPI: one processor is used";

/// Boots the machine with a program that does little, and checks that the tables that programs see
/// are those of this many processors.
fn counts(setup: Setup<'_>, cpus: u64) -> Result<Outcome> {
    let outcome = setup.boot()?.finish()?;
    let tables = outcome.tables.as_ref().context("init has printed no tables")?;
    assert_eq!(tables["system"]["cpus"], cpus, "{:?}", outcome.transcript);
    let slices = tables["slices"].as_array().context("no slices in the tables")?;
    assert_eq!(slices.len() as u64, 64 * cpus);
    Ok(outcome)
}

/// The lines that the kernel has printed.
fn kernel_lines(outcome: &Outcome) -> Vec<&String> {
    outcome.transcript.iter().filter(|line| line.starts_with("[kernel]")).collect()
}

#[test]
fn every_processor_starts() -> Result<()> {
    for cpus in [1, 2, 4, 8] {
        let outcome = counts(Guest::with([]).cpus(cpus), cpus.into())?;
        assert_eq!(kernel_lines(&outcome), Vec::<&String>::new());
    }
    Ok(())
}

#[test]
fn every_processor_starts_on_q35() -> Result<()> {
    counts(Guest::with([]).cpus(4).board(Board::Q35), 4).map(|_| ())
}

#[test]
fn processors_that_run_at_once_start() -> Result<()> {
    for cpus in [2, 8] {
        counts(Guest::with([]).cpus(cpus).timed(), cpus.into())?;
    }
    Ok(())
}

#[test]
fn more_processors_than_the_kernel_can_use_are_left_alone() -> Result<()> {
    let outcome = counts(Guest::with([]).cpus(66), 64)?;
    let said = "[kernel] 2 processors are not used: the kernel runs on 64";
    assert_eq!(kernel_lines(&outcome), [said]);
    Ok(())
}

#[test]
fn without_acpi_there_is_one_processor() -> Result<()> {
    let outcome = counts(Guest::with([]).cpus(2).without_acpi(), 1)?;
    assert_eq!(kernel_lines(&outcome), [NO_ACPI]);
    Ok(())
}
