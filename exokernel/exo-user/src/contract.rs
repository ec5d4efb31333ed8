//! What the program has been promised and what it owes: loads from its contract page.

use crate::shared;
use core::array;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::contract::{ACCOUNT_WORDS, ACCOUNTS_WORD, Account};
use exo_abi::{EnvName, Kind};

fn word(index: usize) -> u64 {
    shared::contract()[index].load(Ordering::Relaxed)
}

/// The program's own name.
pub fn name() -> EnvName {
    EnvName(word(0))
}

/// The least notice, in nanoseconds, that anybody who asks must give.
pub fn notice() -> u64 {
    word(1)
}

/// The account of a kind of resource. The kernel may change it between two of its words; `debt` is
/// one word.
pub fn account(kind: Kind) -> Account {
    read(shared::contract(), kind)
}

/// How many of a kind have to be given back.
pub fn debt(kind: Kind) -> u64 {
    word(ACCOUNTS_WORD + kind as usize * ACCOUNT_WORDS + 3)
}

fn read(words: &[AtomicU64], kind: Kind) -> Account {
    let first = ACCOUNTS_WORD + kind as usize * ACCOUNT_WORDS;
    Account::from_words(array::from_fn(|index| words[first + index].load(Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::mem::offset_of;
    use exo_abi::contract::{ContractPage, KINDS};

    #[test]
    fn words_are_where_the_page_has_them() {
        let words: Vec<AtomicU64> =
            (0..(ACCOUNTS_WORD + KINDS * ACCOUNT_WORDS) as u64).map(AtomicU64::new).collect();
        let account = read(&words, Kind::Environments);
        assert_eq!(account.epoch + 1, words.len() as u64);
        assert_eq!(account.debt, account.limit + offset_of!(Account, debt) as u64 / 8);
        assert_eq!(offset_of!(ContractPage, notice), 8);
    }
}
