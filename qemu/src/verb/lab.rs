//! `lab`: experiments in a machine, and what became of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
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
    /// Without a scenario, all in qemu/scenarios are carried out, one after the other. The exit status
    /// is 0 if the kernel kept its promises.
    Revoke {
        /// The scenario: a file, or the name of one in qemu/scenarios
        #[arg(value_name = "SCENARIO.toml")]
        scenario: Option<PathBuf>,
        /// Where the page and the timeline go, or the folders of all scenarios [default: target/lab/NAME]
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
    let Experiment::Revoke { scenario, report, seed } = &options.experiment;
    let workspace = Workspace::load()?;
    let shipped = shipped(&workspace)?;
    let paths = match scenario {
        Some(named) => vec![find(named, &shipped)?],
        None => shipped,
    };
    let mut scenarios = Vec::new();
    for path in &paths {
        let mut scenario = Scenario::read(path)?;
        scenario.seeds = seed.map_or(scenario.seeds, |seed| vec![seed]);
        scenarios.push((path.file_stem().unwrap_or_default(), scenario));
    }
    require_qemu()?;
    let mut good = true;
    for (name, scenario) in &scenarios {
        println!("{}", scenario.title);
        let runs = experiment::carry_out(&workspace, scenario)?;
        let folder = match report {
            Some(folder) if scenarios.len() == 1 => folder.clone(),
            Some(folder) => folder.join(name),
            None => workspace.target.join("lab").join(name),
        };
        write(&folder, scenario, &runs)?;
        for run in &runs {
            tell(scenario, run);
        }
        eprintln!("xtask: the page is {}", folder.join("index.html").display());
        good &= runs.iter().all(Run::is_good);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The scenarios that come with the project, by name.
fn shipped(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let folder = workspace.root.join("qemu/scenarios");
    let context = || format!("cannot read {}", folder.display());
    let entries = fs::read_dir(&folder).with_context(context)?;
    let mut paths: Vec<_> =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().with_context(context)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}

/// The scenario that somebody means: a file, or one that comes with the project.
fn find(named: &Path, shipped: &[PathBuf]) -> Result<PathBuf> {
    if named.exists() {
        return Ok(named.to_path_buf());
    }
    let names: Vec<_> = shipped.iter().filter_map(|path| path.file_stem()).collect();
    match names.iter().position(|name| *name == named) {
        Some(place) => Ok(shipped[place].clone()),
        None => bail!(
            "there is no scenario {}: it is a file, or one of {}",
            named.display(),
            names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(", ")
        ),
    }
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
