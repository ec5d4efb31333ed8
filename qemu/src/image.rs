//! The boot image: which programs start, and the one file that QEMU loads beside the kernel.
//!
//! The file is what `exo_abi::boot` defines: a page with the header, the segments of `init` laid
//! out for the kernel to map, then the archive that `init` reads.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use init::manifest::{Manifest, Program};
use tempfile::NamedTempFile;

use crate::archive;
use crate::artifact::Artifacts;
use crate::backtrace::Executables;
use crate::console::{INIT_LABEL, KERNEL_LABEL};
use crate::elf;
use crate::guest::Boot;
use crate::module;
use crate::workspace::{Contract, INIT, Source, Workspace};

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Seed of everything random in the run.
    pub seed: u64,
    /// Go on until Ctrl-C.
    pub linger: bool,
    /// Leave out the reports of `init` for people.
    pub quiet: bool,
    programs: Vec<(Origin<'a>, Program)>,
}

/// Where a program comes from.
#[derive(Clone, Debug)]
enum Origin<'a> {
    /// It is built.
    Source(&'a Source),
    /// A test made its file byte by byte.
    Crafted(Vec<u8>),
}

impl<'a> Plan<'a> {
    /// Starts these programs in this order. A program named twice runs twice; the second is then
    /// called `NAME-2`, and so on.
    ///
    /// # Errors
    /// There is no such program, or its contract is wrong.
    pub fn new(workspace: &'a Workspace, names: &[impl AsRef<str>]) -> Result<Self> {
        // The standard library's only source of randomness, and enough for a seed.
        let seed = RandomState::new().hash_one(0);
        let mut plan = Self { seed, linger: false, quiet: false, programs: Vec::new() };
        for name in names {
            plan.add(workspace.program(name.as_ref())?)?;
        }
        Ok(plan)
    }

    /// Starts this program too.
    ///
    /// # Errors
    /// Its contract is wrong.
    pub fn add(&mut self, source: &'a Source) -> Result<()> {
        let times = self.sources().filter(|other| other.name == source.name).count();
        let label = match times {
            0 => source.name.clone(),
            times => format!("{}-{}", source.name, times + 1),
        };
        self.add_as(source, &label)
    }

    /// Starts this program too, under this label.
    ///
    /// # Errors
    /// Its contract is wrong, or the label is too long.
    pub fn add_as(&mut self, source: &'a Source, label: &str) -> Result<()> {
        let program = source.contract.program(label, &source.name)?;
        self.programs.push((Origin::Source(source), program));
        Ok(())
    }

    /// Starts this file too, whatever is in it, as a program with the contract of those that have
    /// none in their `Cargo.toml`.
    ///
    /// # Errors
    /// The name is too long for a label.
    pub fn add_crafted(&mut self, name: &str, file: Vec<u8>) -> Result<()> {
        let program = Contract::default().program(name, name)?;
        self.programs.push((Origin::Crafted(file), program));
        Ok(())
    }

    /// Where the programs are built from.
    pub fn sources(&self) -> impl Iterator<Item = &'a Source> {
        self.programs.iter().filter_map(|(origin, _)| match origin {
            Origin::Source(source) => Some(*source),
            Origin::Crafted(_) => None,
        })
    }

    /// Whether one of the programs is a service, which is there to be used: who starts one wants
    /// the run to go on until they end it.
    #[must_use]
    pub fn has_service(&self) -> bool {
        self.sources().any(|source| source.contract.service)
    }

    /// Gives a program other arguments.
    ///
    /// # Errors
    /// It is not in the plan.
    pub fn set_arguments(&mut self, name: &str, text: &str) -> Result<()> {
        text.clone_into(&mut self.program(name)?.args);
        Ok(())
    }

    /// A program's entry in the manifest, to change its contract for this run.
    ///
    /// # Errors
    /// It is not in the plan.
    pub fn program(&mut self, name: &str) -> Result<&mut Program> {
        let found = self.programs.iter_mut().find(|(_, program)| program.name == name);
        found
            .map(|(_, program)| program)
            .ok_or_else(|| anyhow!("no program `{name}` is to be started"))
    }

    /// The manifest for `init`.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        Manifest {
            programs: self.programs.iter().map(|(_, program)| program.clone()).collect(),
            seed: self.seed,
            quiet: self.quiet,
            linger: self.linger,
        }
    }
}

