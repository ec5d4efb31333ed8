//! What was taken by force: the ring as long as it keeps up, the bitmap when it doesn't.

use crate::{contract, revocation, shared, tables};
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::contract::{LOSS_SLOTS, LOSSES_WORD, Loss};
use exo_abi::{Error, FrameNumber, Kind};

/// More losses have come than the ring keeps: some of them are only in the bitmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow;

/// Reads losses in the order in which they happened, each once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    read: u64,
}

impl Reader {
    /// A reader that has read nothing yet.
    pub const fn new() -> Self {
        Self { read: 0 }
    }

    /// Reads the losses since the last time. After an overflow the reader goes on behind all that
    /// has been lost until now.
    ///
    /// # Errors
    /// [`Overflow`]: `visit` has seen some of the losses or none.
    pub fn read(&mut self, visit: impl FnMut(Loss)) -> Result<(), Overflow> {
        self.read_from(shared::loss_ring(), visit)
    }

    fn read_from(
        &mut self,
        ring: &[AtomicU64],
        mut visit: impl FnMut(Loss),
    ) -> Result<(), Overflow> {
        let count = || ring[0].load(Ordering::Acquire);
        let until = count();
        while self.read < until {
            let slot = LOSSES_WORD + (self.read % LOSS_SLOTS as u64) as usize * 4;
            let word = |index: usize| ring[slot + index].load(Ordering::Acquire);
            let loss = Loss { epoch: word(0), kind: word(1), name: word(2), time: word(3) };
            // Counted again, since the slot may have been written anew while it was read.
            let now = count();
            if now - self.read > LOSS_SLOTS as u64 {
                self.read = now;
                return Err(Overflow);
            }
            visit(loss);
            self.read += 1;
        }
        Ok(())
    }

    /// Tells every frame that was lost since the last time, and acknowledges the record. Whatever
    /// happens meanwhile, no loss is left out; one may be told twice.
    ///
    /// # Errors
    /// What the kernel says to [`revocation::acknowledge`], but for newer losses, which are read.
    pub fn frames(&mut self, mut visit: impl FnMut(FrameNumber)) -> Result<(), Error> {
        loop {
            let epoch = contract::account(Kind::Frames).epoch;
            let result = self.read(|loss| {
                if loss.kind == Kind::Frames as u64 {
                    visit(FrameNumber(loss.name as u32));
                }
            });
            if result == Err(Overflow) {
                lost_frames().for_each(&mut visit);
            }
            match revocation::acknowledge(Kind::Frames, epoch) {
                Err(Error::StaleEpoch) => {}
                other => return other,
            }
        }
    }
}

/// The names of a kind in its bitmap: all that were lost since its record was last acknowledged. For
/// frames, [`lost_frames`].
pub fn lost_names(kind: Kind) -> impl Iterator<Item = u64> {
    let words = shared::lost_names();
    let numbers = (0..).map_while(move |number| Some((number, kind.lost_bit(number)?)));
    let in_page = numbers.take_while(move |(_, bit)| *bit < 64 * words.len());
    in_page
        .filter(move |(_, bit)| words[bit / 64].load(Ordering::Relaxed) >> (bit % 64) & 1 != 0)
        .map(move |(number, _)| kind.name(number))
}

/// The frames in the bitmap: all that were lost since the record was last acknowledged.
pub fn lost_frames() -> impl Iterator<Item = FrameNumber> {
    bits(shared::lost_frames(tables::system().frames_total as usize))
}

fn bits(words: &[AtomicU64]) -> impl Iterator<Item = FrameNumber> {
    words.iter().enumerate().flat_map(|(index, word)| {
        let mut rest = word.load(Ordering::Acquire);
        core::iter::from_fn(move || {
            let bit = rest.trailing_zeros();
            let more = rest != 0;
            rest &= rest.wrapping_sub(1);
            more.then_some(FrameNumber((index * 64) as u32 + bit))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn ring(count: u64) -> Vec<AtomicU64> {
        let words: Vec<AtomicU64> =
            (0..LOSSES_WORD + LOSS_SLOTS * 4).map(|_| AtomicU64::new(0)).collect();
        for number in 0..count {
            append(&words, number);
        }
        words
    }

    fn append(words: &[AtomicU64], number: u64) {
        let slot = LOSSES_WORD + (number % LOSS_SLOTS as u64) as usize * 4;
        words[slot + 2].store(number, Ordering::Relaxed);
        words[0].store(number + 1, Ordering::Relaxed);
    }

    #[test]
    fn every_loss_is_read_once_and_in_order() {
        let ring = ring(100);
        let mut reader = Reader::new();
        let mut seen = Vec::new();
        assert_eq!(reader.read_from(&ring, |loss| seen.push(loss.name)), Ok(()));
        for number in 100..220 {
            append(&ring, number);
        }
        assert_eq!(reader.read_from(&ring, |loss| seen.push(loss.name)), Ok(()));
        assert_eq!(seen, (0..220).collect::<Vec<_>>());
        assert_eq!(reader.read_from(&ring, |_| panic!("read twice")), Ok(()));
    }

    #[test]
    fn a_ring_that_was_overrun_says_so() {
        let full = ring(LOSS_SLOTS as u64);
        assert_eq!(Reader::new().read_from(&full, |_| ()), Ok(()));
        let over = ring(LOSS_SLOTS as u64 + 1);
        let mut reader = Reader::new();
        assert_eq!(reader.read_from(&over, |_| ()), Err(Overflow));
        assert_eq!(reader.read_from(&over, |_| panic!("told again")), Ok(()));
    }

    #[test]
    fn a_ring_that_is_overrun_while_it_is_read_says_so() {
        let ring = ring(10);
        let mut reader = Reader::new();
        let mut seen = 0;
        let result = reader.read_from(&ring, |_| {
            seen += 1;
            if seen == 5 {
                (10..300).for_each(|number| append(&ring, number));
            }
        });
        assert_eq!((result, seen), (Err(Overflow), 5));
    }

    #[test]
    fn the_bitmap_names_its_bits() {
        let words = [1 << 63 | 1, 0, 6].map(AtomicU64::new);
        let frames: Vec<u32> = bits(&words).map(|frame| frame.0).collect();
        assert_eq!(frames, [0, 63, 129, 130]);
    }
}
