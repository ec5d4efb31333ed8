//! A pipe: bytes both ways through a page that two environments share.
//!
//! Each direction is a ring. Whoever writes publishes how much it has written so far, whoever reads
//! how much it has read; each says when it waits. Who makes the other able to go on transfers
//! control to it, and who can't go on transfers control to the other: so a byte there and back is
//! two transfers, and never a wait for a slice.
//!
//! A wait cannot be missed. Who waits first says so and then looks at the ring; who writes or reads
//! first publishes and then looks whether the other waits, and if so tries until the other is there.
//! Beyond that, nobody waits for ever without looking again. While both wait, both sleep.
//!
//! The other end is not trusted: a number in the page that can't be is [`PipeError::Broken`].

use crate::gate::{self, Failure, Rested};
use crate::{rpc, time};
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use exo_abi::calls::TransferMode;
use exo_abi::name::PAGE_SIZE;
use exo_abi::{EnvName, Error};

/// The bytes of a direction: half a page, its words at the start.
const HALF: u64 = PAGE_SIZE / 2;
/// The bytes of the words, two cache lines: the writer's and the reader's.
const HEADER: u64 = 128;
/// How many bytes a direction holds.
pub const CAPACITY: u64 = HALF - HEADER;
/// How often the other end is tried when it should be waiting and isn't there.
const ATTEMPTS: u64 = 16;
/// How long an end rests, in nanoseconds, before it looks again though nobody has entered: nothing
/// is missed, but the other end may be anything.
const LONG_NAP: u64 = 10 * time::MILLISECOND;

/// The words of a direction: the writer's at the start of the first line, the reader's of the second.
#[derive(Clone, Copy, Debug)]
enum Word {
    Written = 0,
    WriterWaits = 1,
    Closed = 2,
    Read = 8,
    ReaderWaits = 9,
}

/// Why bytes did not get through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PipeError {
    /// The other end has closed the pipe, or nobody is there to read.
    Closed,
    /// The other environment has ended.
    Ended,
    /// The time was over first.
    Deadline,
    /// The page says what can't be.
    Broken,
    /// The kernel refuses a transfer.
    Refused(Error),
}

impl From<Failure> for PipeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Ended => Self::Ended,
            Failure::Deadline => Self::Deadline,
            Failure::Refused(error) => Self::Refused(error),
        }
    }
}

/// Which of the two ends: they have to be different ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It writes to the first half of the page.
    First,
    /// It writes to the second half.
    Second,
}

/// A direction.
#[derive(Clone, Copy, Debug)]
struct Ring {
    address: u64,
}

impl Ring {
    fn word(&self, word: Word) -> &AtomicU64 {
        let address = self.address + word as u64 * 8;
        // SAFETY: `End::new` was promised that the page is there; atomic words may change.
        unsafe { &*(address as *const AtomicU64) }
    }

    /// The parts of the ring in which `count` bytes from `position` on lie.
    fn parts(&self, position: Position, count: u64) -> [(*mut u8, usize); 2] {
        let (first, data) = (position.offset, self.address + HEADER);
        let before_end = count.min(CAPACITY - first);
        [
            ((data + first) as *mut u8, before_end as usize),
            (data as *mut u8, (count - before_end) as usize),
        ]
    }
}

/// Copies bytes in place, where a call would mean one more page of code for the few that there
/// mostly are.
///
/// # Safety
/// As [`core::ptr::copy_nonoverlapping`].
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's promise; the direction flag is clear wherever Rust runs.
    unsafe {
        asm!(
            "rep movsb",
            inout("rsi") from => _,
            inout("rdi") to => _,
            inout("rcx") length => _,
            options(nostack, preserves_flags),
        );
    }
}

/// How far an end has come in a direction.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    /// All bytes so far.
    count: u64,
    /// Where the next one lies, below [`CAPACITY`].
    offset: u64,
}

