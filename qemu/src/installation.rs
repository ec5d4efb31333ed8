//! What has to be installed beside Rust, and how each system installs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::accelerator::qemu_version;

/// A program that may be missing, with the packages that bring it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// What it is called.
    pub name: &'static str,
    /// Its packages for apt.
    pub apt: &'static str,
    /// Its packages for dnf.
    pub dnf: &'static str,
    /// Its packages for pacman.
    pub pacman: &'static str,
    /// Its packages for brew.
    pub brew: &'static str,
}

/// The machine itself.
pub const QEMU_TOOL: Tool = Tool {
    name: "QEMU",
    apt: "qemu-system-x86",
    dnf: "qemu-system-x86-core",
    pacman: "qemu-system-x86",
    brew: "qemu",
};

/// A C compiler and library for static programs of Linux.
pub const MUSL_TOOL: Tool = Tool {
    name: "musl-gcc",
    apt: "musl-tools",
    dnf: "musl-gcc",
    pacman: "musl",
    brew: "FiloSottile/musl-cross/musl-cross",
};

/// What compiles expressions of tcpdump.
pub const LIBPCAP_TOOL: Tool =
    Tool { name: "libpcap", apt: "libpcap0.8", dnf: "libpcap", pacman: "libpcap", brew: "libpcap" };

impl Tool {
    /// The commands that install it, one line for each system.
    #[must_use]
    pub fn commands(&self) -> String {
        format!(
            "  Debian, Ubuntu:  sudo apt-get install --no-install-recommends {}\n  \
               Fedora:          sudo dnf install {}\n  \
               Arch:            sudo pacman -S {}\n  \
               macOS:           brew install {}",
            self.apt, self.dnf, self.pacman, self.brew
        )
    }
}

/// Sees to it that QEMU is there: installs it as root on a Debian system, and says so.
///
/// # Errors
/// QEMU is missing and this is no such system, or the installation fails. The message holds the
/// commands that install it.
pub fn require_qemu() -> Result<()> {
    require(&QEMU_TOOL, qemu_version)
}

/// The same for a tool of which `version` says something if it is there.
///
/// # Errors
/// As [`require_qemu`].
pub fn require(tool: &Tool, version: impl Fn() -> Option<String>) -> Result<()> {
    if version().is_some() {
        return Ok(());
    }
    let Tool { name, apt: package, .. } = tool;
    if !may_install() {
        bail!("{name} is missing. Install it, then run this again:\n{}", tool.commands());
    }
    eprintln!("{name} is missing: installing {package} with apt-get");
    update_lists()?;
    apt(&["install", "-qy", "--no-install-recommends", package])?;
    match version() {
        Some(version) => {
            eprintln!("installed: {version}");
            Ok(())
        }
        None => bail!("{package} is installed, and yet {name} does not start"),
    }
}

/// Whether this process may install packages with apt.
#[must_use]
pub fn may_install() -> bool {
    is_root() && Path::new("/etc/debian_version").exists()
}

/// Has apt read what there is: lists that are stale or absent are the rule in containers.
///
/// # Errors
/// apt fails.
pub fn update_lists() -> Result<()> {
    apt(&["update", "-q"])
}

/// Whether this process may install packages.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    let status = command.status().context("cannot start apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}
