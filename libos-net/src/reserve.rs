//! Spare frames, which are the first to go when somebody asks for some back.
//!
//! A program whose memory is all wired can give nothing back without falling over. A reserve is what
//! it holds beyond that: frames that nothing is bound to. Asked for frames, the program gives these;
//! given a higher limit again, it takes new ones. The contract's floor then stands at what the
//! program cannot do without.

use alloc::vec::Vec;

use exo_user::{Error, FrameNumber, Kind, capability, contract, frame, loss};

/// Frames asked for or given back in one call.
const BATCH: usize = 64;

/// Where frames come from and go to.
pub trait Frames {
    /// Takes as many free frames as the list is long, and writes their numbers there. All or none.
    ///
    /// # Errors
    /// The kernel's, such as [`Error::OverLimit`].
    fn take(&mut self, frames: &mut [FrameNumber]) -> Result<(), Error>;

    /// Gives back frames that nothing is bound to. All or none.
    ///
    /// # Errors
    /// The kernel's: [`Error::NotOwner`] if one of them was repossessed.
    fn give_back(&mut self, frames: &[FrameNumber]) -> Result<(), Error>;
}

/// The frames of the machine, as the kernel hands them out.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineFrames;

impl Frames for MachineFrames {
    fn take(&mut self, frames: &mut [FrameNumber]) -> Result<(), Error> {
        frame::allocate(frames, capability::OWN)
    }

    fn give_back(&mut self, frames: &[FrameNumber]) -> Result<(), Error> {
        // SAFETY: the reserve binds its frames nowhere.
        unsafe { frame::free(frames) }
    }
}

/// Spare frames.
///
/// It takes everything that the contract leaves, so it comes after whatever else the program sets
/// aside: a heap that wants to grow later finds nothing left.
#[derive(Debug)]
pub struct Reserve<F = MachineFrames> {
    source: F,
    frames: Vec<FrameNumber>,
    target: usize,
    losses: loss::Reader,
    /// The count of losses in the contract page up to which they were read.
    losses_read: u64,
    surrendered: u64,
    lost: u64,
}

impl Reserve {
    /// An empty reserve that grows up to `target` frames.
    pub fn new(target: usize) -> Self {
        Self::with_source(target, MachineFrames)
    }

    /// Does what the contract page asks for: gives back what is owed, takes note of losses, grows
    /// again when it may. To be called in every turn; without a reason it costs a few loads.
    pub fn settle(&mut self) {
        let account = contract::account(Kind::Frames);
        if account.repossessed != self.losses_read {
            let mut losses = self.losses;
            // Where the record cannot be acknowledged, its losses are told again: no harm.
            let _ = losses.frames(|frame| self.forget(frame));
            self.losses = losses;
            self.losses_read = account.repossessed;
        }
        if account.debt > 0 {
            self.surrender(usize::try_from(account.debt).unwrap_or(usize::MAX));
        } else {
            let room = account.limit.saturating_sub(account.held);
            self.grow(usize::try_from(room).unwrap_or(usize::MAX));
        }
    }
}

impl<F: Frames> Reserve<F> {
    /// As [`Reserve::new`], with frames from elsewhere.
    pub fn with_source(target: usize, source: F) -> Self {
        // The list has its final size from the start: growing it later would take frames.
        let frames = Vec::with_capacity(target);
        let losses = loss::Reader::new();
        Self { source, frames, target, losses, losses_read: 0, surrendered: 0, lost: 0 }
    }

    /// How many frames it holds.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many frames it has given back.
    pub fn surrendered(&self) -> u64 {
        self.surrendered
    }

    /// How many of its frames were taken by force.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes up to `room` frames, but no more than the target.
    pub fn grow(&mut self, room: usize) {
        let mut wanted = self.target.saturating_sub(self.frames.len()).min(room);
        while wanted > 0 {
            let mut batch = [FrameNumber::ANY; BATCH];
            let batch = &mut batch[..wanted.min(BATCH)];
            // Somebody else was faster, or the limit has just gone down: the next turn sees.
            if self.source.take(batch).is_err() {
                return;
            }
            self.frames.extend_from_slice(batch);
            wanted -= batch.len();
        }
    }

