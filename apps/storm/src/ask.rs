//! One ask: made, paid, and what was promised given back.

use crate::plan::Storm;
use alloc::string::{String, ToString};
use exo_user::abi::tables::{EnvEntry, EnvState};
use exo_user::{EnvName, Kind, capability, println, revocation, tables, time};

/// How long after its deadline a debt must be paid, by choice or by force, in nanoseconds.
const PATIENCE: u64 = 5 * time::SECOND;

/// An ask that is not over.
#[derive(Debug)]
pub(crate) struct Ask {
    victim: EnvName,
    label: String,
    kind: Kind,
    /// What was asked for, what it does not use included: it comes back to the victim.
    count: u64,
    deadline: u64,
    keep: u64,
    paid: Option<u64>,
}

/// The living environment with this label.
fn find(label: &str) -> Option<EnvEntry> {
    let ended = |entry: &EnvEntry| {
        matches!(EnvState::from_number(entry.state), Some(EnvState::Free | EnvState::Ended))
    };
    let mut entries = tables::environments().iter().map(|(_, entry)| entry);
    entries.find(|entry| !ended(entry) && tables::label(entry) == label)
}

impl Ask {
    /// Asks a program for `count` that it uses; of frames also for those that it may hold and
    /// doesn't, which are no loss.
    pub(crate) fn make(label: &str, storm: &Storm<'_>, count: u64) -> Option<Self> {
        let entry = find(label)?;
        let (victim, kind) = (EnvName(entry.name), storm.kind);
        let spare = match kind {
            Kind::Frames => entry.frames_limit.saturating_sub(entry.frames),
            _ => 0,
        };
        let (total, notice) = (spare + count, storm.deadline);
        let now = time::now();
        match revocation::revoke(victim, capability::REVOKE, kind, total, notice, notice) {
            Ok(debt) => {
                println!("@lab {now} ask {label} {} {debt} {}", kind.label(), now + notice);
                let deadline = now + notice + PATIENCE;
                let label = label.to_string();
                let keep = storm.keep;
                Some(Self { victim, label, kind, count: total, deadline, keep, paid: None })
            }
            Err(error) => {
                println!("@lab {now} refused {label} {} {count} {error:?}", kind.label());
                None
            }
        }
    }

    /// Looks whether the debt is paid, and after a while gives the right back. Returns whether the
    /// ask is over.
    pub(crate) fn look(&mut self, now: u64, unpaid: &mut u64) -> bool {
        let (label, kind) = (&self.label, self.kind.label());
        let alive = |entry: &EnvEntry| entry.state & 0xff != EnvState::Ended as u64;
        let Some(entry) = tables::environment_named(self.victim).filter(alive) else {
            return true;
        };
        if self.paid.is_none() {
            let paid = entry.debt == 0;
            if !paid && now < self.deadline {
                return false;
            }
            *unpaid += u64::from(!paid);
            println!("@lab {now} {} {label} {kind} 0", if paid { "paid" } else { "unpaid" });
        }
        let paid = *self.paid.get_or_insert(now);
        if now < paid + self.keep {
            return false;
        }
        if revocation::grant(self.victim, self.kind, self.count).is_ok() {
            println!("@lab {now} returned {label} {kind} {}", self.count);
        }
        true
    }
}
