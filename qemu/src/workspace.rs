//! The workspace as Cargo sees it: where it lies, which programs it has and what contract each of
//! them asks for in the table `[package.metadata.exo]` of its `Cargo.toml`.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use exo_abi::layout::LABEL;
use init::manifest::{Port, Program, Right};
use serde::Deserialize;

/// The package that holds the hostile test programs, one binary for each.
pub const PROBES: &str = "guest-probes";
/// The package of the first program; every image holds it.
pub const INIT: &str = "init";
/// The package of the kernel.
pub const KERNEL: &str = "exo-kernel";

/// The workspace and its programs.
#[derive(Debug)]
pub struct Workspace {
    /// Folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
    /// Programs that `run` starts when it is told none, in this order.
    pub start: Vec<String>,
    /// Every package of the workspace: the resolved graph for those who need more than programs.
    pub metadata: Metadata,
    programs: BTreeMap<String, Source>,
}

/// A program that can be put into an image: where it is built from and what it asks for.
#[derive(Clone, Debug)]
pub struct Source {
    /// Name of its binary, which is also its label on the console.
    pub name: String,
    /// The package to build.
    pub package: String,
    /// Folder of the package; paths in `files` start here.
    pub folder: PathBuf,
    /// What it asks for.
    pub contract: Contract,
}

/// Which library operating system a program is linked against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LibOs {
    /// `libos-net`.
    Net,
    /// `libos-posix`.
    Posix,
    /// None, or one that the program brings along: it stands on `exo-user` alone.
    #[default]
    Own,
}

/// The table `[package.metadata.exo]`. Counts are limits; an absent count is the default here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Contract {
    /// The library operating system.
    pub libos: LibOs,
    /// Most frames of 4 KiB.
    pub frames: u32,
    /// Frames that revocation leaves.
    pub floor: u32,
    /// Slices of processor time in each round.
    pub slices: u32,
    /// Over how many processors the slices are spread.
    pub cpus: u32,
    /// Most packet filters.
    pub filters: u32,
    /// Most rings.
    pub rings: u32,
    /// Most environments of its own.
    pub envs: u32,
    /// Frames donated to the kernel.
    pub kernel_frames: u32,
    /// The least notice, in microseconds, that whoever asks for resources back must give.
    pub notice: u32,
    /// Packets that it may claim: `tcp:80`, `udp:68`, `arp`, `icmp`.
    pub ports: Vec<String>,
    /// Further capabilities: `network`, `revoke`, `console`.
    pub rights: Vec<String>,
    /// Arguments, one text.
    pub args: String,
    /// The run does not wait for a service to end.
    pub service: bool,
    /// Files and folders that go into the boot archive under `files/`.
    pub files: Vec<PathBuf>,
}

