//! `new`: a program from a template.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use qemu::template::Template;
use qemu::workspace::Workspace;

/// Make a new program under apps/ from a template; it builds and runs as it is
#[derive(Args)]
pub(crate) struct Options {
    /// Its name: small letters, digits and hyphens
    name: String,
    /// What it stands on: libos-net, libos-posix, or exo-user alone
    #[arg(long, value_enum)]
    libos: Template,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let name = &options.name;
    let taken = workspace.metadata.packages.iter().any(|package| package.name.as_str() == name);
    ensure!(!taken, "`{name}` is the name of a package already; choose another");
    for path in options.libos.write(&workspace.root, name)? {
        println!("made {path}");
    }
    println!("next: cargo xtask run --app {name}");
    Ok(ExitCode::SUCCESS)
}
