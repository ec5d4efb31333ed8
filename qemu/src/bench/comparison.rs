//! Our figures beside Linux's: one record for each, and whether it is good enough.

use serde::Serialize;

use super::figure::{Figure, Group, Unit};
use super::sample::{Instructions, Measured, Sample, Samples};

/// What one guest has measured: counted once, timed in several rounds.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    /// What it is, if not ours.
    pub system: Option<String>,
    /// With the counter.
    pub counted: Samples,
    /// By the clock, one for each round.
    pub timed: Vec<Samples>,
}

/// One figure, as it is written down. Everything is for one operation; what was not measured is
/// `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The group.
    pub bench: Group,
    /// The figure.
    pub name: &'static str,
    /// The unit of `ours`, `linux` and `bar`.
    pub unit: Unit,
    /// Our instructions, those of programs and kernel together; or our ratio.
    pub ours: Option<f64>,
    /// Linux's.
    pub linux: Option<f64>,
    /// How many times fewer ours are.
    pub ratio: Option<f64>,
    /// The most that ours may be, or for a ratio the least.
    pub bar: f64,
    /// Whether ours reach it, by instructions and, where Linux was measured, by the clock.
    pub ok: bool,
    /// Ours, apart.
    pub ours_parts: Option<Instructions>,
    /// Linux's, apart.
    pub linux_parts: Option<Instructions>,
    /// Our time: the median of the rounds.
    pub ours_nanoseconds: Option<f64>,
    /// Linux's.
    pub linux_nanoseconds: Option<f64>,
    /// How many times faster ours is: the median of the rounds' ratios.
    pub time_ratio: Option<f64>,
    /// How many times faster it has to be.
    pub time_bar: Option<f64>,
    /// By how much ours differ from the stored baseline, as a part of it.
    pub change: Option<f64>,
    /// What one operation is.
    pub operation: &'static str,
    /// What it is on Linux.
    pub linux_operation: Option<&'static str>,
    /// Why there is no figure of ours.
    pub problem: Option<String>,
}

impl Comparison {
    /// Compares what was measured for a figure.
    #[must_use]
    pub fn new(figure: &Figure, ours: &Measurements, linux: &Measurements) -> Self {
        let ours_parts = done(&ours.counted, figure.name).map(|measured| parts(&measured, 1));
        let peer = figure.linux;
        let linux_parts =
            peer.and_then(|peer| Some(parts(&done(&linux.counted, peer.bench)?, peer.operations)));
        let ours_times = times(&ours.timed, figure.name, 1);
        let linux_times =
            peer.map_or_else(Vec::new, |peer| times(&linux.timed, peer.bench, peer.operations));
        let time_ratio = median(
            ours_times.iter().zip(&linux_times).map(|(ours, linux)| Some((*linux)? / (*ours)?)),
        );
        let ours_total = match figure.unit {
            Unit::Instructions => ours_parts.map(|parts| parts.total()),
            Unit::Ratio => {
                median(ours.timed.iter().map(|samples| proportion(samples, figure.name)))
            }
        };
        let linux_total = linux_parts.map(|parts| parts.total());
        let whole = figure.third_of.and_then(|whole| done(&ours.counted, whole));
        let bar = whole.map_or(figure.bar, |whole| (parts(&whole, 1).total() / 3.0).floor());
        let fast_enough = match (figure.faster, time_ratio) {
            (Some(bar), Some(ratio)) => ratio >= bar,
            _ => true,
        };
        Self {
            bench: figure.group,
            name: figure.name,
            unit: figure.unit,
            ours: ours_total,
            linux: linux_total,
            ratio: ours_total.zip(linux_total).map(|(ours, linux)| linux / ours),
            bar,
            ok: ours_total.is_some_and(|ours| reaches(figure.unit, ours, bar)) && fast_enough,
            ours_parts,
            linux_parts,
            ours_nanoseconds: median(ours_times.iter().copied()),
            linux_nanoseconds: median(linux_times.iter().copied()),
            time_ratio,
            time_bar: figure.faster,
            change: None,
            operation: figure.text,
            linux_operation: peer.map(|peer| peer.text),
            problem: match figure.unit {
                Unit::Instructions => problem(Some(&ours.counted), figure.name),
                Unit::Ratio => problem(ours.timed.last(), figure.name),
            },
        }
    }
}

impl Comparison {
    /// Whether the bar is reached, and if not, why, in two words.
    #[must_use]
    pub fn status(&self) -> String {
        match (&self.problem, self.ours) {
            _ if self.ok => "ok".to_owned(),
            (Some(problem), _) => problem.clone(),
            (None, Some(ours)) if reaches(self.unit, ours, self.bar) => "TOO SLOW".to_owned(),
            (None, _) if self.unit == Unit::Ratio => "TOO SLOW".to_owned(),
            (None, _) => "TOO MANY".to_owned(),
        }
    }

    /// The bar, as a reader sees it below `at most`.
    #[must_use]
    pub fn bar_text(&self) -> String {
        match self.unit {
            Unit::Instructions => self.bar.to_string(),
            Unit::Ratio => format!("≥ {}×", self.bar),
        }
    }

    /// How many times faster ours is, and has to be, as a reader sees it.
    #[must_use]
    pub fn time_ratio_text(&self) -> String {
        let text = super::report::ratio(self.time_ratio);
        match (self.time_ratio, self.time_bar) {
            (Some(_), Some(bar)) => format!("{text} (≥ {bar}×)"),
            _ => text,
        }
    }

