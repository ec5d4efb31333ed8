//! `image`: the two files that another machine monitor needs.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use qemu::artifact;
use qemu::image::{Image, Plan};
use qemu::workspace::Workspace;

/// Write the kernel and a boot module to a folder, without booting them
#[derive(Args)]
pub(crate) struct Options {
    /// Programs in the image [default: those that Cargo.toml names]
    #[arg(long = "app", value_name = "NAME", num_args = 1..)]
    apps: Vec<String>,
    /// The folder [default: target/image]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let names = if options.apps.is_empty() { &workspace.start } else { &options.apps };
    let mut plan = Plan::new(&workspace, names)?;
    plan.linger = plan.has_service();
    let artifacts = artifact::build(&workspace, plan.sources())?;
    let image = Image::make(&workspace, &artifacts, &plan)?;
    let folder = options.output.clone().unwrap_or_else(|| workspace.target.join("image"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let module = image.boot.module.as_deref().context("an image without a module")?;
    for (from, name) in [(image.boot.kernel.as_path(), "kernel"), (module, "module")] {
        let to = folder.join(name);
        let size = fs::copy(from, &to).with_context(|| format!("cannot write {}", to.display()))?;
        println!("{}: {} KiB", to.display(), size.div_ceil(1024));
    }
    Ok(ExitCode::SUCCESS)
}
