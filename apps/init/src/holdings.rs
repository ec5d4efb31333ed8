//! What there is to be given back: counted before the first program starts and after the last.

use core::fmt;
use exo_user::abi::tables::{EnvState, FrameEntry, FrameState};
use exo_user::{Kind, contract, tables};

/// What is free or the caller's own, by kind; counted in the kernel's tables, entry by entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Holdings {
    counts: [(&'static str, u64); 6],
}

impl Holdings {
    /// As it is now.
    pub(crate) fn now() -> Self {
        let own = contract::name();
        let ours = |entry: &FrameEntry| match FrameState::from_number(entry.state) {
            Some(FrameState::Free) => true,
            Some(FrameState::Held | FrameState::Donated) => entry.owner as usize == own.index(),
            Some(FrameState::Reserved) | None => false,
        };
        let frames = tables::frames().iter().filter(|(_, entry)| ours(entry)).count();
        let free = |holder: u64| holder == 0 || holder == own.0;
        let slices = tables::slices().iter().filter(|(_, slice)| free(slice.holder)).count();
        let filters = tables::filters().iter().filter(|(_, filter)| free(filter.holder)).count();
        let rings = tables::rings().iter().filter(|(_, ring)| free(ring.holder)).count();
        let environments = tables::environments()
            .iter()
            .filter(|(slot, entry)| entry.state == EnvState::Free as u64 || *slot == own.index())
            .count();
        let limits: u64 = Kind::ALL.iter().map(|&kind| contract::account(kind).limit).sum();
        Self {
            counts: [
                ("frames", frames as u64),
                ("slices", slices as u64),
                ("filters", filters as u64),
                ("rings", rings as u64),
                ("environments", environments as u64),
                ("limits", limits),
            ],
        }
    }

    /// What is missing afterwards.
    pub(crate) fn missing(&self, after: &Self) -> Missing {
        let mut counts = self.counts.map(|(kind, before)| (kind, before as i64));
        for ((_, count), (_, after)) in counts.iter_mut().zip(after.counts) {
            *count -= after as i64;
        }
        Missing { counts }
    }
}

/// How many are missing, by kind; a negative number is too many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    counts: [(&'static str, i64); 6],
}

impl Missing {
    /// Whether nothing is.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.iter().all(|&(_, count)| count == 0)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "ok");
        }
        let mut space = "";
        for (kind, count) in self.counts {
            write!(f, "{space}{kind}={count}")?;
            space = " ";
        }
        Ok(())
    }
}
