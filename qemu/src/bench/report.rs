//! The report: a folder with the figures as Markdown, JSON and pictures.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use filter_tools::measure::Timing;

use super::comparison::Comparison;
use super::figure::{Group, Unit};
use super::filters;
use super::plot::{Row, draw};

/// Writes the report into a folder, which is made if it is not there: the figures of guests, and
/// those of filters, if they were measured.
///
/// # Errors
/// A file cannot be written.
pub fn write(
    folder: &Path,
    records: &[Comparison],
    peer: Option<&str>,
    filters: Option<(&[filters::Record], &[Timing])>,
) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut text = String::from("# Figures\n\n");
    if !records.is_empty() {
        text.push_str(introduction(peer).as_str());
    }
    for group in Group::ALL {
        let records: Vec<&Comparison> =
            records.iter().filter(|record| record.bench == group).collect();
        if records.is_empty() {
            continue;
        }
        let name = group.name();
        write!(text, "\n## {name}\n\n{}", table(&records))?;
        let counted = records.iter().filter(|record| record.unit == Unit::Instructions);
        let instructions = counted.map(|record| row(record, false));
        let times = records.iter().map(|record| row(record, true));
        for (file, title, rows) in [
            (
                format!("{name}-instructions.svg"),
                "Instructions per operation",
                instructions.collect(),
            ),
            (format!("{name}-time.svg"), "Nanoseconds per operation", times.collect::<Vec<_>>()),
        ] {
            if draw(&folder.join(&file), title, &rows)? {
                write!(text, "\n![{title}]({file})\n")?;
            }
        }
    }
    if !records.is_empty() {
        write!(text, "\n## What is measured\n\n{}", explanations(records))?;
    }
    let mut json: Vec<serde_json::Value> =
        records.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    if let Some((records, timings)) = filters {
        text.push_str(&filters::report(folder, records, timings)?);
        json.extend(records.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
    }
    save(folder, "README.md", &text)?;
    save(folder, "figures.json", &serde_json::to_string_pretty(&json)?)
}

fn save(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn introduction(peer: Option<&str>) -> String {
    let peer = peer.map_or_else(String::new, |peer| {
        format!(
            "The other\nsystem is {peer} without mitigations, on the same emulated machine with \
             the same options.\nBehind a ratio of times is what it has to be.\n"
        )
    });
    format!(
        "Guest instructions per operation, counted by a plugin of QEMU between marks that the \
         guest sets:\nthe same on every host. Times are the guest's own, the median of several \
         rounds; on a shared host\nonly their ratios mean something. {peer}"
    )
}

fn table(records: &[&Comparison]) -> String {
    let mut text = String::from(
        "| figure | user | kernel | total | at most | | Linux | ratio | ns | Linux, ns | ratio |\n\
         |---|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|\n",
    );
    for record in records {
        let parts = record.ours_parts;
        let cells = [
            format!("`{}`", record.name),
            number(parts.map(|parts| parts.user)),
            number(parts.map(|parts| parts.kernel)),
            record.ours_text(),
            record.bar_text(),
            record.status(),
            number(record.linux),
            ratio(record.ratio),
            number(record.ours_nanoseconds),
            number(record.linux_nanoseconds),
            record.time_ratio_text(),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn explanations(records: &[Comparison]) -> String {
    let line = |record: &Comparison| {
        let linux =
            record.linux_operation.map_or_else(String::new, |text| format!("; Linux: {text}"));
        format!("- `{}`: {}{linux}\n", record.name, record.operation)
    };
    records.iter().map(line).collect()
}

fn row(record: &Comparison, time: bool) -> Row {
    let (ours, linux, bar) = if time {
        (record.ours_nanoseconds, record.linux_nanoseconds, None)
    } else {
        (record.ours, record.linux, Some(record.bar))
    };
    Row { name: record.name.to_owned(), ours, linux, bar }
}

/// A number for a table: nothing where there is none.
#[must_use]
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| {
        if value < 1_000.0 { format!("{value:.1}") } else { format!("{value:.0}") }
    })
}

/// A ratio for a table.
#[must_use]
pub fn ratio(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.1}×"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::comparison::Measurements;
    use crate::bench::figure::FIGURES;

    #[test]
    fn every_figure_is_in_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = Measurements::default();
        let records: Vec<Comparison> =
            FIGURES.iter().map(|figure| Comparison::new(figure, &nothing, &nothing)).collect();
        write(folder.path(), &records, Some("Linux 6.1"), None).unwrap();
        let text = fs::read_to_string(folder.path().join("README.md")).unwrap();
        for figure in FIGURES {
            assert!(text.contains(&format!("| `{}` |", figure.name)), "{text}");
        }
        let json = fs::read_to_string(folder.path().join("figures.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.as_array().unwrap().len(), FIGURES.len());
    }
}
