//! `abi`: the documentation of the calls, from their definition.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use qemu::workspace::Workspace;

/// Where the documentation lies in the workspace.
const PLACE: &str = "doc/abi.md";

/// Write doc/abi.md from the definitions in exo-abi
#[derive(Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: &Options) -> Result<ExitCode> {
    let path = Workspace::load()?.root.join(PLACE);
    let text = exo_abi::document();
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        println!("{PLACE} is up to date");
        return Ok(ExitCode::SUCCESS);
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{PLACE} written");
    Ok(ExitCode::SUCCESS)
}
