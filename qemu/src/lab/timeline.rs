//! What happened in a run, from what the programs printed.
//!
//! A line is `[label] @lab TIME WORD ...` with the time in nanoseconds since boot. The kernel writes
//! the label, so that each program is believed only where it speaks of itself; of others, the
//! recorder and those who ask are.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::console::Line;
use crate::lab::scenario::Scenario;

/// The program that says who holds what.
const RECORDER: &str = "recorder";

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Somebody asked it: `count` is its debt.
    Ask,
    /// Somebody asked it and was refused.
    Refused,
    /// It gave back `count`.
    Surrendered,
    /// The kernel took `count` by force.
    Repossessed,
    /// The debt was paid, one way or the other.
    Paid,
    /// The debt was not paid long after its deadline: the kernel's fault.
    Unpaid,
    /// It may hold `count` more again.
    Returned,
    /// It was told that somebody asks.
    UpcallAsk,
    /// It was told that it has lost something.
    UpcallLost,
    /// It touched a page whose frame was taken.
    Fault,
    /// It read in its record that it has lost `count`.
    Told,
    /// It ended.
    Ended,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When, in milliseconds after the beginning.
    pub at: f64,
    /// What.
    pub what: What,
    /// To whom.
    pub program: String,
    /// Of which kind; empty where that says nothing.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// Who caused it, where that is a program.
    pub by: Option<String>,
}

/// How long it took until a debt was paid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Who was asked.
    pub program: String,
    /// For what.
    pub kind: String,
    /// How many of it.
    pub debt: u64,
    /// When, in milliseconds after the beginning.
    pub at: f64,
    /// Milliseconds.
    pub took: f64,
    /// The notice, in milliseconds.
    pub notice: f64,
}

/// How many a program held, from each of these times on, in milliseconds after the beginning.
pub type Steps = Vec<(f64, u64)>;

/// What happened in a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timeline {
    /// How long it was, in milliseconds.
    pub length: f64,
    /// In the order of time.
    pub events: Vec<Event>,
    /// By kind and program.
    pub holdings: BTreeMap<String, BTreeMap<String, Steps>>,
    /// Limits of frames, by program.
    pub limits: BTreeMap<String, Steps>,
    /// The frames that nobody held.
    pub free: Steps,
    /// Each debt.
    pub latencies: Vec<Latency>,
}

impl Timeline {
    /// What these lines tell of the programs in the scenario.
    #[must_use]
    pub fn read(scenario: &Scenario, transcript: &[String]) -> Self {
        let said: Vec<Said<'_>> = transcript.iter().filter_map(|line| Said::parse(line)).collect();
        let about = |said: &&Said<'_>| scenario.program(said.subject()).is_some();
        let first = said.iter().filter(about).map(|said| said.time).min().unwrap_or(0);
        let last = said.iter().map(|said| said.time).max().unwrap_or(0);
        let mut timeline = Self { length: milliseconds(last, first), ..Self::default() };
        let askers = scenario.askers();
        for said in &said {
            timeline.take(scenario, &askers, said, first);
        }
        timeline.events.sort_by(|one, other| one.at.total_cmp(&other.at));
        timeline.find_latencies(&said, &askers, first);
        timeline
    }

    /// How many frames were taken from holders that they did not find in their records, as long as
    /// they were there to look.
    #[must_use]
    pub fn untold(&self, scenario: &Scenario) -> u64 {
        let holders = scenario.programs.iter().filter(|program| program.policy.is_some());
        let missing = |name: &str| {
            let own = || self.events.iter().filter(|event| event.program == name);
            let sum = |what: What| -> u64 {
                let counted = |event: &&Event| event.what == what && event.kind == "frames";
                own().filter(counted).map(|event| event.count).sum()
            };
            let ended = own().any(|event| event.what == What::Ended);
            if ended { 0 } else { sum(What::Repossessed).saturating_sub(sum(What::Told)) }
        };
        holders.map(|program| missing(&program.name)).sum()
    }

    fn take(&mut self, scenario: &Scenario, askers: &[&str], said: &Said<'_>, first: u64) {
        let at = milliseconds(said.time, first);
        let subject = said.subject();
        let by_asker = askers.contains(&said.label);
        if said.label == RECORDER && said.word == "free" {
            self.free.push((at, said.number(0)));
        }
        if scenario.program(subject).is_none() {
            return;
        }
        let (kind, count) = (said.words.get(1).copied().unwrap_or(""), said.number(2));
        if said.label == RECORDER {
            match said.word {
                "held" => {
                    let kind = self.holdings.entry(kind.to_owned()).or_default();
                    kind.entry(subject.to_owned()).or_default().push((at, count));
                }
                "limit" => {
                    self.limits.entry(subject.to_owned()).or_default().push((at, count));
                }
                _ => {}
            }
        }
        let Some(what) = said.what(by_asker) else { return };
        let own = said.label == subject;
        let (kind, count) = match own {
            true => (said.words.first().copied().unwrap_or(""), said.number(1)),
            false => (kind, count),
        };
        let by = by_asker.then(|| said.label.to_owned());
        let (program, kind) = (subject.to_owned(), kind.to_owned());
        self.events.push(Event { at, what, program, kind, count, by });
        if what == What::Ended {
            for kind in self.holdings.values_mut() {
                kind.entry(subject.to_owned()).or_default().push((at, 0));
            }
        }
    }

