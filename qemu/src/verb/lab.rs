//! `lab`: experiments in a machine, and what became of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use qemu::installation::require_qemu;
use qemu::lab::experiment::{self, Run};
use qemu::lab::page;
use qemu::lab::scenario::Scenario;
use qemu::lab::timeline::What;
use qemu::workspace::Workspace;
use serde::Serialize;

/// Try things out in a machine, and look at what became of them
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Subcommand)]
enum Experiment {
    /// Take resources away from running programs: who gives back, from whom they are taken, and how
    /// long that takes
    ///
    /// Scenarios are in qemu/scenarios. The exit status is 0 if the kernel kept its promises.
    Revoke {
        /// The scenario
        #[arg(value_name = "SCENARIO.toml")]
        scenario: PathBuf,
        /// Where the page and the timeline go [default: target/lab/NAME]
        #[arg(long, value_name = "FOLDER")]
        report: Option<PathBuf>,
        /// Seed of everything random, in place of those in the scenario
        #[arg(long)]
        seed: Option<u64>,
    },
}

/// What `timeline.json` holds.
#[derive(Serialize)]
struct Document<'a> {
    scenario: &'a Scenario,
    runs: &'a [Run],
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let Experiment::Revoke { scenario: path, report, seed } = &options.experiment;
    let mut scenario = Scenario::read(path)?;
    if let Some(seed) = seed {
        scenario.seeds = vec![*seed];
    }
    let workspace = Workspace::load()?;
    require_qemu()?;
    let runs = experiment::carry_out(&workspace, &scenario)?;
    let folder = report
        .clone()
        .unwrap_or_else(|| workspace.target.join("lab").join(path.file_stem().unwrap_or_default()));
    write(&folder, &scenario, &runs)?;
    for run in &runs {
        tell(&scenario, run);
    }
    eprintln!("xtask: the page is {}", folder.join("index.html").display());
    let good = runs.iter().all(Run::is_good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(folder: &Path, scenario: &Scenario, runs: &[Run]) -> Result<()> {
    let context = || format!("cannot write to {}", folder.display());
    fs::create_dir_all(folder).with_context(context)?;
    fs::write(folder.join("index.html"), page::report(scenario, runs)).with_context(context)?;
    let text = serde_json::to_string_pretty(&Document { scenario, runs })?;
    fs::write(folder.join("timeline.json"), text + "\n").with_context(context)
}

/// A line for each program.
fn tell(scenario: &Scenario, run: &Run) {
    println!("seed {}: {}", run.seed, run.verdict);
    for program in &scenario.programs {
        let own = || run.timeline.events.iter().filter(|event| event.program == program.name);
        let sum = |what| -> u64 {
            own().filter(|event| event.what == what).map(|event| event.count).sum()
        };
        println!(
            "{:>16}  asked {} times, gave {} back, lost {} by force",
            program.name,
            own().filter(|event| event.what == What::Ask).count(),
            sum(What::Surrendered),
            sum(What::Repossessed)
        );
    }
}
