//! Which page goes when a frame is needed: the program's choice.

use crate::memory::page_table::Seat;
use crate::memory::resident::{Resident, ResidentSet};

/// How many of the newest pages one instruction may need at the same time: a copy reads from two
/// pages and writes to two. A policy that chose among them would let the instruction fault for
/// ever.
pub const INSTRUCTION_PAGES: usize = 4;

/// What the hardware has noticed about the use of pages.
pub trait Usage {
    /// Whether the page was used since the last time that this was asked. Asking costs a load, and
    /// if the answer is yes, a call that clears the hardware's bit.
    fn take_accessed(&mut self, resident: &Resident) -> bool;

    /// The program's own time: how long it has run, in nanoseconds.
    fn run_time(&self) -> u64;
}

/// A replacement policy.
///
/// It runs inside handlers: it must not touch the paged heap. When it chooses nothing, or a seat
/// that is empty, the oldest page goes.
pub trait Replacement {
    /// Chooses the page that gives up its frame. It may change the order of the queue.
    fn victim(&mut self, resident: &mut ResidentSet<'_>, usage: &mut dyn Usage) -> Option<Seat>;
}

/// First in, first out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fifo;

impl Replacement for Fifo {
    fn victim(&mut self, resident: &mut ResidentSet<'_>, _: &mut dyn Usage) -> Option<Seat> {
        resident.oldest()
    }
}

/// The clock, or second chance: the oldest page that was not used since the hand last passed it.
///
/// Corbató, "A paging experiment with the Multics system", 1968. The queue is the clock's face:
/// moving a page to its end is what the hand does when it goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Replacement for Clock {
    fn victim(&mut self, resident: &mut ResidentSet<'_>, usage: &mut dyn Usage) -> Option<Seat> {
        for _ in 0..resident.len() {
            let seat = resident.oldest()?;
            if !usage.take_accessed(&resident.get(seat)?) {
                return Some(seat);
            }
            resident.renew(seat);
        }
        resident.oldest()
    }
}

/// Least recently used: the page whose last use is longest ago.
///
/// The hardware keeps one bit for each page and no time. So the uses are put in order whenever a
/// page has to go: what was used since the last time is newer than what was not. That costs a load
/// for each resident page, and a call for each that was used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lru;

impl Replacement for Lru {
    fn victim(&mut self, resident: &mut ResidentSet<'_>, usage: &mut dyn Usage) -> Option<Seat> {
        let mut next = resident.oldest();
        for _ in 0..resident.len() {
            let seat = next?;
            next = resident.newer(seat);
            if usage.take_accessed(&resident.get(seat)?) {
                resident.renew(seat);
            }
        }
        resident.oldest()
    }
}

/// The working set: a page that the program has not used for a while of its own run time goes; if
/// there is none, the one that was not used for longest.
///
/// Denning, "The working set model for program behavior", 1968, in the form of Carr and Hennessy,
/// "WSClock", 1981: the queue is a clock's face, and the stamp of a page is when the hand last found
/// it used.
#[derive(Clone, Copy, Debug)]
pub struct WorkingSet {
    /// The while, in nanoseconds of the program's run time.
    pub window: u64,
}

impl Default for WorkingSet {
    fn default() -> Self {
        Self { window: 50_000_000 }
    }
}

impl Replacement for WorkingSet {
    fn victim(&mut self, resident: &mut ResidentSet<'_>, usage: &mut dyn Usage) -> Option<Seat> {
        let now = usage.run_time();
        let (mut idle, mut least) = (None, u64::MAX);
        for _ in 0..resident.len() {
            let seat = resident.oldest()?;
            if usage.take_accessed(&resident.get(seat)?) || resident.stamp(seat) == 0 {
                resident.set_stamp(seat, now);
            } else if resident.stamp(seat) + self.window < now {
                return Some(seat);
            } else if resident.stamp(seat) < least {
                (idle, least) = (Some(seat), resident.stamp(seat));
            }
            resident.renew(seat);
        }
        idle.or(resident.oldest())
    }
}

/// Most recently used: the page that came last goes first.
///
/// Wrong for most programs, and right for one that passes again and again over more than it has
/// memory for: whatever just went by is what it will need last. Pages count as used when they
/// come; the newest [`INSTRUCTION_PAGES`] are spared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mru;

