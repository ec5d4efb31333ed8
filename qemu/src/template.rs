//! New programs: a `Cargo.toml` and a `main.rs` to start from.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use exo_abi::layout::LABEL;

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
/// Stands for the program's name in the templates.
const NAME: &str = "NAME";

/// What a new program stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// TCP and UDP sockets over the network card.
    Net,
    /// A heap that pages on demand, and files.
    Posix,
    /// Nothing but the kernel's calls: the place for a library operating system of your own.
    Own,
}

impl Template {
    /// The text of `Cargo.toml` and of `src/main.rs`, with a placeholder for the name.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Net => (
                include_str!("../templates/net/Cargo.toml"),
                include_str!("../templates/net/main.rs"),
            ),
            Self::Posix => (
                include_str!("../templates/posix/Cargo.toml"),
                include_str!("../templates/posix/main.rs"),
            ),
            Self::Own => (
                include_str!("../templates/own/Cargo.toml"),
                include_str!("../templates/own/main.rs"),
            ),
        }
    }

    /// Makes the program `apps/NAME` in the workspace at `root`, and returns what was written.
    ///
    /// # Errors
    /// The name cannot be one, the folder exists, or it cannot be written.
    pub fn write(self, root: &Path, name: &str) -> Result<[String; 2]> {
        check_name(name)?;
        let folder = root.join("apps").join(name);
        ensure!(!folder.exists(), "apps/{name} exists already; choose another name or remove it");
        fs::create_dir_all(folder.join("src")).context("cannot make the program's folder")?;
        let (manifest, main) = self.texts();
        for (path, text) in [("Cargo.toml", manifest), ("src/main.rs", main)] {
            let text = text.replace(NAME, name);
            fs::write(folder.join(path), text).context("cannot write the program")?;
        }
        Ok([format!("apps/{name}/Cargo.toml"), format!("apps/{name}/src/main.rs")])
    }
}

/// A name must do for a package, a file and a label.
fn check_name(name: &str) -> Result<()> {
    let letter = name.starts_with(|first: char| first.is_ascii_lowercase());
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !letter || !plain || name.ends_with('-') || name.contains("--") {
        bail!(
            "`{name}` cannot be a name: it starts with a small letter and goes on with small \
             letters, digits and single hyphens, such as `demo` or `key-value`"
        );
    }
    ensure!(name.len() <= LABEL, "`{name}` is longer than {LABEL} characters");
    ensure!(!TAKEN.contains(&name), "`{name}` means something else already; choose another name");
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
        for name in
            ["", "Demo", "1a", "a_b", "../x", "a/b", "-a", "a-", "a--b", "init", "ünï", "a b"]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name(&"a".repeat(LABEL + 1)).is_err());
    }

    #[test]
    fn templates_are_short() {
        for template in Template::value_variants() {
            let (manifest, main) = template.texts();
            let lines = manifest.lines().count() + main.lines().count();
            let most = if *template == Template::Net { 90 } else { 60 };
            assert!(lines < most, "{template:?}: {lines} lines");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let root = tempfile::tempdir().unwrap();
        Template::Own.write(root.path(), "demo").unwrap();
        let main = root.path().join("apps/demo/src/main.rs");
        assert!(fs::read_to_string(&main).unwrap().contains("demo"));
        fs::write(&main, "mine").unwrap();
        assert!(Template::Net.write(root.path(), "demo").is_err());
        assert_eq!(fs::read_to_string(&main).unwrap(), "mine");
    }
}
