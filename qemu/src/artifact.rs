//! Building what is booted, with Cargo, each time: Cargo knows what is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use cargo_metadata::{Artifact, Message};
use indicatif::{ProgressBar, ProgressStyle};

use crate::toolchain::{KERNEL_TARGET, PROGRAM_TARGET, require_target};
use crate::workspace::{INIT, KERNEL, Source, Workspace, cargo};

/// The profile of everything that boots.
const PROFILE: &str = "guest";
/// Flags from outside would replace those in `.cargo/config.toml`, without which nothing boots.
const FOREIGN_FLAGS: [&str; 4] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"];

/// What was built: ELF files with their line tables.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The kernel.
    pub kernel: PathBuf,
    /// The programs by the name of their binary; `init` is among them.
    pub programs: BTreeMap<String, PathBuf>,
}

impl Artifacts {
    /// The file of one program.
    ///
    /// # Errors
    /// It was not among those that were built.
    pub fn program(&self, name: &str) -> Result<&PathBuf> {
        self.programs.get(name).ok_or_else(|| anyhow!("Cargo built no executable called `{name}`"))
    }
}

/// Builds the kernel, `init` and these programs.
///
/// # Errors
/// Cargo fails; it has then said why on the standard error output.
pub fn build<'a>(
    workspace: &Workspace,
    programs: impl IntoIterator<Item = &'a Source>,
) -> Result<Artifacts> {
    let _lock = lock(workspace)?;
    let kernel = cargo_build(workspace, KERNEL_TARGET, &BTreeSet::from([KERNEL]))?;
    let mut packages: BTreeSet<&str> =
        programs.into_iter().map(|source| &*source.package).collect();
    packages.insert(INIT);
    let programs = cargo_build(workspace, PROGRAM_TARGET, &packages)?;
    let artifacts = Artifacts {
        kernel: kernel.get(KERNEL).context("Cargo built no kernel")?.clone(),
        programs,
    };
    artifacts.program(INIT)?;
    Ok(artifacts)
}

/// Builds only these programs, for a workspace that has no kernel, and returns the files by name.
///
/// # Errors
/// As [`build`].
pub fn build_programs<'a>(
    workspace: &Workspace,
    programs: impl IntoIterator<Item = &'a Source>,
) -> Result<BTreeMap<String, PathBuf>> {
    let _lock = lock(workspace)?;
    let packages = programs.into_iter().map(|source| &*source.package).collect();
    cargo_build(workspace, PROGRAM_TARGET, &packages)
}

/// Two test runs at once would otherwise replace files under each other's feet.
fn lock(workspace: &Workspace) -> Result<File> {
    fs::create_dir_all(&workspace.target).context("cannot make the target folder")?;
    let lock =
        File::create(workspace.target.join(".guest-lock")).context("cannot make a lock file")?;
    lock.lock().context("cannot lock the guest's build")?;
    Ok(lock)
}

/// Builds a library that another program loads while it runs, for the host, and returns its file.
///
/// # Errors
/// As [`build`].
pub fn build_library(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let _lock = lock(workspace)?;
    let mut library = None;
    let arguments = ["--release", "--package", package].map(str::to_owned);
    run_cargo(workspace, "the host", &arguments, |artifact| {
        if artifact.target.is_cdylib() {
            library = artifact.filenames.into_iter().next();
        }
    })?;
    Ok(library.with_context(|| format!("Cargo built no library of `{package}`"))?.into())
}

/// Builds packages and collects the executables that Cargo names.
fn cargo_build(
    workspace: &Workspace,
    target: &str,
    packages: &BTreeSet<&str>,
) -> Result<BTreeMap<String, PathBuf>> {
    require_target(target)?;
    let mut arguments = ["--profile", PROFILE, "--target", target].map(str::to_owned).to_vec();
    for package in packages {
        arguments.extend(["--package".to_owned(), (*package).to_owned()]);
    }
    let mut executables = BTreeMap::new();
    run_cargo(workspace, target, &arguments, |artifact| {
        if let Some(path) = artifact.executable {
            executables.insert(artifact.target.name, path.into());
        }
    })?;
    Ok(executables)
}

/// Runs `cargo build` and shows each artifact.
fn run_cargo(
    workspace: &Workspace,
    target: &str,
    arguments: &[String],
    mut show: impl FnMut(Artifact),
) -> Result<()> {
    let mut command = Command::new(cargo());
    command.current_dir(&workspace.root).stdin(Stdio::null()).stdout(Stdio::piped());
    for name in FOREIGN_FLAGS {
        command.env_remove(name);
    }
    command.args(["build", "--quiet", "--message-format=json-render-diagnostics"]).args(arguments);
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} building for {prefix}: {pos} crates, {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.set_prefix(target.to_owned());
    let mut child = command.spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo without an output")?;
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) = message.context("cannot read from cargo")? {
            bar.inc(1);
            bar.set_message(artifact.target.name.clone());
            show(artifact);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    bar.finish_and_clear();
    if !status.success() {
        let arguments = arguments.join(" ");
        bail!("cargo build {arguments} failed; the compiler says why above");
    }
    Ok(())
}
