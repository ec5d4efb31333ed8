//! `trace`: each instruction of an operation, in order.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use qemu::bench::counter::Plugin;
use qemu::bench::exokernel::Exokernel;
use qemu::bench::figure;
use qemu::installation::require_qemu;
use qemu::machine::Configuration;
use qemu::workspace::Workspace;

/// Show each instruction of an operation that `bench` measures, in the order in which it is executed
#[derive(Args)]
#[command(after_help = figure::list())]
pub(crate) struct Options {
    /// Figures
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let figures = figure::select(&options.names)?;
    let workspace = Workspace::load()?;
    require_qemu()?;
    let configuration = Configuration::default();
    let plugin = Plugin::build(&workspace)?.tracing();
    let exokernel = Exokernel::build(&workspace, &configuration)?;
    for figure in figures {
        println!("{}: {}", figure.name, figure.text);
        for (line, number) in exokernel.trace(figure, &plugin)?.iter().zip(1..) {
            println!("{number:5}  {:42} {:22} {}", line.text, line.function, line.place);
        }
    }
    Ok(ExitCode::SUCCESS)
}