impl Position {
    /// Goes on by so many bytes, at most [`CAPACITY`].
    fn advance(&mut self, count: u64) {
        self.count = self.count.wrapping_add(count);
        self.offset += count;
        if self.offset >= CAPACITY {
            self.offset -= CAPACITY;
        }
    }
}

/// One end of a pipe.
#[derive(Debug)]
pub struct End {
    output: Ring,
    input: Ring,
    written: Position,
    read: Position,
    other: EnvName,
}

impl End {
    /// An end of the pipe in the page at this address; `other` has the other end. The page is zero
    /// before either end is used.
    ///
    /// # Safety
    /// The page is bound, can be written, and stays so as long as the end is used; nothing refers
    /// to it.
    pub unsafe fn new(page: u64, side: Side, other: EnvName) -> Self {
        let halves = [Ring { address: page }, Ring { address: page + HALF }];
        let [output, input] = if side == Side::First { halves } else { [halves[1], halves[0]] };
        Self { output, input, written: Position::default(), read: Position::default(), other }
    }

    /// Writes at least one of the bytes, and returns how many: as many as there is room for. Waits
    /// for room until a time (nanoseconds since boot).
    ///
    /// # Errors
    /// [`PipeError`].
    pub fn write(&mut self, bytes: &[u8], until: u64) -> Result<usize, PipeError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut room = self.room()?;
        if room == 0 {
            room = self.wait_for_room(until)?;
        }
        if self.input.word(Word::Closed).load(Relaxed) != 0 {
            return Err(PipeError::Closed);
        }
        let count = room.min(bytes.len() as u64);
        let mut rest = bytes;
        for (to, length) in self.output.parts(self.written, count) {
            if length == 0 {
                break;
            }
            let (now, later) = rest.split_at(length);
            // SAFETY: the place is in the page. If the other end writes there too, bytes are spoilt
            // that it alone reads.
            unsafe { copy(now.as_ptr(), to, length) };
            rest = later;
        }
        self.written.advance(count);
        self.output.word(Word::Written).store(self.written.count, SeqCst);
        self.wake(self.output.word(Word::ReaderWaits))?;
        Ok(count as usize)
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// As [`End::write`]; a part may have been written then.
    pub fn write_all(&mut self, mut bytes: &[u8], until: u64) -> Result<(), PipeError> {
        while !bytes.is_empty() {
            let count = self.write(bytes, until)?;
            bytes = bytes.get(count..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Reads what is there, at least one byte, and returns how many: 0 when the other end has
    /// closed the pipe and everything was read. Waits until a time (nanoseconds since boot).
    ///
    /// # Errors
    /// [`PipeError`].
    pub fn read(&mut self, bytes: &mut [u8], until: u64) -> Result<usize, PipeError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut filled = self.filled()?;
        if filled == 0 {
            if self.input.word(Word::Closed).load(Acquire) != 0 && self.filled()? == 0 {
                return Ok(0);
            }
            filled = match self.wait(self.input.word(Word::ReaderWaits), Self::filled, until) {
                Err(PipeError::Closed) => return Ok(0),
                result => result?,
            };
        }
        let count = filled.min(bytes.len() as u64);
        let mut rest = bytes;
        for (from, length) in self.input.parts(self.read, count) {
            if length == 0 {
                break;
            }
            let (now, later) = rest.split_at_mut(length);
            // SAFETY: the place is in the page. If the other end writes there meanwhile, it spoils
            // its own bytes.
            unsafe { copy(from, now.as_mut_ptr(), length) };
            rest = later;
        }
        self.read.advance(count);
        self.input.word(Word::Read).store(self.read.count, SeqCst);
        let waits = self.input.word(Word::WriterWaits);
        if waits.load(SeqCst) != 0 {
            self.hand_over(waits)?;
        }
        Ok(count as usize)
    }

    /// Closes the pipe: the other end reads what is left, and then nothing.
    pub fn close(self) {
        self.output.word(Word::Closed).store(1, SeqCst);
        for waits in [self.output.word(Word::ReaderWaits), self.input.word(Word::WriterWaits)] {
            // If the other end has gone before, so much the better.
            let _ = self.hand_over(waits);
        }
    }

    /// How many bytes can be written.
    fn room(&self) -> Result<u64, PipeError> {
        let there = self.written.count.wrapping_sub(self.output.word(Word::Read).load(Acquire));
        CAPACITY.checked_sub(there).ok_or(PipeError::Broken)
    }

    /// How many bytes can be read.
    fn filled(&self) -> Result<u64, PipeError> {
        let there = self.input.word(Word::Written).load(Acquire).wrapping_sub(self.read.count);
        if there > CAPACITY { Err(PipeError::Broken) } else { Ok(there) }
    }

    /// Gives the CPU to the other end if it says that it waits, and goes on afterwards. In place: who
    /// comes back then goes on where it is needed.
    #[inline(always)]
    fn wake(&self, waits: &AtomicU64) -> Result<(), PipeError> {
        if waits.load(SeqCst) == 0 {
            return Ok(());
        }
        match gate::transfer(self.other, TransferMode::Asynchronous, 0) {
            Ok(_) => Ok(()),
            Err(failure) => self.insist(waits, failure),
        }
    }

    #[cold]
    #[inline(never)]
    fn hand_over(&self, waits: &AtomicU64) -> Result<(), PipeError> {
        self.wake(waits)
    }

    /// Tries again: the other end says that it waits and does not rest yet, or was interrupted on
    /// the way.
    #[cold]
    #[inline(never)]
    fn insist(&self, waits: &AtomicU64, mut failure: Failure) -> Result<(), PipeError> {
        for _ in 1..ATTEMPTS {
            if !failure.is_busy() {
                return Err(failure.into());
            }
            self.give_way();
            if waits.load(SeqCst) == 0 {
                break;
            }
            match gate::transfer(self.other, TransferMode::Asynchronous, 0) {
                Ok(_) => break,
                Err(again) => failure = again,
            }
        }
        Ok(())
    }

    /// Gives the CPU to the other end if it can run here, or else to nobody for a moment.
    fn give_way(&self) {
        if gate::give_way(self.other).is_err() {
            core::hint::spin_loop();
        }
    }

    /// Says that this end waits, and rests until `ready` gives a number that is not 0. In place, as
    /// [`wake`](Self::wake), for what nearly always happens: the other end is at rest, and comes back
    /// when there is something to do.
    #[inline(always)]
    fn wait(
        &self,
        waits: &AtomicU64,
        ready: impl Fn(&Self) -> Result<u64, PipeError>,
        until: u64,
    ) -> Result<u64, PipeError> {
        waits.store(1, SeqCst);
        let mut result = ready(self);
        if result == Ok(0)
            && self.input.word(Word::Closed).load(SeqCst) == 0
            && !self.is_awaited()
            && self.transfer(until) == Ok(Rested::Entered)
        {
            result = ready(self);
        }
        if result == Ok(0) {
            result = self.wait_on(&ready, until);
        }
        waits.store(0, Relaxed);
        result
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&self, until: u64) -> Result<u64, PipeError> {
        self.wait(self.output.word(Word::WriterWaits), Self::room, until)
    }

    /// Goes on waiting, whatever has happened so far: what it was happens again.
    #[cold]
    #[inline(never)]
    fn wait_on(
        &self,
        ready: &dyn Fn(&Self) -> Result<u64, PipeError>,
        until: u64,
    ) -> Result<u64, PipeError> {
        loop {
            // What came is what counts, even if the other end has gone since.
            match ready(self) {
                Ok(0) => {}
                result => return result,
            }
            if self.input.word(Word::Closed).load(SeqCst) != 0 {
                return match ready(self) {
                    Ok(0) => Err(PipeError::Closed),
                    result => result,
                };
            }
            match self.rest(until) {
                Ok(Rested::Entered) => {}
                Ok(Rested::Woken) if time::now() < until => {}
                Ok(Rested::Woken) => return Err(PipeError::Deadline),
                Err(failure) => {
                    return match ready(self) {
                        Ok(0) => Err(failure.into()),
                        result => result,
                    };
                }
            }
        }
    }

    /// Gives the CPU to the other end, and its slices, until that comes back.
    #[inline(always)]
    fn transfer(&self, until: u64) -> Result<Rested, Failure> {
        gate::transfer(self.other, TransferMode::Synchronous, until)
    }

    /// Whether the other end waits for this one, and rightly so.
    #[inline(always)]
    fn is_awaited(&self) -> bool {
        let (output, input) = (self.output, self.input);
        let reads = output.word(Word::ReaderWaits).load(SeqCst) != 0
            && output.word(Word::Read).load(Relaxed) == self.written.count;
        reads || input.word(Word::WriterWaits).load(SeqCst) != 0 && self.filled() == Ok(CAPACITY)
    }

    /// Rests until the other end enters, or something else happens.
    fn rest(&self, until: u64) -> Result<Rested, Failure> {
        if self.is_awaited() {
            // Neither has anything to do; they would pass the CPU to and fro.
            return gate::rest(rpc::nap(until, LONG_NAP, self.other));
        }
        let mut rested = self.transfer(until);
        if rested.is_err_and(Failure::is_busy) {
            // It does not let this end in.
            rested = gate::give_way(self.other);
        }
        if rested.is_err_and(Failure::is_busy) {
            // It runs on another CPU, or waits for something else.
            rested = gate::rest(rpc::nap(until, rpc::NAP, self.other));
        }
        rested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(4096))]
    struct Page([u8; PAGE_SIZE as usize]);

    #[test]
    fn what_is_written_is_read_around_the_end() {
        let mut page = Page([0; PAGE_SIZE as usize]);
        let address = page.0.as_mut_ptr() as u64;
        // SAFETY: the page stays, and nothing else uses it.
        let mut one = unsafe { End::new(address, Side::First, EnvName(1)) };
        // SAFETY: as above.
        let mut other = unsafe { End::new(address, Side::Second, EnvName(2)) };
        let (mut sent, mut received) = (0_u8, 0_u8);
        for count in [1, 700, 1200, 1500, 1920, 3, 1919] {
            let bytes: alloc::vec::Vec<u8> = (0..count)
                .map(|_| {
                    sent = sent.wrapping_add(1);
                    sent
                })
                .collect();
            assert_eq!(one.write(&bytes, 0), Ok(count));
            let mut back = [0; 2000];
            assert_eq!(other.read(&mut back, 0), Ok(count));
            for &byte in &back[..count] {
                received = received.wrapping_add(1);
                assert_eq!(byte, received);
            }
        }
        assert_eq!(one.write(&[1; 3000], 0), Ok(CAPACITY as usize), "as much as there is room");
        one.close();
        let mut back = [0; 2000];
        assert_eq!(other.read(&mut back, 0), Ok(CAPACITY as usize));
        assert_eq!(other.read(&mut back, 0), Ok(0), "closed");
        assert_eq!(other.write(&[1], 0), Err(PipeError::Closed));
    }

    #[test]
    fn numbers_that_cannot_be_are_noticed() {
        let mut page = Page([0; PAGE_SIZE as usize]);
        let address = page.0.as_mut_ptr() as u64;
        // SAFETY: as above.
        let mut end = unsafe { End::new(address, Side::First, EnvName(1)) };
        end.output.word(Word::Read).store(1, Relaxed);
        assert_eq!(end.write(&[1], 0), Err(PipeError::Broken));
        end.input.word(Word::Written).store(CAPACITY + 1, Relaxed);
        assert_eq!(end.read(&mut [0], 0), Err(PipeError::Broken));
    }
}
