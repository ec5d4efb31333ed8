//! What an environment may hold, holds and owes: the books of the abort protocol.
//!
//! Limits are conserved. They move by [`Accounts::grant_out`] and [`Accounts::grant_in`], and by
//! [`Accounts::ask`], whose count the asker receives. What is held above the limit is the debt.

use crate::memory::Page;
use core::sync::atomic::Ordering;
use exo_abi::contract::{ACCOUNT_WORDS, ACCOUNTS_WORD, Account, KINDS};
use exo_abi::{Error, Kind};

/// An ask: how many, and how soon.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// How many names are asked for.
    pub count: u64,
    /// Nanoseconds since boot.
    pub now: u64,
    /// The run time of the one who is asked, in nanoseconds.
    pub own_now: u64,
    /// The notice by its own run time, in nanoseconds.
    pub own: u64,
    /// The notice by the clock, in nanoseconds.
    pub wall: u64,
    /// The least notice of its contract, in nanoseconds.
    pub notice: u64,
}

/// The accounts of one environment.
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    accounts: [Account; KINDS],
}

impl Accounts {
    /// The accounts of nobody: everything zero.
    pub const EMPTY: Self = Self { accounts: [Account::EMPTY; KINDS] };

    /// Accounts that hold nothing, with these limits and floors, indexed by [`Kind`].
    pub fn new(limits: &[u64; KINDS], floors: &[u64; KINDS]) -> Self {
        let account = |kind| Account { limit: limits[kind], floor: floors[kind], ..Account::EMPTY };
        Self { accounts: core::array::from_fn(account) }
    }

    /// The account of a kind.
    pub fn get(&self, kind: Kind) -> &Account {
        &self.accounts[kind as usize]
    }

    fn get_mut(&mut self, kind: Kind) -> &mut Account {
        &mut self.accounts[kind as usize]
    }

    /// Holds `count` more.
    ///
    /// # Errors
    /// [`Error::OverLimit`].
    pub fn take(&mut self, kind: Kind, count: u64) -> Result<(), Error> {
        let account = self.get_mut(kind);
        let held = account.held.checked_add(count).ok_or(Error::OverLimit)?;
        if held > account.limit {
            return Err(Error::OverLimit);
        }
        account.held = held;
        Ok(())
    }

    /// Holds `count` less. What was owed counts as surrendered.
    pub fn give(&mut self, kind: Kind, count: u64) {
        let account = self.get_mut(kind);
        account.held = account.held.saturating_sub(count);
        account.surrendered += count.min(account.debt);
        settle(account);
    }

    /// Lost one by force, in this epoch of the record.
    pub fn lose(&mut self, kind: Kind, epoch: u64) {
        let account = self.get_mut(kind);
        account.held = account.held.saturating_sub(1);
        account.repossessed += 1;
        account.epoch = epoch;
        settle(account);
    }

    /// Lowers the limit and returns the debt, due when one of the two notices has passed. Neither
    /// is shorter than the contract's. Who is in debt already keeps its deadline, but has at least
    /// the contract's notice again: asking twice neither hurries nor delays at the asker's will.
    ///
    /// # Errors
    /// [`Error::BelowFloor`].
    pub fn ask(&mut self, kind: Kind, ask: Ask) -> Result<u64, Error> {
        let account = self.get_mut(kind);
        let limit = account.limit.checked_sub(ask.count).ok_or(Error::BelowFloor)?;
        if limit < account.floor {
            return Err(Error::BelowFloor);
        }
        let (wall, own) = if account.debt == 0 {
            (ask.wall.max(ask.notice), ask.own.max(ask.notice))
        } else {
            (ask.notice, ask.notice)
        };
        account.limit = limit;
        account.asks += 1;
        account.debt = account.held.saturating_sub(limit);
        // 0 means that there is no debt.
        account.due_wall = account.due_wall.max(ask.now.saturating_add(wall)).max(1);
        account.due_own = account.due_own.max(ask.own_now.saturating_add(own)).max(1);
        settle(account);
        Ok(account.debt)
    }

    /// Gives `count` of the limit away.
    ///
    /// # Errors
    /// [`Error::BelowFloor`], [`Error::OverLimit`] if more would be held than the rest allows.
    pub fn grant_out(&mut self, kind: Kind, count: u64) -> Result<(), Error> {
        let account = self.get_mut(kind);
        let limit = account.limit.checked_sub(count).ok_or(Error::OverLimit)?;
        if limit < account.held {
            return Err(Error::OverLimit);
        }
        if limit < account.floor {
            return Err(Error::BelowFloor);
        }
        account.limit = limit;
        Ok(())
    }

    /// Receives `count` more of limit. The sum of all limits never changes, so that it cannot
    /// overflow; if it did, the rest would be lost.
    pub fn grant_in(&mut self, kind: Kind, count: u64) {
        let account = self.get_mut(kind);
        account.limit = account.limit.saturating_add(count);
        settle(account);
    }

