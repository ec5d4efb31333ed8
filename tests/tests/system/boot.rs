//! From QEMU's start to the first line of a program.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu::backtrace::Executables;
use qemu::guest::{Boot, Guest as Machine};
use qemu::machine::Configuration;
use qemu::record::Record;
use qemu::verdict::Verdict;
use system_tests::guest::{PATIENCE, kernel, workspace};
use system_tests::{Board, Guest, Outcome};

/// How often a boot is measured.
const MEASUREMENTS: usize = 5;

/// The first line of a program comes within this time in the fastest of a few boots: whatever else
/// the host does only ever adds.
fn first_line_within(board: Board, limit: Duration) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..MEASUREMENTS {
        let outcome = Guest::with([]).board(board).timed().boot()?.finish()?;
        times.push(outcome.boot.context("no program has printed a line")?);
    }
    let fastest = times.iter().min().copied().unwrap_or(Duration::MAX);
    assert!(fastest <= limit, "{times:?}, {limit:?} allowed");
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
    let file = fs::read(kernel()?)?;
    let loaded: usize =
        qemu::elf::parse(&file)?.segments.iter().map(|segment| segment.contents.len()).sum();
    assert!(loaded < 1 << 20, "{loaded} bytes are loaded");
    Ok(())
}

/// Boots the kernel with a boot module of these bytes, or with none.
fn boot_with(name: &str, module: Option<&[u8]>) -> Result<Outcome> {
    let workspace = workspace()?;
    let record = Record::of_test(&workspace.target, name)?;
    let file = record.folder().join("module");
    if let Some(bytes) = module {
        fs::write(&file, bytes)?;
    }
    let boot = Boot {
        kernel: kernel()?.to_owned(),
        module: module.map(|_| file),
        executables: Executables::from([("kernel".to_owned(), PathBuf::from(kernel()?))]),
        root: workspace.root.clone(),
    };
    Machine::start(&Configuration::default(), &boot, record, |_| {})?.finish(PATIENCE)
}

#[test]
fn a_kernel_panic_says_where() -> Result<()> {
    let outcome = boot_with("no-module", None)?;
    assert_eq!(outcome.verdict, Verdict::KernelPanic);
    let named = |line: &String| line.contains(": main at exokernel/exo-kernel/src/start.rs:");
    assert!(outcome.transcript.iter().any(named), "{:?}", outcome.transcript);
    Ok(())
}

#[test]
fn a_broken_boot_module_is_refused_in_words() -> Result<()> {
    let zeros = [0; 4096].as_slice();
    let absurd = absurd_header();
    let cases = [("empty", &[1][..]), ("zeros", zeros), ("absurd", &absurd)];
    for (name, bytes) in cases {
        let outcome = boot_with(&format!("module-{name}"), Some(bytes))?;
        assert_eq!(outcome.verdict, Verdict::KernelPanic, "{name}: {:?}", outcome.transcript);
    }
    Ok(())
}

/// A header that is right in its first word, and absurd in all others.
fn absurd_header() -> Vec<u8> {
    let mut header = vec![0xff; 4096];
    header[..8].copy_from_slice(b"exo-boot");
    header
}