    /// Ours, as a reader sees it.
    #[must_use]
    pub fn ours_text(&self) -> String {
        match (self.unit, self.ours) {
            (Unit::Ratio, Some(ours)) => format!("{ours:.2}×"),
            (_, ours) => super::report::number(ours),
        }
    }
}

fn reaches(unit: Unit, ours: f64, bar: f64) -> bool {
    match unit {
        Unit::Instructions => ours <= bar,
        Unit::Ratio => ours >= bar,
    }
}

fn proportion(samples: &Samples, name: &str) -> Option<f64> {
    match samples.get(name) {
        Some(Sample::Ratio(ratio)) => Some(*ratio),
        _ => None,
    }
}

fn done(samples: &Samples, name: &str) -> Option<Measured> {
    match samples.get(name) {
        Some(Sample::Done(measured)) => Some(*measured),
        _ => None,
    }
}

fn problem(samples: Option<&Samples>, name: &str) -> Option<String> {
    match samples.and_then(|samples| samples.get(name)) {
        Some(Sample::Done(_) | Sample::Ratio(_)) => None,
        Some(Sample::Failed(reason)) => Some(format!("failed: {reason}")),
        Some(Sample::Unknown) => Some("not there yet".to_owned()),
        None => Some("not measured".to_owned()),
    }
}

/// Instructions for one of our operations, of which one of the guest's is so many.
fn parts(measured: &Measured, operations: u32) -> Instructions {
    measured.instructions.per(measured.operations as f64 * f64::from(operations))
}

/// Nanoseconds for one of our operations, in each round.
fn times(rounds: &[Samples], name: &str, operations: u32) -> Vec<Option<f64>> {
    let time = |samples: &Samples| {
        let measured = done(samples, name).filter(|measured| measured.nanoseconds > 0)?;
        let operations = measured.operations as f64 * f64::from(operations);
        Some(measured.nanoseconds as f64 / operations)
    };
    rounds.iter().map(time).collect()
}

/// The value in the middle, or the mean of the two; of those that are there.
fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut values: Vec<f64> = values.flatten().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::select;

    fn measured(operations: u64, nanoseconds: u64, user: f64, kernel: f64) -> Sample {
        let instructions = Instructions { user, kernel };
        Sample::Done(Measured { operations, nanoseconds, instructions })
    }

    fn guest(name: &str, sample: Sample) -> Measurements {
        let samples = Samples::from([(name.to_owned(), sample)]);
        Measurements { system: None, counted: samples.clone(), timed: vec![samples] }
    }

    fn figure(name: &str) -> &'static Figure {
        select(&[name.to_owned()]).unwrap()[0]
    }

    #[test]
    fn a_record_has_the_keys_that_its_readers_know() {
        let ours = guest("null_call", measured(10, 100, 200.0, 500.0));
        let linux = guest("getppid", measured(2, 100, 20.0, 680.0));
        let record = Comparison::new(figure("null_call"), &ours, &linux);
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["bench"], "processor");
        assert_eq!(json["name"], "null_call");
        assert_eq!(json["unit"], "instructions");
        assert_eq!((json["ours"].as_f64(), json["linux"].as_f64()), (Some(70.0), Some(350.0)));
        assert_eq!((json["ratio"].as_f64(), json["bar"].as_f64()), (Some(5.0), Some(80.0)));
        assert_eq!(json["ok"], true);
        assert_eq!(json["time_ratio"].as_f64(), Some(5.0));
        assert_eq!(record.time_ratio_text(), "5.0× (≥ 3×)");
    }

    #[test]
    fn a_figure_has_to_reach_both_bars() {
        let linux = guest("getppid", measured(1, 1_000, 0.0, 350.0));
        let ok =
            |sample| Comparison::new(figure("null_call"), &guest("null_call", sample), &linux).ok;
        assert!(ok(measured(1, 300, 0.0, 80.0)));
        assert!(!ok(measured(1, 300, 0.0, 81.0)));
        assert!(!ok(measured(1, 400, 0.0, 80.0)));
    }

    #[test]
    fn what_is_not_there_is_not_ok() {
        let ours = guest("rpc", Sample::Unknown);
        let record = Comparison::new(figure("rpc"), &ours, &Measurements::default());
        assert!(!record.ok && record.ours.is_none());
        assert_eq!(record.problem.as_deref(), Some("not there yet"));
    }

    #[test]
    fn one_way_is_half_of_a_round_trip() {
        let linux = guest("futex", measured(10, 100, 0.0, 1_000.0));
        let record = Comparison::new(figure("pct_oneway"), &Measurements::default(), &linux);
        assert_eq!((record.linux, record.linux_nanoseconds), (Some(50.0), Some(5.0)));
    }

    #[test]
    fn a_ratio_has_to_be_large() {
        let round = |ratio| Samples::from([("two_pingpongs".to_owned(), Sample::Ratio(ratio))]);
        let compare = |ratios: [f64; 3]| {
            let timed = ratios.map(round).to_vec();
            let ours = Measurements { timed, ..Measurements::default() };
            Comparison::new(figure("two_pingpongs"), &ours, &Measurements::default())
        };
        let record = compare([1.9, 1.2, 1.8]);
        assert_eq!((record.ours, record.ok, record.status().as_str()), (Some(1.8), true, "ok"));
        let record = compare([1.9, 1.2, 1.6]);
        assert_eq!((record.ok, record.status().as_str()), (false, "TOO SLOW"));
        assert_eq!((record.ours_text().as_str(), record.bar_text().as_str()), ("1.60×", "≥ 1.7×"));
    }

    #[test]
    fn medians() {
        let median = |values: &[f64]| median(values.iter().map(|&value| Some(value)));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}
