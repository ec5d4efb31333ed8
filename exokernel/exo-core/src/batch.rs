//! A vector of calls with one entry to the kernel.
//!
//! The entries stay the program's own memory, which another environment may change meanwhile: each
//! is read once, just before its call is made, and what undoes it is computed from what was read.

use crate::call::{Answer, Span};
use crate::kernel::Kernel;
use crate::machine::Machine;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::batch::{BATCH_WORDS, BatchFlags};
use exo_abi::calls::Number;
use exo_abi::layout::BATCH_MAX;
use exo_abi::name::PAGE_SIZE;
use exo_abi::request::NOBODY;
use exo_abi::tables::{NO_RING, SEND_TEMPLATE};
use exo_abi::{Call, EnvName, Error, Registers, Rights};
use secure_bindings::Page;

const ENTRY: u64 = BATCH_WORDS as u64 * 8;

/// Whether a call can be in a batch: afterwards the caller still runs, and the batch goes on.
fn can_be_in_batch(call: &Call) -> bool {
    !matches!(
        call,
        Call::Yield { .. }
            | Call::Sleep { .. }
            | Call::Transfer { .. }
            | Call::Batch { .. }
            | Call::EnvironmentDestroy { .. }
            | Call::MachineExit { .. }
    )
}

/// The call that undoes another which got `value`; `Null` if there is nothing to undo.
fn undoing(call: &Call, value: u64) -> Option<Call> {
    let name = value as u32;
    match *call {
        Call::Null {} => Some(Call::Null {}),
        Call::FrameAllocate { list, count, .. } => Some(Call::FrameFree { list, count }),
        Call::RingCreate { .. } => Some(Call::RingDestroy { ring: name }),
        // A template has no id, and the one before it is gone.
        Call::FilterInstall { capability, ring, .. }
            if !(SEND_TEMPLATE..NO_RING).contains(&ring) =>
        {
            Some(Call::FilterRemove { filter: name, capability })
        }
        Call::Slice { cpu, position, environment, capability } if environment != NOBODY => {
            Some(Call::Slice { cpu, position, environment: NOBODY, capability })
        }
        _ => None,
    }
}

/// Answers an entry if its call is `Null`.
fn answer_null(entry: &[AtomicU64; BATCH_WORDS], name: EnvName) -> bool {
    let number = entry[0].load(Relaxed) & 0xffff_ffff;
    if number != Number::Null as u64 {
        return false;
    }
    entry[0].store(number, Relaxed);
    entry[BATCH_WORDS - 1].store(name.0, Relaxed);
    true
}

impl<'a, M: Machine> Kernel<'a, M> {
    pub(crate) fn batch(&mut self, caller: u16, list: Span, flags: BatchFlags) -> Answer {
        if list.count > BATCH_MAX {
            return Err(Error::TooLong);
        }
        if !list.start.is_multiple_of(ENTRY) || list.start.checked_add(list.count * ENTRY).is_none()
        {
            return Err(Error::BadAddress);
        }
        if !flags.contains(BatchFlags::ROLL_BACK) {
            return match self.batch_up_to(caller, list, None) {
                // There is no entry to say why.
                (0, Some(error)) if self.entry_page(caller, list.start).is_err() => Err(error),
                // The entry says why.
                (made, _) => Ok(made),
            };
        }
        let mut undo = [Call::Null {}; BATCH_MAX as usize];
        let (made, error) = self.batch_up_to(caller, list, Some(&mut undo));
        let Some(error) = error else { return Ok(made) };
        for call in undo[..made as usize].iter().rev() {
            // Fails only if the program has changed its own list meanwhile.
            let _ = self.perform(caller, *call);
        }
        Err(error)
    }

    /// Makes the calls up to the first that is refused, and writes down what undoes them if that is
    /// asked for. Returns how many were made, and why no more were.
    fn batch_up_to(
        &mut self,
        caller: u16,
        list: Span,
        mut undo: Option<&mut [Call; BATCH_MAX as usize]>,
    ) -> (u64, Option<Error>) {
        let name = self.environment(caller).name;
        let mut made = 0;
        while made < list.count {
            let place = list.start + made * ENTRY;
            let page = match self.entry_page(caller, place) {
                Ok(page) => page,
                Err(error) => return (made, Some(error)),
            };
            // Null calls change no binding: the page is where it was.
            let (entries, _) = page[(place % PAGE_SIZE) as usize / 8..].as_chunks::<BATCH_WORDS>();
            let entries = entries.iter().take((list.count - made) as usize);
            let left = entries.len();
            let nulls = entries.take_while(|entry| answer_null(entry, name)).count();
            made += nulls as u64;
            if nulls == left {
                continue;
            }
            match self.batch_entry(caller, list.start + made * ENTRY, undo.is_some()) {
                Ok(call) => {
                    if let Some(undo) = &mut undo {
                        undo[made as usize] = call;
                    }
                }
                Err(error) => return (made, Some(error)),
            }
            made += 1;
        }
        (made, None)
    }

    /// Makes the call of one entry and writes what it got; returns what undoes it.
    fn batch_entry(&mut self, caller: u16, place: u64, rolls_back: bool) -> Result<Call, Error> {
        let words = self.entry_page(caller, place)?;
        let first = (place % PAGE_SIZE) as usize / 8;
        let words = words.get(first..first + BATCH_WORDS).ok_or(Error::BadAddress)?;
        let number = words[0].load(Relaxed) & 0xffff_ffff;
        let mut arguments = [0; 6];
        for (argument, word) in arguments.iter_mut().zip(&words[1..]) {
            *argument = word.load(Relaxed);
        }
        let call = Call::unpack(&Registers { number, arguments });
        let result = match call {
            Ok(call) if !can_be_in_batch(&call) => Err(Error::NotInBatch),
            Ok(call) if rolls_back && undoing(&call, 0).is_none() => Err(Error::NotInBatch),
            Ok(call) => self.perform(caller, call),
            Err(error) => Err(error),
        };
        // The call may have unbound the page that the entry is in.
        if let Ok(page) = self.entry_page(caller, place) {
            let error = result.map_or_else(|error| error as u64, |_| 0);
            page[first].store(number | error << 32, Relaxed);
            page[first + BATCH_WORDS - 1].store(result.unwrap_or(0), Relaxed);
        }
        Ok(undoing(&call?, result?).unwrap_or(Call::Null {}))
    }

    fn entry_page(&self, caller: u16, place: u64) -> Result<&'a Page, Error> {
        let access = Rights::READ | Rights::WRITE;
        let frame = self.bindings.translate(caller, place, access);
        Ok(self.machine.page(frame.ok_or(Error::NotBound)?))
    }
}
