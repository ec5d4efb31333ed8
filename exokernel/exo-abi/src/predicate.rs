//! Predicates for waking: what an environment sleeps until, as words of a frame of its own.
//!
//! The first words of such a frame are [`CLAUSES`] clauses of [`CLAUSE_WORDS`] words, the words behind
//! them are for those that the clauses speak of. A predicate is one clause, or several in a row that are
//! joined by *and*; the environment is told when one of its predicates holds. Whoever has changed words
//! says so by a call ([`Notify`](crate::Call::Notify)); nothing else makes anybody look.
//!
//! The owner writes the clauses with plain stores, the head of each last, and then looks at the words
//! itself before it sleeps. So either it sees what was changed, or who changed it sees the predicate.

use core::sync::atomic::{AtomicU64, Ordering};

/// The clauses of a frame.
pub const CLAUSES: usize = 64;
/// The words of a clause: the head, the mask and the value.
pub const CLAUSE_WORDS: usize = 3;
/// The first word behind the clauses.
pub const FREE_WORD: usize = CLAUSES * CLAUSE_WORDS;
/// The words of a frame.
const WORDS: usize = 512;

/// In a head: the next clause is part of the same predicate.
const AND: u64 = 1 << 24;
/// Where the comparison is in a head. Below is the word's offset in bytes.
const COMPARISON_SHIFT: u32 = 16;

/// How the bits of a word under the mask are compared with the value, as numbers without a sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Comparison {
    /// They are the value.
    Equal = 1,
    /// They are not.
    Different = 2,
    /// They are less.
    Below = 3,
    /// They are the value or more.
    AtLeast = 4,
}

/// One condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clause {
    /// Where the word is in the frame, in bytes.
    pub offset: u16,
    /// The bits that count.
    pub mask: u64,
    /// How they are compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

/// Why a clause is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClauseError {
    /// The word does not begin at a multiple of eight bytes.
    Unaligned,
    /// The word is not in the frame.
    OutsideFrame,
}

impl Clause {
    /// The clause as words; with `and`, the next one is part of the same predicate.
    ///
    /// # Errors
    /// See [`ClauseError`].
    pub const fn to_words(self, and: bool) -> Result<[u64; CLAUSE_WORDS], ClauseError> {
        if !self.offset.is_multiple_of(8) {
            return Err(ClauseError::Unaligned);
        }
        if self.offset as usize >= 8 * WORDS {
            return Err(ClauseError::OutsideFrame);
        }
        let comparison = (self.comparison as u64) << COMPARISON_SHIFT;
        let head = self.offset as u64 | comparison | if and { AND } else { 0 };
        Ok([head, self.mask, self.value])
    }
}

/// Whether a predicate of this frame holds. What is there is a claim: what is no clause holds, so that who
/// has written it wakes and looks, and does not sleep for ever.
pub fn holds(frame: &[AtomicU64; WORDS]) -> bool {
    let mut all = true;
    for clause in frame[..FREE_WORD].as_chunks::<CLAUSE_WORDS>().0 {
        let [head, mask, value] = clause.each_ref().map(|word| word.load(Ordering::Acquire));
        if head == 0 {
            all = true;
            continue;
        }
        let offset = (head & 0xffff) as usize;
        let word = frame.get(offset / 8).filter(|_| offset.is_multiple_of(8));
        let word = word.map(|word| word.load(Ordering::Relaxed) & mask);
        all &= match (word, (head & !AND) >> COMPARISON_SHIFT) {
            (Some(word), 1) => word == value,
            (Some(word), 2) => word != value,
            (Some(word), 3) => word < value,
            (Some(word), 4) => word >= value,
            _ => true,
        };
        if head & AND == 0 {
            if all {
                return true;
            }
            all = true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: u16 = 8 * FREE_WORD as u16;

    fn frame() -> [AtomicU64; WORDS] {
        [const { AtomicU64::new(0) }; WORDS]
    }

    fn put(frame: &[AtomicU64], place: usize, words: [u64; 3]) {
        for (stored, word) in frame[place * CLAUSE_WORDS..].iter().zip(words) {
            stored.store(word, Ordering::Relaxed);
        }
    }

    fn clause(word: u16, mask: u64, comparison: Comparison, value: u64) -> Clause {
        Clause { offset: WORD + 8 * word, mask, comparison, value }
    }

    #[test]
    fn each_comparison_compares() {
        use Comparison::{AtLeast, Below, Different, Equal};
        for (comparison, held) in [
            (Equal, [false, true, false]),
            (Different, [true, false, true]),
            (Below, [true, false, false]),
            (AtLeast, [false, true, true]),
        ] {
            for (value, held) in [4, 5, 6].into_iter().zip(held) {
                let frame = frame();
                put(&frame, 63, clause(319, 0xff, comparison, 5).to_words(false).unwrap());
                frame[511].store(0x700 | value, Ordering::Relaxed);
                assert_eq!(holds(&frame), held, "{comparison:?} {value}");
            }
        }
    }

    #[test]
    fn clauses_are_joined_by_and_predicates_by_or() {
        let frame = frame();
        assert!(!holds(&frame), "none");
        let at_least = |word, value| clause(word, u64::MAX, Comparison::AtLeast, value);
        put(&frame, 0, at_least(0, 1).to_words(true).unwrap());
        put(&frame, 1, at_least(1, 1).to_words(false).unwrap());
        put(&frame, 2, at_least(2, 1).to_words(false).unwrap());
        let set = |word: usize, value| frame[FREE_WORD + word].store(value, Ordering::Relaxed);
        assert!(!holds(&frame));
        set(0, 1);
        assert!(!holds(&frame), "one of two");
        set(1, 1);
        assert!(holds(&frame));
        set(0, 0);
        set(2, 9);
        assert!(holds(&frame), "the other");
    }

    #[test]
    fn what_is_no_clause_wakes_and_reaches_nothing() {
        for offset in [1, 4, 7, 4095] {
            let clause = Clause { offset, mask: 0, comparison: Comparison::Equal, value: 1 };
            assert_eq!(clause.to_words(false), Err(ClauseError::Unaligned));
        }
        for offset in [4096, u16::MAX - 7] {
            let clause = Clause { offset, mask: 0, comparison: Comparison::Equal, value: 1 };
            assert_eq!(clause.to_words(false), Err(ClauseError::OutsideFrame));
        }
        for head in [1 << 16 | 4, 1 << 16 | 0xfff8, 5 << 16, 1 << 63, 7] {
            let frame = frame();
            put(&frame, 5, [head, u64::MAX, 1]);
            assert!(holds(&frame), "{head:x}");
            put(&frame, 5, [head | AND, u64::MAX, 1]);
            assert!(!holds(&frame), "{head:x}: without an end");
        }
    }
}
