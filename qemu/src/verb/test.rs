//! `test`: the tests of the host, then the system tests.

use std::env;
use std::io::{BufRead, BufReader, IsTerminal, stdout};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::{Args, value_parser};
use qemu::installation::{LIBPCAP_TOOL, require, require_qemu};
use qemu::toolchain::require_targets;
use qemu::workspace::{Workspace, cargo};

/// The package of the system tests.
const SYSTEM_TESTS: &str = "system-tests";

/// The tests of hostile programs, which run a second time, on this many processors.
const HOSTILE: &str = "hostile::";
const SEVERAL: u32 = 4;
/// The environment variable by which the system tests are told how many processors a machine has.
const CPUS: &str = "EXO_TEST_CPUS";

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

    /// Processors of each machine for which a system test does not ask for a number itself [default:
    /// 1, and then 4 for the hostile programs]
    #[arg(long, value_parser = value_parser!(u32).range(1..))]
    cpus: Option<u32>,
}

/// What one call of `cargo test` runs.
struct Suite<'a> {
    name: &'static str,
    arguments: Vec<String>,
    filter: Option<&'a str>,
    cpus: Option<u32>,
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
    require(&LIBPCAP_TOOL, filter_tools::libpcap::version)?;
    require_targets()?;
    let mut tally = Tally::default();
    let mut host = vec!["test".to_owned()];
    for package in workspace.metadata.workspace_default_packages() {
        if package.name.as_str() != SYSTEM_TESTS {
            host.extend(["--package".to_owned(), package.name.to_string()]);
        }
    }
    let mut libraries = vec!["test".to_owned(), "--lib".to_owned()];
    for package in app_libraries(&workspace) {
        libraries.extend(["--package".to_owned(), package]);
    }
    let (filter, cpus) = (options.filter.as_deref(), options.cpus);
    let system = || ["test", "--package", SYSTEM_TESTS].map(str::to_owned).to_vec();
    let mut suites = vec![
        Suite { name: "the host's tests", arguments: host, filter, cpus: None },
        Suite { name: "the programs' tests", arguments: libraries, filter, cpus: None },
        Suite { name: "the system tests", arguments: system(), filter, cpus },
    ];
    // What the caller is looking for says more than what we are.
    if cpus.is_none() && filter.is_none_or(|filter| filter.contains(HOSTILE)) {
        let (filter, cpus) = (filter.or(Some(HOSTILE)), Some(SEVERAL));
        let name = "the hostile programs on several processors";
        suites.push(Suite { name, arguments: system(), filter, cpus });
    }
    for suite in suites {
        run_cargo(suite, &workspace, &mut tally)?;
    }

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
fn run_cargo(suite: Suite<'_>, workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let on = suite.cpus.map_or(String::new(), |cpus| format!(" (--cpus {cpus})"));
    println!("\n== {}{on}", suite.name);
    let mut command = Command::new(cargo());
    command.current_dir(&workspace.root).args(suite.arguments).args(["--no-fail-fast", "--"]);
    if stdout().is_terminal() {
        command.args(["--color", "always"]);
    }
    if let Some(cpus) = suite.cpus {
        command.env(CPUS, cpus.to_string());
    }
    if env::var_os(ERROR_TRACES).is_none() {
        command.env(ERROR_TRACES, "0");
    }
    command.args(suite.filter).stdin(Stdio::null()).stdout(Stdio::piped());
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
        tally.broken.push(suite.name);
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
