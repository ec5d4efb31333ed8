//! The compiler that builds the guest: which targets it has, and how it gets those that it lacks.
//!
//! `rust-toolchain.toml` names the targets, but rustup reads it only when it installs the
//! toolchain: who had that version already, for another project, has it without them, and Cargo
//! then says no more than ``can't find crate for `core` ``.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// The target of the kernel: no floating point, no operating system.
pub const KERNEL_TARGET: &str = "x86_64-unknown-none";
/// The target of the programs: static ELF with SSE.
pub const PROGRAM_TARGET: &str = "x86_64-unknown-linux-musl";

/// Which toolchain is meant; rustup sets it for whatever it starts.
const TOOLCHAIN: &str = "RUSTUP_TOOLCHAIN";

/// The compiler that Cargo uses.
#[must_use]
pub fn rustc() -> PathBuf {
    env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from)
}

/// Whether the compiler has the libraries of a target.
#[must_use]
pub fn has_target(target: &str) -> bool {
    let mut command = Command::new(rustc());
    command.args(["--print", "target-libdir", "--target", target]).stdin(Stdio::null());
    let Ok(output) = command.output() else { return false };
    let folder = String::from_utf8_lossy(&output.stdout);
    output.status.success() && Path::new(folder.trim_end()).is_dir()
}

/// The command that adds a target.
#[must_use]
pub fn mend(target: &str) -> String {
    format!("rustup {}", arguments(target).join(" "))
}

/// Sees to it that the targets of the guest are there: adds those that are missing, and says so.
///
/// # Errors
/// As [`require_target`].
pub fn require_targets() -> Result<()> {
    [KERNEL_TARGET, PROGRAM_TARGET].into_iter().try_for_each(require_target)
}

/// Sees to it that a target is there: adds it if it is missing, and says so.
///
/// # Errors
/// It is missing, and rustup is not there or fails. The message holds the command that adds it.
pub fn require_target(target: &str) -> Result<()> {
    if has_target(target) {
        return Ok(());
    }
    add(OsStr::new("rustup"), target)?;
    if !has_target(target) {
        bail!("target {target} was added, and yet {} does not have it", rustc().display());
    }
    Ok(())
}

fn add(rustup: &OsStr, target: &str) -> Result<()> {
    let command = mend(target);
    eprintln!("target {target} is missing: {command}");
    match Command::new(rustup).args(arguments(target)).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!("target {target} is missing and rustup failed. Run this:\n  {command}"),
        Err(_) => bail!(
            "target {target} is missing, and there is no rustup that adds it. Install rustup, then \
             run this:\n  {command}\nor install the libraries of that target as you did rustc's"
        ),
    }
}

fn arguments(target: &str) -> Vec<String> {
    let mut words = vec!["target".to_owned(), "add".to_owned()];
    if let Ok(toolchain) = env::var(TOOLCHAIN) {
        words.extend(["--toolchain".to_owned(), toolchain]);
    }
    words.push(target.to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_without_libraries_is_missing() {
        assert!(has_target("x86_64-unknown-linux-gnu") || !cfg!(target_env = "gnu"));
        assert!(!has_target("x86_64-unknown-nowhere"));
        // Known to the compiler and too rare for anybody to have its libraries.
        assert!(!has_target("mipsel-sony-psx"));
    }

    #[test]
    fn without_a_rustup_that_works_the_command_is_said() {
        for rustup in ["false", "there-is-no-such-rustup"] {
            let error = add(OsStr::new(rustup), KERNEL_TARGET).unwrap_err().to_string();
            assert!(error.contains(&mend(KERNEL_TARGET)), "{error}");
        }
        let words = mend(KERNEL_TARGET);
        assert!(words.starts_with("rustup target add ") && words.ends_with(KERNEL_TARGET));
    }
}
