//! The program's own choice of a replacement policy.

use core::fmt;
use libos_posix::Start;
use libos_posix::memory::{
    Clock, Fifo, Lru, Mru, Replacement, ResidentSet, Seat, Usage, WorkingSet,
};

/// One of the library's policies, chosen when the program starts.
#[derive(Clone, Copy)]
pub(crate) enum Policy {
    Fifo(Fifo),
    Clock(Clock),
    Lru(Lru),
    Mru(Mru),
    WorkingSet(WorkingSet),
}

impl Default for Policy {
    fn default() -> Self {
        Self::Clock(Clock)
    }
}

/// The policy in the arguments; `None` if there is no such policy.
pub(crate) fn chosen(start: &Start<'_>) -> Option<Policy> {
    match start.argument("policy") {
        None | Some("clock") => Some(Policy::Clock(Clock)),
        Some("fifo") => Some(Policy::Fifo(Fifo)),
        Some("lru") => Some(Policy::Lru(Lru)),
        Some("mru") => Some(Policy::Mru(Mru)),
        Some("ws") => Some(Policy::WorkingSet(WorkingSet::default())),
        Some(_) => None,
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo(_) => "fifo",
            Self::Clock(_) => "clock",
            Self::Lru(_) => "lru",
            Self::Mru(_) => "mru",
            Self::WorkingSet(_) => "ws",
        })
    }
}

impl Replacement for Policy {
    fn victim(&mut self, resident: &mut ResidentSet<'_>, usage: &mut dyn Usage) -> Option<Seat> {
        match self {
            Self::Fifo(policy) => policy.victim(resident, usage),
            Self::Clock(policy) => policy.victim(resident, usage),
            Self::Lru(policy) => policy.victim(resident, usage),
            Self::Mru(policy) => policy.victim(resident, usage),
            Self::WorkingSet(policy) => policy.victim(resident, usage),
        }
    }
}
