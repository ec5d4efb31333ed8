//! What a guest has measured: lines on its console, and what the counter has written.
//!
//! A guest prints one line for each bench, in the order in which it did them:
//!
//! ```text
//! bench NAME operations=N nanoseconds=N
//! bench NAME ratio=X
//! bench NAME longest=N
//! bench NAME unknown
//! bench NAME failed: REASON
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// What came of each bench, by name.
pub type Samples = BTreeMap<String, Sample>;

/// What came of one bench.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// It was done.
    Done(Measured),
    /// It was done, and this is what came of it.
    Ratio(f64),
    /// The guest does not know it.
    Unknown,
    /// It was refused something that it needs.
    Failed(String),
}

/// How often something was done, how long it took and how many instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// How often.
    pub operations: u64,
    /// How long, for all of them together; 0 where it means nothing.
    pub nanoseconds: u64,
    /// What was counted, for all of them together.
    pub instructions: Instructions,
}

/// Instructions of programs and of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instructions {
    /// In programs.
    pub user: f64,
    /// In the kernel.
    pub kernel: f64,
}

impl Instructions {
    /// Both.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.user + self.kernel
    }

    /// The same for one of so many operations.
    #[must_use]
    pub fn per(&self, operations: f64) -> Self {
        Self { user: self.user / operations, kernel: self.kernel / operations }
    }
}

/// A line of the counter: which mark, and the counters there.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Mark {
    mark: MarkKind,
    user: u64,
    kernel: u64,
    waiting: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MarkKind {
    Begin,
    End,
}

/// What was counted between each pair of marks, in order.
///
/// # Errors
/// A line that is none of the counter's, or marks that are no pairs.
pub fn regions(text: &str) -> Result<Vec<Instructions>> {
    let marks: Vec<Mark> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("the counter wrote a line that cannot be read")?;
    let pairs = marks.chunks(2).map(|pair| match pair {
        [begin, end] if (begin.mark, end.mark) == (MarkKind::Begin, MarkKind::End) => {
            // What waits is a program.
            let user = (end.user - begin.user).saturating_sub(end.waiting - begin.waiting);
            let kernel = end.kernel - begin.kernel;
            Ok(Instructions { user: user as f64, kernel: kernel as f64 })
        }
        _ => bail!("the marks of the guest are not a beginning and an end in turn"),
    });
    pairs.collect()
}

/// The samples in the lines of a console. Lines of the form `[label] text` are looked into; `text`
/// alone counts as well. `regions` is what was counted, empty if nothing was.
///
/// # Errors
/// A line that means nothing, or not one region for each bench that was done.
pub fn samples<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    regions: &[Instructions],
) -> Result<Samples> {
    let mut samples = Samples::new();
    let mut done = 0;
    for line in lines {
        let Some(text) = line.strip_prefix("[bench] ").unwrap_or(line).strip_prefix("bench ")
        else {
            continue;
        };
        let (name, mut sample) =
            parse(text).with_context(|| format!("a guest printed `{line}`"))?;
        if let Sample::Done(measured) = &mut sample {
            if !text.contains(LONGEST) {
                measured.instructions = regions.get(done).copied().unwrap_or_default();
                done += 1;
            }
            if measured.operations == 0 {
                sample = Sample::Failed("what is measured did not happen".to_owned());
            }
        }
        samples.insert(name.to_owned(), sample);
    }
    ensure!(
        regions.is_empty() || regions.len() == done,
        "{done} benches were done and {} were counted: does each set one pair of marks?",
        regions.len()
    );
    Ok(samples)
}

/// What the guest has counted itself: how many instructions of the kernel the longest took.
const LONGEST: &str = " longest=";

fn parse(text: &str) -> Result<(&str, Sample)> {
    if let Some((name, longest)) = text.split_once(LONGEST) {
        let kernel = longest.parse().context("the longest is no number")?;
        let instructions = Instructions { user: 0.0, kernel };
        return Ok((name, Sample::Done(Measured { operations: 1, nanoseconds: 0, instructions })));
    }
    let (name, rest) = text.split_once(' ').context("a name alone")?;
    if rest == "unknown" {
        return Ok((name, Sample::Unknown));
    }
    if let Some(reason) = rest.strip_prefix("failed: ") {
        return Ok((name, Sample::Failed(reason.to_owned())));
    }
    if let Some(ratio) = rest.strip_prefix("ratio=") {
        return Ok((name, Sample::Ratio(ratio.parse().context("the ratio is no number")?)));
    }
    let number = |key: &str| -> Result<u64> {
        let word =
            rest.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        word.with_context(|| format!("no {key}"))?
            .parse()
            .with_context(|| format!("{key} is no number"))
    };
    let (operations, nanoseconds) = (number("operations")?, number("nanoseconds")?);
    let instructions = Instructions::default();
    Ok((name, Sample::Done(Measured { operations, nanoseconds, instructions })))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: &str = r#"{"mark":"begin","user":100,"kernel":50,"waiting":0}
{"mark":"end","user":160,"kernel":80,"waiting":6}
{"mark":"begin","user":200,"kernel":80,"waiting":6}
{"mark":"end","user":210,"kernel":80,"waiting":6}
{"mark":"begin","user":300,"kernel":80,"waiting":6}
{"mark":"end","user":400,"kernel":80,"waiting":6}
"#;

    #[test]
    fn each_bench_gets_what_was_counted_between_its_marks() {
        let lines = [
            "[init] bench is not a line of a bench",
            "[bench] bench first operations=10 nanoseconds=500",
            "[bench] bench missing unknown",
            "bench second operations=2 nanoseconds=0",
            "[bench] bench never operations=0 nanoseconds=7",
            "[bench] bench third failed: NoFreeFrames",
        ];
        let samples = samples(lines, &regions(COUNTED).unwrap()).unwrap();
        let Sample::Done(first) = samples["first"] else { panic!("{samples:?}") };
        assert_eq!((first.operations, first.nanoseconds), (10, 500));
        assert_eq!(first.instructions, Instructions { user: 54.0, kernel: 30.0 });
        let Sample::Done(second) = samples["second"] else { panic!("{samples:?}") };
        assert_eq!(second.instructions.per(2.0).total(), 5.0);
        assert_eq!(samples["missing"], Sample::Unknown);
        assert!(matches!(samples["never"], Sample::Failed(_)));
        assert_eq!(samples["third"], Sample::Failed("NoFreeFrames".to_owned()));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let one = ["bench first operations=10 nanoseconds=500"];
        assert!(samples(one, &regions(COUNTED).unwrap()).is_err());
        assert!(samples(one, &[]).is_ok());
        let half = COUNTED.lines().next().unwrap();
        assert!(regions(half).is_err() && regions("nonsense").is_err());
        assert_eq!(samples(["bench a ratio=1.5"], &[]).unwrap()["a"], Sample::Ratio(1.5));
        let longest = samples(["bench a longest=15"], &[]).unwrap();
        assert!(matches!(longest["a"], Sample::Done(done) if done.instructions.kernel == 15.0));
        for line in ["bench a", "bench a operations=1", "bench a operations=x", "bench a ratio=x"] {
            assert!(samples([line], &[]).is_err(), "{line}");
        }
    }
}