impl Default for Contract {
    fn default() -> Self {
        Self {
            libos: LibOs::Own,
            frames: 256,
            floor: 32,
            slices: 4,
            cpus: 1,
            filters: 0,
            rings: 0,
            envs: 0,
            kernel_frames: 32,
            notice: 5_000,
            ports: Vec::new(),
            rights: Vec::new(),
            args: String::new(),
            service: false,
            files: Vec::new(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WorkspaceTable {
    start: Vec<String>,
}

impl Workspace {
    /// Asks Cargo for the workspace that holds this tool.
    ///
    /// # Errors
    /// Cargo fails, or a contract in some `Cargo.toml` does not parse.
    pub fn load() -> Result<Self> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self::load_from(package.parent().context("the host tool lies in no workspace")?)
    }

    /// Asks Cargo for the workspace at `root`. It has to be the root: for the folder of a member,
    /// Cargo takes that member alone for the default ones.
    ///
    /// # Errors
    /// As [`Workspace::load`].
    pub fn load_from(root: &Path) -> Result<Self> {
        let manifest = root.join("Cargo.toml");
        let metadata = MetadataCommand::new()
            .cargo_path(cargo())
            .manifest_path(&manifest)
            .other_options(vec!["--locked".to_owned()])
            .exec()
            .or_else(|_| MetadataCommand::new().cargo_path(cargo()).manifest_path(&manifest).exec())
            .context("cargo metadata failed: is the workspace's Cargo.toml in order?")?;
        let table: WorkspaceTable = match metadata.workspace_metadata.get("exo") {
            Some(value) => serde_json::from_value(value.clone())
                .context("[workspace.metadata.exo] in Cargo.toml")?,
            None => WorkspaceTable::default(),
        };
        let mut programs = BTreeMap::new();
        for package in metadata.workspace_packages() {
            for source in sources(package, metadata.workspace_root.as_std_path())? {
                programs.insert(source.name.clone(), source);
            }
        }
        Ok(Self {
            root: metadata.workspace_root.clone().into(),
            target: metadata.target_directory.clone().into(),
            start: table.start,
            metadata,
            programs,
        })
    }

    /// The program of this name.
    ///
    /// # Errors
    /// There is none; the message lists those that exist.
    pub fn program(&self, name: &str) -> Result<&Source> {
        self.programs.get(name).ok_or_else(|| {
            let apps: Vec<&str> = self.apps().map(|source| source.name.as_str()).collect();
            anyhow!(
                "there is no program called `{name}`\nprograms: {}\n\
                 a new one: cargo xtask new {name} --libos own",
                apps.join(", ")
            )
        })
    }

    /// The programs under `apps/`, by name, without `init`.
    pub fn apps(&self) -> impl Iterator<Item = &Source> {
        self.programs.values().filter(|source| source.package != PROBES && source.name != INIT)
    }

    /// The programs under `tests/guest`, by name.
    pub fn probes(&self) -> impl Iterator<Item = &Source> {
        self.programs.values().filter(|source| source.package == PROBES)
    }
}

impl Contract {
    /// The manifest's entry for a program with this contract, called `name`, whose file is
    /// `bin/BINARY`.
    ///
    /// # Errors
    /// A port or a right that does not parse.
    pub fn program(&self, name: &str, binary: &str) -> Result<Program> {
        let ports = self.ports.iter().map(|text| {
            text.parse::<Port>().with_context(|| format!("port `{text}` of program `{name}`"))
        });
        let rights = self.rights.iter().map(|text| {
            text.parse::<Right>().with_context(|| format!("right `{text}` of program `{name}`"))
        });
        ensure!(name.len() <= LABEL, "`{name}` is longer than a label, {LABEL} characters");
        if self.floor > self.frames {
            bail!("program `{name}`: floor {} is above frames {}", self.floor, self.frames);
        }
        Ok(Program {
            name: name.to_owned(),
            path: format!("bin/{binary}"),
            args: self.args.clone(),
            frames: self.frames,
            floor: self.floor,
            slices: self.slices,
            cpus: self.cpus,
            filters: self.filters,
            rings: self.rings,
            environments: self.envs,
            kernel_frames: self.kernel_frames,
            notice: self.notice,
            ports: ports.collect::<Result<_>>()?,
            rights: rights.collect::<Result<_>>()?,
            service: self.service,
        })
    }
}

/// The Cargo that started this tool, so that a pinned toolchain stays pinned.
#[must_use]
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The programs of one package: every binary of a package under `apps/` or `tests/guest`.
fn sources(package: &Package, root: &Path) -> Result<Vec<Source>> {
    let folder: PathBuf =
        package.manifest_path.parent().context("a manifest without a folder")?.into();
    let probes = package.name.as_str() == PROBES;
    if !probes && folder.parent() != Some(&root.join("apps")) {
        return Ok(Vec::new());
    }
    let table = package.metadata.get("exo").cloned().unwrap_or_default();
    let binaries = package.targets.iter().filter(|target| target.is_bin());
    binaries
        .map(|binary| {
            let own = if probes {
                table.get(&binary.name).or_else(|| table.get("default")).cloned()
            } else {
                Some(table.clone())
            };
            let contract = match own {
                Some(value) if !value.is_null() => {
                    serde_json::from_value(value).with_context(|| {
                        format!("[package.metadata.exo] in {}", package.manifest_path)
                    })?
                }
                _ => Contract::default(),
            };
            Ok(Source {
                name: binary.name.clone(),
                package: package.name.to_string(),
                folder: folder.clone(),
                contract,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(text: serde_json::Value) -> Result<Contract, serde_json::Error> {
        serde_json::from_value(text)
    }

    #[test]
    fn an_unknown_key_is_an_error_and_not_a_silent_default() {
        assert!(contract(serde_json::json!({ "frames": 8, "floor": 2 })).is_ok());
        assert!(contract(serde_json::json!({ "frame": 8 })).is_err());
    }

    #[test]
    fn a_floor_above_the_frames_is_refused() {
        let contract = Contract { frames: 8, floor: 9, ..Contract::default() };
        assert!(contract.program("a", "a").is_err());
    }

    #[test]
    fn the_names_of_ports_and_rights_are_checked() {
        let good = Contract {
            ports: vec!["tcp:80".into()],
            rights: vec!["revoke".into()],
            ..Contract::default()
        };
        let program = good.program("a-2", "a").unwrap();
        assert_eq!((program.name.as_str(), program.path.as_str()), ("a-2", "bin/a"));
        let bad = Contract { ports: vec!["tcp:none".into()], ..Contract::default() };
        assert!(bad.program("a", "a").is_err());
    }

    #[test]
    fn this_workspace_loads() {
        let workspace = Workspace::load().unwrap();
        assert!(workspace.root.join("qemu/src/workspace.rs").exists());
        assert!(workspace.program("no-such-program").is_err());
        let packages = workspace.metadata.workspace_default_packages();
        let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        assert!(names.contains(&"exo-abi") && names.contains(&"qemu"), "{names:?}");
    }
}