    /// Gives back up to `count` frames, and says how many it had.
    pub fn surrender(&mut self, count: usize) -> usize {
        let mut given = 0;
        while given < count && !self.frames.is_empty() {
            let batch = (count - given).min(BATCH).min(self.frames.len());
            let rest = self.frames.len() - batch;
            if self.source.give_back(&self.frames[rest..]).is_ok() {
                self.frames.truncate(rest);
                given += batch;
            } else {
                // At least one is lost already. The others are given back one by one.
                given += self.surrender_singly(rest);
            }
        }
        self.surrendered = self.surrendered.saturating_add(given as u64);
        given
    }

    fn surrender_singly(&mut self, rest: usize) -> usize {
        let mut given = 0;
        for frame in self.frames.drain(rest..) {
            if self.source.give_back(&[frame]).is_ok() {
                given += 1;
            } else {
                self.lost = self.lost.saturating_add(1);
            }
        }
        given
    }

    /// Takes note that a frame was repossessed. Frames that aren't the reserve's are passed over.
    pub fn forget(&mut self, frame: FrameNumber) {
        if let Some(index) = self.frames.iter().position(|&held| held == frame) {
            self.frames.swap_remove(index);
            self.lost = self.lost.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    /// A machine of so many frames that counts who holds what.
    struct Machine {
        free: BTreeSet<u32>,
        held: BTreeSet<u32>,
    }

    impl Machine {
        fn new(frames: u32) -> Self {
            Self { free: (0..frames).collect(), held: BTreeSet::new() }
        }
    }

    impl Frames for Machine {
        fn take(&mut self, frames: &mut [FrameNumber]) -> Result<(), Error> {
            if self.free.len() < frames.len() {
                return Err(Error::NoFreeFrames);
            }
            for frame in frames {
                frame.0 = self.free.pop_first().ok_or(Error::NoFreeFrames)?;
                self.held.insert(frame.0);
            }
            Ok(())
        }

        fn give_back(&mut self, frames: &[FrameNumber]) -> Result<(), Error> {
            if frames.iter().any(|frame| !self.held.contains(&frame.0)) {
                return Err(Error::NotOwner);
            }
            for frame in frames {
                self.held.remove(&frame.0);
                self.free.insert(frame.0);
            }
            Ok(())
        }
    }

    fn numbers(reserve: &Reserve<Machine>) -> BTreeSet<u32> {
        reserve.frames.iter().map(|frame| frame.0).collect()
    }

    #[test]
    fn it_grows_to_its_target_or_its_room() {
        let mut reserve = Reserve::with_source(100, Machine::new(1000));
        reserve.grow(70);
        assert_eq!(reserve.len(), 70);
        reserve.grow(70);
        assert_eq!(reserve.len(), 100);
        assert_eq!(reserve.surrender(150), 100);
        assert!(reserve.is_empty());
        assert_eq!(reserve.source.free.len(), 1000);
    }

    proptest! {
        #[test]
        fn it_holds_what_the_machine_says_it_holds(
            steps in prop::collection::vec((0..4u8, 0..200usize), 1..60)
        ) {
            let mut reserve = Reserve::with_source(150, Machine::new(180));
            for (step, number) in steps {
                match step {
                    0 => reserve.grow(number),
                    1 => {
                        let before = reserve.len();
                        let lost = reserve.lost();
                        let given = reserve.surrender(number);
                        prop_assert!(given <= number && given <= before);
                        prop_assert_eq!(
                            reserve.len() + given + (reserve.lost() - lost) as usize,
                            before
                        );
                    }
                    // Taken by force, and told at once or not at all.
                    _ => {
                        if let Some(&frame) = reserve.source.held.iter().nth(number) {
                            reserve.source.held.remove(&frame);
                            if step == 2 {
                                reserve.forget(FrameNumber(frame));
                            }
                        }
                    }
                }
                prop_assert!(numbers(&reserve).is_superset(&reserve.source.held));
                prop_assert!(reserve.len() <= 150);
            }
            reserve.surrender(usize::MAX);
            prop_assert!(reserve.is_empty() && reserve.source.held.is_empty());
        }
    }
}
