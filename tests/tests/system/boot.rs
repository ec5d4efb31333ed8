//! From QEMU's start to the first line of a program.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use system_tests::{Board, Guest};

/// The first line of a program comes within this time.
fn first_line_within(board: Board, limit: Duration) -> Result<()> {
    let guest = Guest::with([]).board(board).timed().boot()?;
    let outcome = guest.finish()?;
    let time = outcome.boot.expect("a program prints a line");
    assert!(time <= limit, "{time:?}, {limit:?} allowed");
    Ok(())
}

#[test]
fn microvm_boots_in_time() -> Result<()> {
    first_line_within(Board::Microvm, Duration::from_millis(150))
}

#[test]
fn q35_boots_in_time() -> Result<()> {
    first_line_within(Board::Q35, Duration::from_millis(500))
}

#[test]
fn the_kernel_is_small() -> Result<()> {
    let file = fs::read(system_tests::guest::kernel()?)?;
    let loaded: usize =
        qemu::elf::parse(&file)?.segments.iter().map(|segment| segment.contents.len()).sum();
    assert!(loaded < 1 << 20, "{loaded} bytes are loaded");
    Ok(())
}
