//! The stored baseline: what each figure was when somebody last looked, so that a change is
//! noticed. Only instructions: they are the same on every machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::comparison::Comparison;
use super::sample::Instructions;

/// A change by a larger part than this is told.
const NOTABLE: f64 = 0.03;

/// The instructions of each figure, by name.
#[derive(Debug, Default)]
pub struct Baseline {
    figures: BTreeMap<String, Instructions>,
}

/// Where it is kept.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join("doc/bench/baseline.json")
}

impl Baseline {
    /// Reads it; without a file it is empty.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let figures = serde_json::from_str(&text).with_context(|| {
            format!("{} is no baseline; make it anew with --save-baseline", path.display())
        })?;
        Ok(Self { figures })
    }

    /// Says in each record by how much it differs.
    pub fn compare(&self, records: &mut [Comparison]) {
        for record in records {
            let before = self.figures.get(record.name).map(Instructions::total);
            record.change = before.zip(record.ours).map(|(before, ours)| ours / before - 1.0);
        }
    }

    /// Takes these figures in and writes the file; those that were not measured stay as they are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&mut self, records: &[Comparison], path: &Path) -> Result<()> {
        for record in records {
            if let Some(parts) = record.ours_parts {
                let rounded = |value: f64| (value * 100.0).round() / 100.0;
                let parts =
                    Instructions { user: rounded(parts.user), kernel: rounded(parts.kernel) };
                self.figures.insert(record.name.to_owned(), parts);
            }
        }
        let folder = path.parent().context("a baseline without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let text = serde_json::to_string_pretty(&self.figures)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// One line for each record that differs notably from the baseline.
#[must_use]
pub fn notable(records: &[Comparison]) -> Vec<String> {
    let changed = records.iter().filter_map(|record| {
        let change = record.change.filter(|change| change.abs() > NOTABLE)?;
        let ours = record.ours?;
        let verb = if change > 0.0 { "more" } else { "fewer" };
        Some(format!(
            "{}: {ours:.1} instructions, {:.1} % {verb} than in the baseline",
            record.name,
            change.abs() * 100.0
        ))
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::comparison::Measurements;
    use crate::bench::figure::select;
    use crate::bench::sample::{Measured, Sample, Samples};

    fn record(kernel: f64) -> Comparison {
        let instructions = Instructions { user: 10.0, kernel };
        let sample = Sample::Done(Measured { operations: 1, nanoseconds: 0, instructions });
        let counted = Samples::from([("null_call".to_owned(), sample)]);
        let ours = Measurements { counted, ..Measurements::default() };
        let figure = select(&["null_call".to_owned()]).unwrap()[0];
        Comparison::new(figure, &ours, &Measurements::default())
    }

    #[test]
    fn a_change_of_more_than_three_parts_in_a_hundred_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        Baseline::read(&path).unwrap().save(&[record(90.0)], &path).unwrap();
        let stored = Baseline::read(&path).unwrap();
        let told = |kernel| {
            let mut records = [record(kernel)];
            stored.compare(&mut records);
            notable(&records)
        };
        assert!(told(90.0).is_empty() && told(92.5).is_empty() && told(87.5).is_empty());
        assert!(told(93.5)[0].contains("3.5 % more"), "{:?}", told(93.5));
        assert!(told(80.0)[0].contains("10.0 % fewer"), "{:?}", told(80.0));
    }

    #[test]
    fn what_was_not_measured_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let parts = Instructions { user: 1.0, kernel: 2.0 };
        let mut stored = Baseline { figures: BTreeMap::from([("prot1".to_owned(), parts)]) };
        stored.save(&[record(90.0)], &path).unwrap();
        let figures = Baseline::read(&path).unwrap().figures;
        assert_eq!(figures.keys().collect::<Vec<_>>(), ["null_call", "prot1"]);
    }

    #[test]
    fn a_file_that_is_none_is_not_overwritten_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.json");
        fs::write(&path, "nonsense").unwrap();
        let error = format!("{:#}", Baseline::read(&path).unwrap_err());
        assert!(error.contains("--save-baseline"), "{error}");
    }
}