impl Replacement for Mru {
    fn victim(&mut self, resident: &mut ResidentSet<'_>, _: &mut dyn Usage) -> Option<Seat> {
        let mut seat = resident.newest()?;
        for _ in 0..INSTRUCTION_PAGES {
            seat = resident.older(seat)?;
        }
        Some(seat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::page_table::PageIndex;
    use crate::memory::resident::ResidentPlace;
    use std::collections::BTreeSet;
    use std::vec;
    use std::vec::Vec;

    /// The bits that hardware would set.
    #[derive(Default)]
    struct Bits {
        used: BTreeSet<u32>,
        references: u64,
    }

    impl Usage for Bits {
        fn take_accessed(&mut self, resident: &Resident) -> bool {
            self.used.remove(&resident.page.0)
        }

        fn run_time(&self) -> u64 {
            self.references
        }
    }

    /// The faults of a policy with `frames` frames on a string of references.
    fn faults(policy: &mut dyn Replacement, frames: usize, references: &[u32]) -> usize {
        let mut places = vec![ResidentPlace::default(); frames];
        let mut set = ResidentSet::new(&mut places);
        let mut bits = Bits::default();
        let mut count = 0;
        for &page in references {
            if !set.iter().any(|(_, resident)| resident.page.0 == page) {
                count += 1;
                if set.is_full() {
                    let seat = policy.victim(&mut set, &mut bits).unwrap();
                    let gone = set.remove(seat).unwrap();
                    bits.used.remove(&gone.page.0);
                }
                set.insert(Resident { page: PageIndex(page), ..Resident::default() }).unwrap();
            }
            bits.used.insert(page);
            bits.references += 1;
        }
        count
    }

    /// Silberschatz, Galvin and Gagne, "Operating System Concepts", chapter on virtual memory.
    const BOOK: [u32; 20] = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];
    /// Belady, Nelson and Shedler, "An anomaly in space-time characteristics", 1969.
    const ANOMALY: [u32; 12] = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];

    #[test]
    fn fifo_faults_as_the_book_says() {
        assert_eq!(faults(&mut Fifo, 3, &BOOK), 15);
    }

    #[test]
    fn fifo_shows_the_anomaly() {
        assert_eq!(faults(&mut Fifo, 3, &ANOMALY), 9);
        assert_eq!(faults(&mut Fifo, 4, &ANOMALY), 10);
    }

    #[test]
    fn the_clock_spares_what_is_used() {
        // Page 1 is used between all others. FIFO throws it out again and again; the clock once,
        // when its hand has found every page used.
        let references: Vec<u32> = (2..40).flat_map(|page| [1, page]).collect();
        assert_eq!(faults(&mut Clock, 4, &references), 40);
        assert_eq!(faults(&mut Fifo, 4, &references), 38 + 10);
    }

    #[test]
    fn the_clock_is_fifo_when_everything_is_used() {
        let cycle: Vec<u32> = (0..5).flat_map(|_| 0..10).collect();
        assert_eq!(faults(&mut Clock, 8, &cycle), faults(&mut Fifo, 8, &cycle));
    }

    #[test]
    fn lru_throws_out_what_was_not_used_for_longest() {
        // Pages 1 and 2 are used between all others, and stay: but for the first time that a page
        // has to go, when all have been used.
        let references: Vec<u32> = (3..40).flat_map(|page| [1, 2, page]).collect();
        assert_eq!(faults(&mut Lru, 4, &references), 39 + 2);
        // On a cycle that is larger than memory, everything is thrown out before it is used again.
        let cycle: Vec<u32> = (0..5).flat_map(|_| 0..10).collect();
        assert_eq!(faults(&mut Lru, 8, &cycle), 50);
    }

    #[test]
    fn the_working_set_stays_while_it_is_used() {
        // A phase of four pages, used all the time, and a scan that passes by. Before the hand has
        // gone round, nothing is known of them.
        let references: Vec<u32> = (10..100).flat_map(|page| [0, 1, 2, 3, page]).collect();
        let mut policy = WorkingSet { window: 12 };
        assert_eq!(faults(&mut policy, 6, &references), 94 + 4);
        // The next phase has other pages. Those of the last go, although others came later.
        let phases: Vec<u32> =
            (0..2).flat_map(|phase| (0..300).map(move |n| phase * 6 + n % 6)).collect();
        assert_eq!(faults(&mut policy, 6, &phases), 12);
    }

    #[test]
    fn mru_wins_on_a_cycle_larger_than_memory() {
        let cycle: Vec<u32> = (0..20).flat_map(|_| 0..40).collect();
        assert_eq!(faults(&mut Fifo, 32, &cycle), 800, "every reference");
        assert_eq!(faults(&mut Lru, 32, &cycle), 800, "every reference");
        assert!(faults(&mut Mru, 32, &cycle) * 2 <= 800);
    }

    #[test]
    fn mru_spares_what_one_instruction_needs() {
        let mut places = vec![ResidentPlace::default(); 8];
        let mut set = ResidentSet::new(&mut places);
        for page in 0..8 {
            set.insert(Resident { page: PageIndex(page), ..Resident::default() }).unwrap();
        }
        let seat = Mru.victim(&mut set, &mut Bits::default()).unwrap();
        assert_eq!(set.get(seat).unwrap().page, PageIndex(3));
        let mut few = vec![ResidentPlace::default(); 4];
        let mut few = ResidentSet::new(&mut few);
        few.insert(Resident::default()).unwrap();
        assert_eq!(Mru.victim(&mut few, &mut Bits::default()), None);
    }
}