/// A boot image on disk; it is deleted with this value.
#[derive(Debug)]
pub struct Image {
    /// What to boot.
    pub boot: Boot,
    /// The manifest inside.
    pub manifest: Manifest,
    _file: NamedTempFile,
}

impl Image {
    /// Makes the image.
    ///
    /// # Errors
    /// A program cannot be read or is none, or the image cannot be written.
    pub fn make(workspace: &Workspace, artifacts: &Artifacts, plan: &Plan) -> Result<Self> {
        let manifest = plan.manifest();
        let bytes = bytes(artifacts, plan, &manifest)?;
        let folder = workspace.target.join("images");
        fs::create_dir_all(&folder).context("cannot make the folder of the images")?;
        let mut file = NamedTempFile::new_in(&folder).context("cannot make a boot image")?;
        file.write_all(&bytes).context("cannot write the boot image")?;
        let mut executables = Executables::new();
        executables.insert(KERNEL_LABEL.to_owned(), artifacts.kernel.clone());
        executables.insert(INIT_LABEL.to_owned(), artifacts.program(INIT)?.clone());
        for (origin, program) in &plan.programs {
            let Origin::Source(source) = origin else { continue };
            executables.insert(program.name.clone(), artifacts.program(&source.name)?.clone());
        }
        let boot = Boot {
            kernel: artifacts.kernel.clone(),
            module: Some(file.path().to_owned()),
            executables,
            root: workspace.root.clone(),
        };
        Ok(Self { boot, manifest, _file: file })
    }
}

/// The bytes of the boot module.
fn bytes(artifacts: &Artifacts, plan: &Plan, manifest: &Manifest) -> Result<Vec<u8>> {
    let mut programs: BTreeMap<String, PathBuf> = BTreeMap::new();
    for source in plan.sources() {
        programs.insert(source.name.clone(), artifacts.program(&source.name)?.clone());
    }
    ensure!(!programs.contains_key(INIT), "`{INIT}` is in every image and starts the others");
    let sources: Vec<&Source> = plan.sources().collect();
    let crafted = plan.programs.iter().filter_map(|(origin, program)| match origin {
        Origin::Source(_) => None,
        Origin::Crafted(file) => Some((program.path.clone(), file.clone())),
    });
    let archive = archive::make(manifest, &programs, &sources, &crafted.collect())?;
    let path = artifacts.program(INIT)?;
    let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let init = elf::parse(&file).with_context(|| format!("program {}", path.display()))?;
    module::encode(&init, &archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_named_twice_runs_twice() {
        let workspace = Workspace::load().unwrap();
        let mut plan = Plan::new(&workspace, &["web", "pages", "web"]).unwrap();
        plan.set_arguments("web-2", "other").unwrap();
        let programs = plan.manifest().programs;
        let names: Vec<&str> = programs.iter().map(|program| &*program.name).collect();
        assert_eq!(names, ["web", "pages", "web-2"]);
        assert_eq!((&*programs[2].path, &*programs[2].args), ("bin/web", "other"));
        assert_ne!(programs[0].args, "other");
    }

    #[test]
    fn what_is_not_there_cannot_be_started() {
        let workspace = Workspace::load().unwrap();
        let error = Plan::new(&workspace, &["no-such"]).unwrap_err().to_string();
        assert!(error.contains("pages") && error.contains("cargo xtask new"), "{error}");
        let mut plan = Plan::new(&workspace, &["web"]).unwrap();
        assert!(plan.set_arguments("pages", "").is_err());
    }
}
