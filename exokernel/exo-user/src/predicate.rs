//! Sleeping until words in shared memory say that it is time: [`exo_abi::predicate`] has the rules.
//!
//! A program makes a frame that others may write to, puts predicates over its words there, and sleeps.
//! Who changes a word says so with [`notify`].

use crate::call::call;
use crate::{control, environment};
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicU64, fence};
use exo_abi::predicate::{CLAUSE_WORDS, CLAUSES, FREE_WORD, holds};
use exo_abi::upcall::Event;
use exo_abi::{Call, Error, FrameNumber};

pub use exo_abi::predicate::{Clause, ClauseError, Comparison};

/// The first byte in a frame behind the clauses.
pub const FIRST_OFFSET: u16 = 8 * FREE_WORD as u16;

/// A frame with predicates.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a>(&'a [AtomicU64; 512]);

/// Why a predicate was not put in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArmError {
    /// The clause with this index is none.
    Clause(usize, ClauseError),
    /// There are no clauses, or they do not all find room from the place on.
    NoRoom,
}

impl<'a> Watched<'a> {
    /// The frame that is bound to this page: one of the program's own, or nobody looks at it.
    pub fn new(page: &'a [AtomicU64; 512]) -> Self {
        Self(page)
    }

    /// The word at an offset in bytes, which is rounded down.
    pub fn word(&self, offset: u16) -> &'a AtomicU64 {
        &self.0[usize::from(offset) / 8 % 512]
    }

    /// Puts a predicate into the places for clauses from `place` on: all of its clauses have to hold.
    ///
    /// # Errors
    /// See [`ArmError`]; then nothing has changed.
    pub fn arm(&self, place: usize, clauses: &[Clause]) -> Result<(), ArmError> {
        let end = place.checked_add(clauses.len()).filter(|end| *end <= CLAUSES);
        if clauses.is_empty() || end.is_none() {
            return Err(ArmError::NoRoom);
        }
        for (index, clause) in clauses.iter().enumerate() {
            clause.to_words(false).map_err(|error| ArmError::Clause(index, error))?;
        }
        // The last is the first to be there, so that no part of it is ever a whole one.
        for (index, clause) in clauses.iter().enumerate().rev() {
            let words = clause.to_words(index + 1 < clauses.len()).unwrap_or_default();
            let first = (place + index) * CLAUSE_WORDS;
            for (stored, word) in self.0[first..].iter().zip(words).rev() {
                stored.store(word, Release);
            }
        }
        // From here on, who changes a word sees the predicate, or the program sees the change.
        fence(SeqCst);
        Ok(())
    }

    /// Takes the clause at a place away.
    pub fn disarm(&self, place: usize) {
        if let Some(head) = self.0[..FREE_WORD].get(place * CLAUSE_WORDS) {
            head.store(0, Relaxed);
        }
    }

    /// Whether one of the predicates holds.
    pub fn holds(&self) -> bool {
        holds(self.0)
    }

    /// Sleeps until a predicate holds, another event is pending, or the time has come (nanoseconds since
    /// boot). Says whether a predicate holds.
    pub fn sleep(&self, until: u64) -> bool {
        control::take(Event::Predicate);
        if !self.holds() {
            environment::sleep(until);
        }
        self.holds()
    }
}

/// Says that words of a frame have changed, which is somebody's whom predicates there may wake. The
/// capability must be one with which the caller could write to the frame. Returns whether one holds.
///
/// # Errors
/// `NoCapability`, `NotDominated`, `NoFrame`.
pub fn notify(frame: FrameNumber, capability: u32) -> Result<bool, Error> {
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::Notify { frame: frame.0, capability }) }.map(|held| held != 0)
}