    /// How many names may now be taken by force: the debt, if it is due by either time.
    pub fn overdue(&self, kind: Kind, now: u64, own_now: u64) -> u64 {
        let account = self.get(kind);
        let due = now >= account.due_wall || own_now >= account.due_own;
        if account.debt != 0 && due { account.debt } else { 0 }
    }

    /// The earliest deadline by the clock, if there is a debt.
    pub fn next_due(&self) -> Option<u64> {
        self.accounts
            .iter()
            .filter(|account| account.debt != 0)
            .map(|account| account.due_wall)
            .min()
    }

    /// A field of all accounts together.
    pub fn total(&self, field: impl Fn(&Account) -> u64) -> u64 {
        self.accounts.iter().map(field).sum()
    }

    /// Writes the accounts where the environment reads them, in its contract page.
    pub fn write_to(&self, page: &Page) {
        let words = page[ACCOUNTS_WORD..].chunks_exact(ACCOUNT_WORDS);
        for (words, account) in words.zip(&self.accounts) {
            for (word, value) in words.iter().zip(account.to_words()) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }
}

/// Recomputes the debt; a debt that is paid has no deadline.
fn settle(account: &mut Account) {
    account.debt = account.held.saturating_sub(account.limit);
    if account.debt == 0 {
        account.due_wall = 0;
        account.due_own = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: Ask = Ask { count: 4, now: 100, own_now: 10, own: 50, wall: 70, notice: 60 };

    fn accounts() -> Accounts {
        let mut accounts = Accounts::new(&[10; KINDS], &[2; KINDS]);
        assert_eq!(accounts.take(Kind::Frames, 9), Ok(()));
        accounts
    }

    #[test]
    fn nothing_is_taken_over_the_limit() {
        let mut accounts = accounts();
        assert_eq!(accounts.take(Kind::Frames, 2), Err(Error::OverLimit));
        assert_eq!(accounts.take(Kind::Frames, u64::MAX), Err(Error::OverLimit));
        assert_eq!(accounts.take(Kind::Frames, 1), Ok(()));
    }

    #[test]
    fn a_debt_is_due_by_either_clock_but_not_before_the_notice() {
        let mut accounts = accounts();
        assert_eq!(accounts.ask(Kind::Frames, ASK), Ok(3));
        assert_eq!(accounts.get(Kind::Frames).due_wall, 170);
        assert_eq!(accounts.get(Kind::Frames).due_own, 70, "not 60: the contract's notice");
        assert_eq!(accounts.overdue(Kind::Frames, 169, 69), 0);
        assert_eq!(accounts.overdue(Kind::Frames, 170, 0), 3);
        assert_eq!(accounts.overdue(Kind::Frames, 0, 70), 3);
        assert_eq!(accounts.next_due(), Some(170));
        accounts.give(Kind::Frames, 5);
        assert_eq!(accounts.get(Kind::Frames).surrendered, 3, "only what was owed");
        assert_eq!((accounts.get(Kind::Frames).debt, accounts.next_due()), (0, None));
    }

    #[test]
    fn a_second_ask_cannot_cut_the_notice_short() {
        let mut accounts = accounts();
        assert_eq!(accounts.ask(Kind::Frames, ASK), Ok(3));
        assert_eq!(accounts.ask(Kind::Frames, Ask { count: 1, now: 169, ..ASK }), Ok(4));
        assert_eq!(accounts.overdue(Kind::Frames, 228, 0), 0);
        assert_eq!(accounts.overdue(Kind::Frames, 229, 0), 4);
    }

    #[test]
    fn the_floor_holds() {
        let mut accounts = accounts();
        assert_eq!(accounts.ask(Kind::Frames, Ask { count: 9, ..ASK }), Err(Error::BelowFloor));
        assert_eq!(accounts.ask(Kind::Frames, Ask { count: 99, ..ASK }), Err(Error::BelowFloor));
        assert_eq!(accounts.ask(Kind::Frames, Ask { count: 8, ..ASK }), Ok(7));
        assert_eq!(accounts.grant_out(Kind::Slices, 9), Err(Error::BelowFloor));
        assert_eq!(accounts.grant_out(Kind::Frames, 1), Err(Error::OverLimit), "it is in debt");
    }

    #[test]
    fn a_grant_pays_a_debt_and_a_loss_is_counted() {
        let mut accounts = accounts();
        assert_eq!(accounts.ask(Kind::Frames, ASK), Ok(3));
        accounts.lose(Kind::Frames, 1);
        assert_eq!(accounts.get(Kind::Frames).debt, 2);
        accounts.grant_in(Kind::Frames, 2);
        let account = accounts.get(Kind::Frames);
        assert_eq!((account.debt, account.due_own, account.repossessed), (0, 0, 1));
        assert_eq!((account.epoch, account.surrendered), (1, 0));
    }
}
