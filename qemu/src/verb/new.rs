//! `new`: a program from a template.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use qemu::workspace::Workspace;

/// Longest name: it is a label on the console.
const LONGEST_NAME: usize = 24;
/// Words that Rust or this system uses for something else.
const TAKEN: [&str; 12] = [
    "kernel",
    "init",
    "test",
    "tests",
    "core",
    "std",
    "alloc",
    "proc-macro",
    "build",
    "main",
    "self",
    "crate",
];

/// Make a new program under apps/ from a template; it builds and runs as it is
#[derive(Args)]
pub(crate) struct Options {
    /// Its name: small letters, digits and hyphens
    name: String,
    /// What it stands on: libos-net, libos-posix, or exo-user alone
    #[arg(long, value_enum)]
    libos: Template,
}

#[derive(Clone, Copy, ValueEnum)]
enum Template {
    /// TCP and UDP sockets over the network card
    Net,
    /// A heap that pages on demand, and files
    Posix,
    /// Nothing but the kernel's calls: the place for a library operating system of your own
    Own,
}

impl Template {
    /// The contents of `Cargo.toml` and `src/main.rs`.
    fn files(self) -> [(&'static str, &'static str); 2] {
        let (manifest, main) = match self {
            Self::Net => (
                include_str!("../../templates/net/Cargo.toml"),
                include_str!("../../templates/net/main.rs"),
            ),
            Self::Posix => (
                include_str!("../../templates/posix/Cargo.toml"),
                include_str!("../../templates/posix/main.rs"),
            ),
            Self::Own => (
                include_str!("../../templates/own/Cargo.toml"),
                include_str!("../../templates/own/main.rs"),
            ),
        };
        [("Cargo.toml", manifest), ("src/main.rs", main)]
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let name = &options.name;
    check_name(name)?;
    let taken = workspace
        .metadata
        .packages
        .iter()
        .any(|package| package.name.as_str() == name);
    ensure!(
        !taken,
        "`{name}` is the name of a package already; choose another"
    );
    let folder = workspace.root.join("apps").join(name);
    ensure!(
        !folder.exists(),
        "apps/{name} exists already; choose another name or remove it"
    );
    fs::create_dir_all(folder.join("src")).context("cannot make the program's folder")?;
    for (path, text) in options.libos.files() {
        fs::write(folder.join(path), text.replace("NAME", name))
            .context("cannot write the program")?;
        println!("made apps/{name}/{path}");
    }
    println!("next: cargo xtask run --app {name}");
    Ok(ExitCode::SUCCESS)
}

/// A name must do for a package, a file and a label.
fn check_name(name: &str) -> Result<()> {
    let letter = name.starts_with(|first: char| first.is_ascii_lowercase());
    let plain = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !letter || !plain || name.ends_with('-') || name.contains("--") {
        bail!(
            "`{name}` cannot be a name: it starts with a small letter and goes on with small letters, \
             digits and single hyphens, such as `demo` or `key-value`"
        );
    }
    ensure!(
        name.len() <= LONGEST_NAME,
        "`{name}` is longer than {LONGEST_NAME} characters"
    );
    ensure!(
        !TAKEN.contains(&name),
        "`{name}` means something else already; choose another name"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["demo", "key-value", "a1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "", "Demo", "1a", "a_b", "../x", "a/b", "-a", "a-", "a--b", "init", "ünï", "a b",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name(&"a".repeat(LONGEST_NAME + 1)).is_err());
    }

    #[test]
    fn templates_are_short() {
        for template in Template::value_variants() {
            let lines: usize = template
                .files()
                .iter()
                .map(|(_, text)| text.lines().count())
                .sum();
            assert!(lines < 60, "{lines} lines");
        }
    }
}
