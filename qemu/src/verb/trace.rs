//! `trace`: each instruction of an operation, in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use qemu::bench::counter::Plugin;
use qemu::bench::exokernel::Exokernel;
use qemu::bench::figure;
use qemu::bench::listing;
use qemu::bench::trace::Line;
use qemu::installation::require_qemu;
use qemu::machine::Configuration;
use qemu::workspace::Workspace;

/// Show each instruction of an operation that `bench` measures, in the order in which it is executed
#[derive(Args)]
#[command(after_help = figure::list())]
pub(crate) struct Options {
    /// Figures
    #[arg(value_name = "NAME", required_unless_present = "into")]
    names: Vec<String>,
    /// Write the listings of this Markdown file anew: its code blocks `asm NAME until TEXT`
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    into: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if let Some(path) = &options.into {
        refresh(path)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, lines) in traces(options.names.iter().map(String::as_str))? {
        println!("{name}");
        for (line, number) in lines.iter().zip(1..) {
            println!("{number:5}  {:42} {:22} {}", line.text, line.function, line.place);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn refresh(path: &Path) -> Result<()> {
    let old =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let traces = traces(listing::names(&old))?;
    let new = listing::refresh(&old, &traces)?;
    for (name, lines) in &traces {
        println!("{name}: {} instructions", lines.len());
    }
    fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))
}

fn traces<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<&'a str, Vec<Line>>> {
    let workspace = Workspace::load()?;
    require_qemu()?;
    let configuration = Configuration::default();
    let plugin = Plugin::build(&workspace)?.tracing();
    let exokernel = Exokernel::build(&workspace, &configuration)?;
    let trace = |name: &'a str| {
        let mut lines = Vec::new();
        for figure in figure::select(&[name.to_owned()])? {
            lines.extend(exokernel.trace(figure, &plugin)?);
        }
        Ok((name, lines))
    };
    names.into_iter().map(trace).collect()
}
