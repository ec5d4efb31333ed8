//! What is tried: which programs hold what, and who asks them for it when.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use exo_abi::Kind;
use exo_abi::layout::LABEL;
use serde::{Deserialize, Serialize};

/// The program that holds what a scenario says, unless it names another.
pub const HOLDER: &str = "holder";

/// A scenario, as its file has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub title: String,
    /// What it shows, and what to look at.
    pub about: String,
    /// Processors.
    #[serde(default = "one")]
    pub cpus: u32,
    /// Memory in MiB.
    #[serde(default = "memory")]
    pub memory: u32,
    /// One run for each of these.
    #[serde(default = "seeds")]
    pub seeds: Vec<u64>,
    /// Who holds something.
    #[serde(rename = "program")]
    pub programs: Vec<Program>,
    /// Who asks whom.
    #[serde(rename = "storm")]
    pub storms: Vec<Storm>,
}

/// A program that is asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its label.
    pub name: String,
    /// How it answers; only of programs that are [`HOLDER`]s.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// Another program in place of [`HOLDER`], which has a contract of its own.
    #[serde(default)]
    pub app: Option<String>,
    /// Arguments for that program.
    #[serde(default)]
    pub args: Option<String>,
    /// Frames that it fills.
    #[serde(default = "frames")]
    pub frames: u32,
    /// Of these, how many nobody may ask for.
    #[serde(default)]
    pub floor: u32,
    /// Slices of each round.
    #[serde(default = "slices")]
    pub slices: u32,
    /// Packet filters.
    #[serde(default)]
    pub filters: u32,
    /// Receive rings.
    #[serde(default)]
    pub rings: u32,
    /// The least notice, in milliseconds, that whoever asks must give.
    #[serde(default = "notice")]
    pub notice: u32,
    /// How long a slow one waits before it answers, in milliseconds.
    #[serde(default = "delay")]
    pub delay: u32,
    /// The ask at which a dying one ends.
    #[serde(default = "one")]
    pub asks: u32,
}

/// How a program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "apps/holder explains them")]
pub enum Policy {
    Cooperative,
    Slow,
    Deaf,
    Lying,
    Greedy,
    Dying,
}

impl Policy {
    /// As in a scenario, and in the arguments of the program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cooperative => "cooperative",
            Self::Slow => "slow",
            Self::Deaf => "deaf",
            Self::Lying => "lying",
            Self::Greedy => "greedy",
            Self::Dying => "dying",
        }
    }
}

/// A series of asks. Times are in milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// Who asks: a label. Storms of one label are one program's.
    #[serde(default = "asker")]
    pub by: String,
    /// Who is asked.
    pub from: Vec<String>,
    /// Whether all of them are asked each time, or one at random.
    #[serde(default)]
    pub pick: Pick,
    /// For what: `frames`, `slices`, `filters` or `rings`.
    #[serde(default = "kind")]
    pub kind: String,
    /// When first.
    #[serde(default)]
    pub at: u32,
    /// How long between two times.
    #[serde(default = "every")]
    pub every: u32,
    /// How often.
    #[serde(default = "one")]
    pub times: u32,
    /// How many are asked for, at least and at most.
    pub count: [u32; 2],
    /// The notice.
    #[serde(default = "deadline")]
    pub deadline: u32,
    /// How long after the debt is paid the right to hold is given back.
    #[serde(default = "keep")]
    pub keep: u32,
}

/// Whom a storm asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pick {
    /// Everybody.
    #[default]
    All,
    /// One, at random.
    One,
}

fn one() -> u32 {
    1
}
fn memory() -> u32 {
    64
}
fn seeds() -> Vec<u64> {
    vec![1]
}
fn frames() -> u32 {
    64
}
fn slices() -> u32 {
    2
}
fn notice() -> u32 {
    5
}
fn delay() -> u32 {
    30
}
fn every() -> u32 {
    50
}
fn deadline() -> u32 {
    10
}
fn keep() -> u32 {
    30
}
fn asker() -> String {
    "storm".to_owned()
}
fn kind() -> String {
    Kind::Frames.label().to_owned()
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or says something that cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let scenario: Self =
            toml::from_str(&text).with_context(|| format!("{} is no scenario", path.display()))?;
        scenario.check().with_context(|| format!("{}", path.display()))?;
        Ok(scenario)
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.seeds.is_empty(), "a scenario needs at least one seed");
        ensure!((1..=64).contains(&self.cpus), "cpus has to be between 1 and 64");
        ensure!((16..=4096).contains(&self.memory), "memory has to be between 16 and 4096 MiB");
        let mut names = BTreeSet::new();
        for program in &self.programs {
            program.check()?;
            ensure!(
                names.insert(program.name.as_str()),
                "two programs are called {}",
                program.name
            );
        }
        for storm in &self.storms {
            storm.check(&names)?;
        }
        Ok(())
    }

    /// Who asks, each once.
    #[must_use]
    pub fn askers(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self.storms.iter().map(|storm| storm.by.as_str()).collect();
        names.into_iter().collect()
    }

    /// The program of this label.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// How long the storms take when every debt is paid by force, in milliseconds.
    #[must_use]
    pub fn length(&self) -> u64 {
        let length = |storm: &Storm| {
            let series = u64::from(storm.every) * u64::from(storm.times);
            u64::from(storm.at) + series + u64::from(storm.deadline) + u64::from(storm.keep)
        };
        self.storms.iter().map(length).max().unwrap_or(0)
    }
}

