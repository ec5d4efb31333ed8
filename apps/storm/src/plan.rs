//! What is asked for, when, and of whom: from the arguments.

use alloc::vec::Vec;
use exo_user::Kind;
use exo_user::time::MILLISECOND;

/// One series of asks.
#[derive(Debug)]
pub(crate) struct Storm<'a> {
    from: Vec<&'a str>,
    /// Ask one of them each time, not all.
    one: bool,
    pub(crate) kind: Kind,
    /// When it asks next, in nanoseconds after the start, and how often it still does.
    at: u64,
    every: u64,
    times: u64,
    least: u64,
    most: u64,
    /// In nanoseconds.
    pub(crate) deadline: u64,
    /// How long the right to hold what was asked for is kept after the debt is paid, in nanoseconds.
    pub(crate) keep: u64,
}

/// SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % bound.max(1)
    }
}

/// The storms in the text, or `None` if one makes no sense.
pub(crate) fn parse(text: &str) -> Option<Vec<Storm<'_>>> {
    text.split(';').map(Storm::parse).collect()
}

impl<'a> Storm<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split(':');
        let from: Vec<&str> = words.next()?.split(',').collect();
        let one = match words.next()? {
            "all" => false,
            "one" => true,
            _ => return None,
        };
        let label = words.next()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.label() == label)?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let mut milliseconds = || number()?.checked_mul(MILLISECOND);
        let (at, every) = (milliseconds()?, milliseconds()?);
        let (times, least, most) = (number()?, number()?, number()?);
        let mut milliseconds = || number()?.checked_mul(MILLISECOND);
        let (deadline, keep) = (milliseconds()?, milliseconds()?);
        (least <= most).then_some(Self {
            from,
            one,
            kind,
            at,
            every,
            times,
            least,
            most,
            deadline,
            keep,
        })
    }

    /// When it asks next, in nanoseconds after the start.
    pub(crate) fn next(&self) -> Option<u64> {
        (self.times > 0).then_some(self.at)
    }

    /// Whether it asks now; then the next time comes.
    pub(crate) fn is_due(&mut self, elapsed: u64) -> bool {
        let due = self.times > 0 && self.at <= elapsed;
        if due {
            self.times -= 1;
            self.at += self.every;
        }
        due
    }

    /// Whom it asks this time, and for how many.
    pub(crate) fn victims(&self, random: &mut Random, mut ask: impl FnMut(&'a str, u64)) {
        let chosen = self.one.then(|| random.below(self.from.len() as u64) as usize);
        for (index, victim) in self.from.iter().enumerate() {
            if chosen.is_none_or(|chosen| chosen == index) {
                ask(victim, self.least + random.below(self.most - self.least + 1));
            }
        }
    }
}