    /// Pairs each ask with the word that its debt is paid.
    fn find_latencies(&mut self, said: &[Said<'_>], askers: &[&str], first: u64) {
        let by_askers = || said.iter().enumerate().filter(|(_, said)| askers.contains(&said.label));
        for (index, ask) in by_askers().filter(|(_, said)| said.word == "ask") {
            let same = |other: &Said<'_>| {
                other.label == ask.label && other.words.get(..2) == ask.words.get(..2)
            };
            let earlier = by_askers()
                .filter(|(at, said)| *at < index && said.word == "ask" && same(said))
                .count();
            let mut paid = by_askers().filter(|(_, said)| said.word == "paid" && same(said));
            if let Some((_, paid)) = paid.nth(earlier).filter(|_| ask.number(2) > 0) {
                self.latencies.push(Latency {
                    program: ask.subject().to_owned(),
                    kind: ask.words[1].to_owned(),
                    debt: ask.number(2),
                    at: milliseconds(ask.time, first),
                    took: milliseconds(paid.time, ask.time),
                    notice: milliseconds(ask.number(3), ask.time),
                });
            }
        }
    }
}

fn milliseconds(time: u64, since: u64) -> f64 {
    // A microsecond is as much as a page shows.
    (time.saturating_sub(since) / 1000) as f64 / 1000.0
}

/// A line for the laboratory.
struct Said<'a> {
    label: &'a str,
    time: u64,
    word: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Said<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let Line { label, text } = Line::parse(line);
        let mut words = text.strip_prefix("@lab ")?.split_whitespace();
        let time = words.next()?.parse().ok()?;
        Some(Self { label: label?, time, word: words.next()?, words: words.collect() })
    }

    /// Whom it is about: who is named first, or whoever speaks of itself.
    fn subject(&self) -> &'a str {
        match self.word {
            "upcall-ask" | "upcall-lost" | "fault" | "told" | "dies" => self.label,
            _ => self.words.first().copied().unwrap_or(""),
        }
    }

    fn number(&self, index: usize) -> u64 {
        self.words.get(index).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// The event that it tells of, if the speaker may.
    fn what(&self, by_asker: bool) -> Option<What> {
        let recorded = self.label == RECORDER;
        match self.word {
            "ask" if by_asker => Some(What::Ask),
            "refused" if by_asker => Some(What::Refused),
            "paid" if by_asker => Some(What::Paid),
            "unpaid" if by_asker => Some(What::Unpaid),
            "returned" if by_asker => Some(What::Returned),
            "surrendered" if recorded => Some(What::Surrendered),
            "repossessed" if recorded => Some(What::Repossessed),
            "ended" if recorded => Some(What::Ended),
            "upcall-ask" => Some(What::UpcallAsk),
            "upcall-lost" => Some(What::UpcallLost),
            "fault" => Some(What::Fault),
            "told" => Some(What::Told),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        let text = "title='t'\nabout='a'\n[[program]]\nname='a'\npolicy='slow'\n\
                    [[storm]]\nfrom=['a']\ncount=[1,1]\n";
        toml::from_str(text).unwrap()
    }

    fn timeline(lines: &[&str]) -> Timeline {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        Timeline::read(&scenario(), &lines)
    }

    #[test]
    fn an_ask_and_its_payment_are_a_pair() {
        let timeline = timeline(&[
            "[recorder] @lab 1000000 held a frames 7",
            "[storm] @lab 2000000 ask a frames 3 12000000",
            "[a] @lab 2500000 upcall-ask",
            "[recorder] @lab 4000000 surrendered a frames 3",
            "[storm] @lab 4500000 paid a frames 0",
        ]);
        let whats: Vec<What> = timeline.events.iter().map(|event| event.what).collect();
        assert_eq!(whats, [What::Ask, What::UpcallAsk, What::Surrendered, What::Paid]);
        assert_eq!(timeline.holdings["frames"]["a"], [(0.0, 7)]);
        let latency = &timeline.latencies[0];
        assert!((latency.debt, latency.took, latency.notice) == (3, 2.5, 10.0), "{latency:?}");
    }

    #[test]
    fn a_loss_has_to_be_told() {
        let lines =
            ["[recorder] @lab 1000000 repossessed a frames 3", "[a] @lab 2000000 told frames 2"];
        assert_eq!(timeline(&lines).untold(&scenario()), 1);
        let ended = [lines[0], lines[1], "[recorder] @lab 3000000 ended a"];
        assert_eq!(timeline(&ended).untold(&scenario()), 0);
    }

    #[test]
    fn nobody_is_believed_about_others() {
        let timeline = timeline(&[
            "[a] @lab 1000000 held a frames 7",
            "[a] @lab 1000000 paid a frames 0",
            "[other] @lab 1000000 repossessed a frames 7",
            "[a] @lab nonsense",
            "no line of a program",
        ]);
        assert!(timeline.events.is_empty() && timeline.holdings.is_empty(), "{timeline:?}");
    }
}
