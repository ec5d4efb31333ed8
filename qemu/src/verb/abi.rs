//! `abi`: the documentation of the calls, from their definition.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use qemu::reference::{PLACE, is_current, write};
use qemu::workspace::Workspace;

/// Write doc/abi.md from the definitions in exo-abi
#[derive(Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: &Options) -> Result<ExitCode> {
    let root = Workspace::load()?.root;
    // A file that cannot be read is written anew.
    if is_current(&root).unwrap_or(false) {
        println!("{PLACE} is up to date");
    } else {
        write(&root)?;
        println!("{PLACE} written");
    }
    Ok(ExitCode::SUCCESS)
}