fn check_label(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    ensure!(
        (1..=LABEL).contains(&name.len()) && name.chars().all(good),
        "`{name}` has to be 1 to {LABEL} letters, digits or hyphens"
    );
    ensure!(
        !["kernel", "init", "recorder"].contains(&name),
        "`{name}` is the label of somebody else"
    );
    Ok(())
}

impl Program {
    fn check(&self) -> Result<()> {
        check_label(&self.name)?;
        match (&self.app, self.policy) {
            (None, None) => bail!("program {}: which policy?", self.name),
            (Some(app), Some(_)) => bail!("program {}: {app} has its own policy", self.name),
            _ => {}
        }
        ensure!(
            self.floor <= self.frames,
            "program {}: the floor is above the {} frames",
            self.name,
            self.frames
        );
        ensure!(self.filters == 0 || self.rings > 0, "program {}: filters need a ring", self.name);
        ensure!(self.frames <= 16_384, "program {}: at most 16384 frames", self.name);
        Ok(())
    }
}

impl Storm {
    fn check(&self, names: &BTreeSet<&str>) -> Result<()> {
        check_label(&self.by)?;
        ensure!(!names.contains(&*self.by), "{} cannot both hold and ask", self.by);
        ensure!(!self.from.is_empty(), "a storm of {} asks nobody", self.by);
        for name in &self.from {
            ensure!(names.contains(&**name), "a storm asks `{name}`, which is no program");
        }
        let known = Kind::ALL.iter().any(|kind| kind.label() == self.kind);
        ensure!(known, "`{}` is no kind of resource", self.kind);
        ensure!(self.count[0] >= 1 && self.count[0] <= self.count[1], "count = [LEAST, MOST]");
        Ok(())
    }

    /// As the program `storm` reads it.
    #[must_use]
    pub fn argument(&self) -> String {
        let pick = if self.pick == Pick::One { "one" } else { "all" };
        let [least, most] = self.count;
        let Self { kind, at, every, times, deadline, keep, .. } = self;
        let from = self.from.join(",");
        format!("{from}:{pick}:{kind}:{at}:{every}:{times}:{least}:{most}:{deadline}:{keep}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
title = "t"
about = "a"
[[program]]
name = "a"
policy = "deaf"
[[storm]]
from = ["a"]
count = [1, 2]
"#;

    fn parse(text: &str) -> Result<Scenario> {
        let scenario: Scenario = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let scenario = parse(SMALL).unwrap();
        assert_eq!(scenario.storms[0].argument(), "a:all:frames:0:50:1:1:2:10:30");
        assert_eq!((scenario.askers(), scenario.length()), (vec!["storm"], 90));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (from, to) in [
            ("policy = \"deaf\"", ""),
            ("policy = \"deaf\"", "policy = \"kind\""),
            ("policy = \"deaf\"", "policy = \"deaf\"\napp = \"pages\""),
            ("policy = \"deaf\"", "policy = \"deaf\"\nfloor = 65"),
            ("policy = \"deaf\"", "policy = \"deaf\"\nfilters = 1"),
            ("name = \"a\"", "name = \"a b\""),
            ("name = \"a\"", "name = \"init\""),
            ("from = [\"a\"]", "from = [\"b\"]"),
            ("from = [\"a\"]", "from = []"),
            ("from = [\"a\"]", "from = [\"a\"]\nby = \"a\""),
            ("from = [\"a\"]", "from = [\"a\"]\nkind = \"gold\""),
            ("count = [1, 2]", "count = [2, 1]"),
            ("count = [1, 2]", "count = [0, 1]"),
            ("title = \"t\"", "title = \"t\"\nseeds = []"),
            ("title = \"t\"", "title = \"t\"\ntitel = 1"),
        ] {
            assert!(SMALL.contains(from) && parse(&SMALL.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn those_that_ship_are_scenarios() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: Vec<_> =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 5, "{files:?}");
        for file in files {
            Scenario::read(&file).unwrap();
        }
    }
}
