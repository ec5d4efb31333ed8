//! Somebody who is asked for frames, and how it went so far.

use core::fmt;
use exo_user::abi::tables::{EnvEntry, EnvState};
use exo_user::{EnvName, Kind, capability, revocation, tables};

/// An environment that is asked, by its label.
#[derive(Debug)]
pub(crate) struct Victim<'a> {
    label: &'a str,
    /// How often it was asked.
    pub(crate) asks: u64,
    /// Frames in use that it was asked for.
    asked: u64,
    /// Frames given back by choice while asked.
    surrendered: u64,
    /// Frames taken by force while asked.
    taken: u64,
    /// Asks that were refused: it is at its floor.
    refused: u64,
    /// Asks whose debt was not paid in time by anybody: the kernel's fault.
    pub(crate) unpaid: u64,
    open: Option<Ask>,
}

/// An ask that has not been settled.
#[derive(Debug)]
struct Ask {
    from: EnvName,
    count: u64,
    surrendered: u64,
    taken: u64,
}

/// The living environment with this label.
fn find(label: &str) -> Option<EnvEntry> {
    let alive = |entry: &EnvEntry| {
        entry.state != EnvState::Free as u64 && entry.state != EnvState::Ended as u64
    };
    let mut entries = tables::environments().iter().map(|(_, entry)| entry);
    entries.find(|entry| alive(entry) && tables::label(entry) == label)
}

impl<'a> Victim<'a> {
    /// The environment with this label, whenever there is one.
    pub(crate) fn new(label: &'a str) -> Self {
        Self {
            label,
            asks: 0,
            asked: 0,
            surrendered: 0,
            taken: 0,
            refused: 0,
            unpaid: 0,
            open: None,
        }
    }

    /// Asks it for `count` frames that it uses, and for all that it may hold and doesn't, within
    /// `notice` nanoseconds of the clock or of its own run time.
    pub(crate) fn ask(&mut self, count: u64, notice: u64) {
        let Some(entry) = find(self.label) else { return };
        let spare = entry.frames_limit.saturating_sub(entry.frames);
        let most = entry.frames_limit.saturating_sub(entry.frames_floor);
        let (from, count) = (EnvName(entry.name), (spare + count).min(most));
        match revocation::revoke(from, capability::REVOKE, Kind::Frames, count, notice, notice) {
            Ok(debt) => {
                self.asks += 1;
                self.asked += debt;
                let (surrendered, taken) = (entry.surrendered, entry.repossessed);
                self.open = Some(Ask { from, count, surrendered, taken });
            }
            Err(_) => self.refused += 1,
        }
    }

    /// What it still owes.
    pub(crate) fn debt(&self) -> u64 {
        let entry = self.open.as_ref().and_then(|ask| tables::environment_named(ask.from));
        entry.map_or(0, |entry| entry.frames.saturating_sub(entry.frames_limit))
    }

    /// Counts what came of the last ask, and returns what was promised.
    pub(crate) fn settle(&mut self) {
        self.unpaid += u64::from(self.debt() > 0);
        let Some(ask) = self.open.take() else { return };
        if let Some(entry) = tables::environment_named(ask.from) {
            self.surrendered += entry.surrendered.saturating_sub(ask.surrendered);
            self.taken += entry.repossessed.saturating_sub(ask.taken);
        }
        // If it has ended in between, what was promised stays here until this program ends.
        let _ = revocation::grant(ask.from, Kind::Frames, ask.count);
    }
}

impl fmt::Display for Victim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "broker: asked {} {} times for {} frames: {} surrendered by choice, {} taken by force",
            self.label, self.asks, self.asked, self.surrendered, self.taken
        )?;
        if self.refused > 0 {
            write!(f, ", {} times refused", self.refused)?;
        }
        if self.unpaid > 0 {
            write!(f, ", {} times not paid", self.unpaid)?;
        }
        Ok(())
    }
}
