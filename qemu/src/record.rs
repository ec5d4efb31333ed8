//! The folder that a run leaves behind: configuration, transcript, tables, statistics.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::Serialize;

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct Record {
    folder: PathBuf,
}

impl Record {
    /// Makes the folder `target/runs/TIME` and points `latest` at it.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn of_run(target: &Path) -> Result<Self> {
        let runs = target.join("runs");
        fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut name = time.replace(':', "-");
        // Two runs within a millisecond are told apart by a letter more.
        while let Err(error) = fs::create_dir(runs.join(&name)) {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(error).with_context(|| format!("cannot make {}", runs.display()));
            }
            name.push('x');
        }
        let fresh = runs.join(format!(".latest-{name}"));
        symlink(&name, &fresh).context("cannot link to the run's folder")?;
        fs::rename(&fresh, runs.join("latest")).context("cannot link to the run's folder")?;
        Ok(Self { folder: runs.join(name) })
    }

    /// Makes the folder `target/runs/tests/NAME` anew.
    ///
    /// # Errors
    /// The folder cannot be made or emptied.
    pub fn of_test(target: &Path, name: &str) -> Result<Self> {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }
        };
        let folder = target.join("runs/tests").join(name.chars().map(safe).collect::<String>());
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", folder.display()));
            }
            _ => {}
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in the folder, to be filled.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(&self, name: &str) -> Result<File> {
        let path = self.folder.join(name);
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer_pretty(self.create(name)?, value)
            .with_context(|| format!("cannot write {}", self.folder.join(name).display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_names_the_newest_run() {
        let target = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let record = Record::of_run(target.path()).unwrap();
            record.write_json("config.json", &1).unwrap();
            let latest = fs::canonicalize(target.path().join("runs/latest")).unwrap();
            assert_eq!(latest, fs::canonicalize(record.folder()).unwrap());
        }
    }

    #[test]
    fn a_test_starts_with_an_empty_folder() {
        let target = tempfile::tempdir().unwrap();
        let record = Record::of_test(target.path(), "web::serves/../x").unwrap();
        record.write_json("tables.json", &1).unwrap();
        let again = Record::of_test(target.path(), "web::serves/../x").unwrap();
        assert_eq!(record.folder(), again.folder());
        assert!(record.folder().starts_with(target.path()));
        assert!(!again.folder().join("tables.json").exists());
    }
}
