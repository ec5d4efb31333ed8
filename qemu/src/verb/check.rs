//! `check`: everything that can be said about the sources without booting them.

mod budget;
mod links;
mod promises;
mod tree;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qemu::toolchain::{KERNEL_TARGET, PROGRAM_TARGET, require_targets};
use qemu::workspace::{INIT, PROBES, Workspace, cargo};

/// Packages that are also compiled for the kernel's target, beside the kernel.
const KERNEL_SIDE: [&str; 5] =
    ["exo-kernel", "exo-core", "secure-bindings", "packet-filters", "exo-abi"];
/// Packages that are also compiled for the programs' target, beside the programs.
const PROGRAM_SIDE: [&str; 3] = ["exo-user", "libos-net", "libos-posix"];
/// How often the line that shows progress is drawn.
const TICK: Duration = Duration::from_millis(120);

/// Check format, lints for every target, layering, the ABI's documentation, sizes, docs and links
///
/// Every step runs, whatever the others found; what a failed step said is shown.
#[derive(Args)]
pub(crate) struct Options {}

/// One step: what it is called and how it is done.
struct Step {
    name: &'static str,
    action: Action,
}

enum Action {
    /// Cargo with these arguments; it fails if Cargo does.
    Cargo(Vec<String>),
    /// The same with warnings of rustdoc as errors.
    Documentation(Vec<String>),
    /// A look at the sources; it fails if there is any complaint.
    Look(fn(&Workspace) -> Result<Vec<String>>),
}

pub(crate) fn run(_: &Options) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    require_targets()?;
    let mut failed = Vec::new();
    for step in steps(&workspace) {
        let bar = ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.set_message(step.name);
        bar.enable_steady_tick(TICK);
        let start = Instant::now();
        let outcome = step.action.perform(&workspace);
        bar.finish_and_clear();
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => println!("  ok     {} ({seconds:.1} s)", step.name),
            Err(error) => {
                println!("  FAILED {} ({seconds:.1} s)\n{error:#}\n", step.name);
                failed.push(step.name);
            }
        }
    }
    if failed.is_empty() {
        println!("check: clean");
        return Ok(ExitCode::SUCCESS);
    }
    println!("check: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

impl Action {
    fn perform(&self, workspace: &Workspace) -> Result<()> {
        let (arguments, documentation) = match self {
            Self::Cargo(arguments) => (arguments, false),
            Self::Documentation(arguments) => (arguments, true),
            Self::Look(look) => {
                let complaints = look(workspace)?;
                if complaints.is_empty() {
                    return Ok(());
                }
                bail!("{}", complaints.join("\n"));
            }
        };
        let mut command = Command::new(cargo());
        command.current_dir(&workspace.root).args(arguments).stdin(Stdio::null());
        if documentation {
            command.env("RUSTDOCFLAGS", "-Dwarnings");
        }
        let output = command.output().context("cannot start cargo")?;
        if !output.status.success() {
            let (out, err) = (&output.stdout, &output.stderr);
            bail!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err));
        }
        Ok(())
    }
}

fn steps(workspace: &Workspace) -> Vec<Step> {
    let lints = |before: &[&str], packages: &[&str], after: &[&str]| {
        Action::Cargo(words(&["clippy", "--quiet"], before, packages, after))
    };
    let docs = |before: &[&str], packages: &[&str]| {
        Action::Documentation(words(&["doc", "--quiet", "--no-deps"], before, packages, &[]))
    };
    let warnings = ["--", "--deny", "warnings"];
    let mut programs: Vec<&str> = workspace.apps().map(|source| source.package.as_str()).collect();
    programs.extend([INIT, PROBES]);
    let program_side = [&programs[..], &PROGRAM_SIDE].concat();
    let for_kernel = ["--target", KERNEL_TARGET];
    let for_programs = ["--target", PROGRAM_TARGET];
    let step = |name, action| Step { name, action };
    vec![
        step("format", Action::Cargo(words(&["fmt", "--all", "--", "--check"], &[], &[], &[]))),
        step("clippy, host", lints(&["--all-targets"], &[], &warnings)),
        step("clippy, plugin", lints(&[], &["instruction-counter"], &warnings)),
        step("clippy, kernel", lints(&for_kernel, &KERNEL_SIDE, &warnings)),
        step("clippy, programs", lints(&for_programs, &program_side, &warnings)),
        step(
            "layering and ABI",
            Action::Cargo(words(
                &["test", "--quiet", "--package", "system-tests"],
                &["--test", "layering", "--test", "abi"],
                &[],
                &[],
            )),
        ),
        step("sizes", Action::Look(budget::complaints)),
        step("docs, host", docs(&[], &[])),
        step("docs, kernel", docs(&for_kernel, &["exo-kernel"])),
        step("docs, programs", docs(&for_programs, &programs)),
        step("links", Action::Look(links::complaints)),
        step("tests that documents cite", Action::Look(promises::complaints)),
    ]
}

/// A command line for Cargo: its start, then each package behind `--package`, then its end.
fn words(start: &[&str], before: &[&str], packages: &[&str], after: &[&str]) -> Vec<String> {
    let packages = packages.iter().flat_map(|package| ["--package", *package]);
    let all = start.iter().chain(before).copied().chain(packages).chain(after.iter().copied());
    all.map(str::to_owned).collect()
}
