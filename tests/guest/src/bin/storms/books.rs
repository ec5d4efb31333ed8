//! What the kernel says about a child, from its different tables, and how that has to agree.

use exo_user::abi::tables::{Cause, EnvEntry, FrameState, Move};
use exo_user::{EnvName, Kind, contract, environment, tables, time};
use guest_probes::rule::{holds, same};

/// How often tables are read again that change while they are read: on four processors of a busy host
/// somebody nearly always takes or frees something meanwhile.
const TRIES: usize = 5000;

/// The state of things before an ask.
pub(crate) struct Books {
    entry: EnvEntry,
    moves: u64,
    own: [u64; 2],
}

fn own_limits() -> [u64; 2] {
    [Kind::Frames, Kind::Slices].map(|kind| contract::account(kind).limit)
}

fn entry_of(child: EnvName) -> EnvEntry {
    let entry = tables::environment_named(child);
    holds("the child is there", entry.is_some());
    entry.unwrap_or_default()
}

impl Books {
    /// As they are now.
    pub(crate) fn of(child: EnvName) -> Self {
        // What is lost between these two counts is in the moves and not in the entry.
        let moves = tables::system().moves_count;
        Self { entry: entry_of(child), moves, own: own_limits() }
    }

    /// After an ask for `count` of a kind: waits until it is paid, and compares.
    pub(crate) fn settle(&self, child: EnvName, kind: Kind, count: u64, deadline: u64) {
        while entry_of(child).debt > 0 {
            holds("a debt is paid in time", time::now() < deadline);
            environment::sleep(time::now() + time::MILLISECOND / 4);
        }
        let mut own = self.own;
        own[kind as usize] += count;
        same("what was asked for is the asker's", own_limits(), own);
        let entry = entry_of(child);
        if kind == Kind::Frames {
            same("the limit", entry.frames_limit, self.entry.frames_limit - count);
        }
        holds("the limit holds", entry.frames <= entry.frames_limit);
        holds("the floor holds", entry.frames_limit >= entry.frames_floor);
        compare_holdings(child);
        compare_free();
        self.compare_moves(child);
    }

    /// What was taken by force since then is in the ring of moves, name by name.
    fn compare_moves(&self, child: EnvName) {
        for _ in 0..TRIES {
            let before = entry_of(child).repossessed;
            let until = tables::system().moves_count;
            let kept = tables::moves().len() as u64;
            if entry_of(child).repossessed != before || until - self.moves >= kept {
                return;
            }
            let all = (self.moves..until)
                .filter_map(|number| tables::moves().get((number % kept) as usize));
            let taken =
                |entry: &Move| entry.victim == child.0 && entry.cause() == Some(Cause::Repossessed);
            let told = all.filter(taken).count() as u64;
            if told == before - self.entry.repossessed {
                return;
            }
            environment::sleep(time::now() + time::MILLISECOND / 4);
        }
        holds("every loss is among the moves", false);
    }
}

/// What an environment holds is what its entry says.
fn compare_holdings(child: EnvName) {
    let found = || {
        let own = |state: u8| state == FrameState::Held as u8 || state == FrameState::Donated as u8;
        let frames = tables::frames()
            .iter()
            .filter(|(_, frame)| usize::from(frame.owner) == child.index() && own(frame.state))
            .count() as u64;
        let slices = tables::slices().iter().filter(|(_, slice)| slice.holder == child.0).count();
        (frames, slices as u64)
    };
    agree("holdings", || {
        let before = entry_of(child);
        (found(), (before.frames, before.slices))
    });
}

/// Holdings and what is free are all that there is.
fn compare_free() {
    agree("what is free", || {
        let free = tables::frames()
            .iter()
            .filter(|(_, frame)| frame.state == FrameState::Free as u8)
            .count() as u64;
        (free, tables::system().frames_free)
    });
}

/// Compares two tables that others change meanwhile, until they agree.
fn agree<T: PartialEq + core::fmt::Debug>(what: &str, read: impl Fn() -> (T, T)) {
    for _ in 0..TRIES {
        let (one, other) = read();
        if one == other {
            return;
        }
        environment::sleep(time::now() + time::MILLISECOND / 4);
    }
    let (one, other) = read();
    same(what, one, other);
}
