//! `bench`: count and time operations, here and on Linux.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use qemu::bench::baseline::{self, Baseline};
use qemu::bench::comparison::{Comparison, Measurements};
use qemu::bench::counter::Plugin;
use qemu::bench::exokernel::Exokernel;
use qemu::bench::figure::{self, Figure};
use qemu::bench::filters;
use qemu::bench::linux::Linux;
use qemu::bench::report::{self, number, ratio};
use qemu::bench::sample::Samples;
use qemu::installation::{LIBPCAP_TOOL, require, require_qemu};
use qemu::machine::Configuration;
use qemu::workspace::Workspace;

/// How often the line that shows progress is drawn.
const TICK: Duration = Duration::from_millis(120);

/// Measure: instructions of each operation, and its time, beside the most that they may be
///
/// The exit status is 0 if every figure reaches its bar.
#[derive(Args)]
#[command(after_help = figure::list())]
pub(crate) struct Options {
    /// Figures, or groups of them [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Measure the same, or what is nearest, on another system: Debian's kernel, fetched with apt
    #[arg(long, value_enum)]
    vs: Option<Peer>,
    /// Write the figures to this file, as an array of records
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report into this folder: Markdown, JSON and pictures
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Store the instructions in doc/bench/baseline.json, with which later runs are compared
    #[arg(long)]
    save_baseline: bool,
    /// How often the time is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Whom we are compared with.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Peer {
    Linux,
}

impl Options {
    /// These figures, and nothing else that is not done by itself.
    pub(crate) fn of(names: &[&str]) -> Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self { names, vs: None, json: None, report: None, save_baseline: false, rounds: 3 }
    }

    /// The names of figures in guests, and whether those of filters on the host are wanted.
    fn split(&self) -> (Vec<String>, bool) {
        let on_host = |name: &String| {
            name == filters::GROUP || filters::FIGURES.iter().any(|(figure, _)| figure == name)
        };
        let (host, mut guests): (Vec<_>, Vec<_>) = self.names.iter().cloned().partition(on_host);
        if host.iter().any(|name| name == filters::GROUP) {
            guests.extend(filters::GUESTS.map(str::to_owned));
        }
        (guests, !host.is_empty() || self.names.is_empty())
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let (names, host) = options.split();
    let guests = !names.is_empty() || options.names.is_empty();
    let figures = if guests { figure::select(&names)? } else { Vec::new() };
    let workspace = Workspace::load()?;
    let mut verdicts = Vec::new();
    let mut json = Vec::new();
    let mut filters = None;
    if host {
        require(&LIBPCAP_TOOL, filter_tools::libpcap::version)?;
        let timings = filters::measure(&workspace)?;
        let records = filters::records(&timings)?;
        println!("{}", filters::table(&records));
        verdicts.extend(records.iter().map(|record| record.ok));
        json.extend(records.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
        filters = Some((records, timings));
    }
    let (records, system) =
        if guests { run_guests(&workspace, options, &figures)? } else { (Vec::new(), None) };
    verdicts.extend(records.iter().map(|record| record.ok));
    json.extend(records.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&json)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(folder) = &options.report {
        let filters = filters.as_ref().map(|(records, timings)| (&records[..], &timings[..]));
        report::write(folder, &records, system.as_deref(), filters)?;
        println!("report: {}", folder.join("README.md").display());
    }
    let reached = verdicts.iter().filter(|ok| **ok).count();
    println!("{reached} of {} figures reach their bar", verdicts.len());
    Ok(if reached == verdicts.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures figures in guests and prints them; with what the other system is, if there is one.
fn run_guests(
    workspace: &Workspace,
    options: &Options,
    figures: &[&Figure],
) -> Result<(Vec<Comparison>, Option<String>)> {
    require_qemu()?;
    let baseline_path = baseline::path(&workspace.root);
    let mut baseline = Baseline::read(&baseline_path)?;
    let (ours, linux) = measure(workspace, options, figures)?;
    let mut records: Vec<Comparison> =
        figures.iter().map(|figure| Comparison::new(figure, &ours, &linux)).collect();
    baseline.compare(&mut records);
    println!("{}", table(&records, options.vs.is_some()));
    baseline::notable(&records).iter().for_each(|line| println!("changed: {line}"));
    if options.save_baseline {
        baseline.save(&records, &baseline_path)?;
    }
    Ok((records, linux.system))
}

/// Boots the guests: once to count, then in turns to take the time.
fn measure(
    workspace: &Workspace,
    options: &Options,
    figures: &[&Figure],
) -> Result<(Measurements, Measurements)> {
    let configuration = Configuration::default();
    let plugin = Plugin::build(workspace)?;
    let exokernel = Exokernel::build(workspace, &configuration)?;
    let peer = match options.vs {
        Some(Peer::Linux) => Some(Linux::prepare(workspace, &configuration)?),
        None => None,
    };
    let guests = if peer.is_some() { 2 } else { 1 };
    let bar = ProgressBar::new(guests * (u64::from(options.rounds) + 1)).with_style(
        ProgressStyle::with_template("{spinner} {msg} ({pos} of {len}, {elapsed})")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.enable_steady_tick(TICK);
    let step = |text: String, run: &dyn Fn() -> Result<Samples>| {
        bar.set_message(text);
        let samples = run();
        bar.inc(1);
        samples
    };
    let (mut ours, mut linux) = (Measurements::default(), Measurements::default());
    linux.system = peer.as_ref().map(Linux::version);
    let counting = "counting instructions: ";
    ours.counted = step(format!("{counting}ours"), &|| exokernel.run(figures, Some(&plugin)))?;
    if let Some(peer) = &peer {
        linux.counted =
            step(format!("{counting}{}", peer.version()), &|| peer.run(figures, Some(&plugin)))?;
    }
    for round in 1..=options.rounds {
        let timing = format!("taking the time, round {round}: ");
        ours.timed.push(step(format!("{timing}ours"), &|| exokernel.run(figures, None))?);
        if let Some(peer) = &peer {
            let text = format!("{timing}{}", peer.version());
            linux.timed.push(step(text, &|| peer.run(figures, None))?);
        }
    }
    bar.finish_and_clear();
    Ok((ours, linux))
}

/// The figures; those of the other system only if there is one.
fn table(records: &[Comparison], peer: bool) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let row =
        |name: String, ours: [String; 5], linux: [String; 2], time: String, rest: [String; 2]| {
            let mut cells: Vec<String> = ours.into();
            cells.extend(linux.into_iter().filter(|_| peer));
            cells.push(time);
            cells.extend(rest.into_iter().filter(|_| peer));
            let cells =
                cells.into_iter().map(|text| Cell::new(text).set_alignment(CellAlignment::Right));
            [Cell::new(name)].into_iter().chain(cells).collect::<Vec<_>>()
        };
    let words = ["user", "kernel", "total", "at most", ""].map(str::to_owned);
    let linux = || ["Linux", "ratio"].map(str::to_owned);
    table.set_header(row(
        "instructions:".to_owned(),
        words,
        linux(),
        "time, ns:".to_owned(),
        linux(),
    ));
    for record in records {
        let parts = record.ours_parts;
        let ours = [
            number(parts.map(|parts| parts.user)),
            number(parts.map(|parts| parts.kernel)),
            record.ours_text(),
            record.bar_text(),
            record.status(),
        ];
        table.add_row(row(
            record.name.to_owned(),
            ours,
            [number(record.linux), ratio(record.ratio)],
            number(record.ours_nanoseconds),
            [number(record.linux_nanoseconds), record.time_ratio_text()],
        ));
    }
    table
}
