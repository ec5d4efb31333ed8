//! `test`: the tests of the host, then the system tests.

use std::env;
use std::io::{BufRead, BufReader, IsTerminal, stdout};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use qemu::installation::require_qemu;
use qemu::toolchain::require_targets;
use qemu::workspace::{Workspace, cargo};

/// The package of the system tests.
const SYSTEM_TESTS: &str = "system-tests";

/// The stack of every error would bury the transcript that the error quotes.
const ERROR_TRACES: &str = "RUST_LIB_BACKTRACE";

/// Run every test: those of the host, then those that boot the machine
///
/// The system tests build the kernel and the programs themselves. The transcript of each is kept in
/// target/runs/tests. The exit status is 0 only if every test passed.
#[derive(Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// What the test programs counted, and whether each of them ended well.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    broken: Vec<&'static str>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    require_qemu()?;
    require_targets()?;
    let mut tally = Tally::default();
    let mut host = vec!["test".to_owned()];
    for package in workspace.metadata.workspace_default_packages() {
        if package.name.as_str() != SYSTEM_TESTS {
            host.extend(["--package".to_owned(), package.name.to_string()]);
        }
    }
    let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    run_cargo("the host's tests", &workspace, host, options, &mut tally)?;
    let mut libraries = own(&["test", "--lib"]);
    for package in app_libraries(&workspace) {
        libraries.extend(["--package".to_owned(), package]);
    }
    run_cargo("the programs' tests", &workspace, libraries, options, &mut tally)?;
    let system = own(&["test", "--package", SYSTEM_TESTS]);
    run_cargo("the system tests", &workspace, system, options, &mut tally)?;

    if tally.passed + tally.failed == 0 && tally.broken.is_empty() {
        println!("no test matches `{}`", options.filter.as_deref().unwrap_or(""));
    }
    for name in &tally.broken {
        println!("{name} did not build, or broke off");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    let good = tally.failed == 0 && tally.broken.is_empty() && tally.passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Programs that are mostly a library: that part is tested on the host.
fn app_libraries(workspace: &Workspace) -> impl Iterator<Item = String> {
    let apps = workspace.metadata.workspace_root.join("apps");
    let packages = workspace.metadata.workspace_packages().into_iter();
    packages
        .filter(move |package| package.manifest_path.starts_with(&apps))
        .filter(|package| package.targets.iter().any(cargo_metadata::Target::is_lib))
        .map(|package| package.name.to_string())
}

/// Runs `cargo test`, shows what it says except for test programs without a test, and counts.
fn run_cargo(
    name: &'static str,
    workspace: &Workspace,
    arguments: Vec<String>,
    options: &Options,
    tally: &mut Tally,
) -> Result<()> {
    println!("\n== {name}");
    let mut command = Command::new(cargo());
    command.current_dir(&workspace.root).args(arguments).args(["--no-fail-fast", "--"]);
    if stdout().is_terminal() {
        command.args(["--color", "always"]);
    }
    if env::var_os(ERROR_TRACES).is_none() {
        command.env(ERROR_TRACES, "0");
    }
    command.args(&options.filter).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo without an output")?;
    let failed_before = tally.failed;
    let mut blank = false;
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read from cargo")?;
        if let Some((passed, failed)) = summary(&line) {
            tally.passed += passed;
            tally.failed += failed;
            if passed + failed == 0 {
                continue;
            }
        } else if line == "running 0 tests" || (line.is_empty() && blank) {
            continue;
        }
        blank = line.is_empty();
        println!("{line}");
    }
    let good = child.wait().context("cannot wait for cargo")?.success();
    if !good && tally.failed == failed_before {
        tally.broken.push(name);
    }
    Ok(())
}

/// Passed and failed tests, from the line `test result: ok. 3 passed; 0 failed; ...`.
fn summary(line: &str) -> Option<(u32, u32)> {
    let counts = line.strip_prefix("test result: ")?;
    let before = |word: &str| counts.split(word).next()?.rsplit([' ', ';']).next()?.parse().ok();
    Some((before(" passed")?, before(" failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_a_test_program_is_counted() {
        let plain = "test result: FAILED. 26 passed; 3 failed; 0 ignored; finished in 0.85s";
        assert_eq!(summary(plain), Some((26, 3)));
        let coloured = "test result: \u{1b}[32mok\u{1b}[m. 12 passed; 0 failed; 0 ignored";
        assert_eq!(summary(coloured), Some((12, 0)));
        assert_eq!(summary("test a_test_result ... ok"), None);
    }
}
