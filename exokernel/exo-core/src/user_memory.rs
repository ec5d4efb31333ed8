//! The only place that turns a program's address into memory.
//!
//! An address is looked up in the program's software TLB and then reached through the kernel's own
//! mapping of the frame. No address of a program is dereferenced, so that a program can change its
//! bindings, or another CPU the memory behind them, without the kernel ever faulting. What is read
//! is copied first and looked at afterwards: it is the same for the rest of the call.

use crate::call::Span;
use crate::kernel::Kernel;
use crate::machine::Machine;
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::layout::{LIST_MAX, USER_END, USER_START};
use exo_abi::name::PAGE_SIZE;
use exo_abi::{Error, FrameNumber, Rights};
use secure_bindings::Bindings;

/// Visits the pieces of a range of a program's memory that lie in one page each: the frame, where in
/// it the piece begins, and which bytes of the range it has.
fn for_each_piece<M: Machine>(
    bindings: &Bindings<'_, M>,
    slot: u16,
    (start, length): (u64, usize),
    access: Rights,
    mut visit: impl FnMut(FrameNumber, usize, Range<usize>),
) -> Result<(), Error> {
    let end = start.checked_add(length as u64).ok_or(Error::BadAddress)?;
    if start < USER_START || end > USER_END {
        return Err(Error::BadAddress);
    }
    let mut done = 0;
    while done < length {
        let address = start + done as u64;
        let frame = bindings.translate(slot, address, access).ok_or(Error::NotBound)?;
        let offset = (address % PAGE_SIZE) as usize;
        let behind = length.min(done + PAGE_SIZE as usize - offset);
        visit(frame, offset, done..behind);
        done = behind;
    }
    Ok(())
}

/// Copies words out of a program's memory.
///
/// # Errors
/// [`Error::BadAddress`], also if the first is not aligned to eight bytes; [`Error::NotBound`].
pub(crate) fn read_words<M: Machine>(
    bindings: &Bindings<'_, M>,
    machine: &M,
    slot: u16,
    address: u64,
    into: &mut [u64],
) -> Result<(), Error> {
    if !address.is_multiple_of(8) {
        return Err(Error::BadAddress);
    }
    let length = 8 * into.len();
    for_each_piece(bindings, slot, (address, length), Rights::READ, |frame, offset, piece| {
        let stored = &machine.page(frame)[offset / 8..];
        for (word, stored) in into[piece.start / 8..piece.end / 8].iter_mut().zip(stored) {
            *word = stored.load(Relaxed);
        }
    })
}

/// Copies bytes out of a program's memory.
pub(crate) fn read_bytes<M: Machine>(
    bindings: &Bindings<'_, M>,
    machine: &M,
    slot: u16,
    address: u64,
    into: &mut [u8],
) -> Result<(), Error> {
    let range = (address, into.len());
    for_each_piece(bindings, slot, range, Rights::READ, |frame, offset, piece| {
        machine.read(frame, offset, &mut into[piece]);
    })
}

impl<M: Machine> Kernel<'_, M> {
    /// As [`read_bytes`].
    pub(crate) fn read_user(&self, slot: u16, address: u64, into: &mut [u8]) -> Result<(), Error> {
        read_bytes(&self.bindings, self.machine, slot, address, into)
    }

    /// Copies bytes into a program's memory: all, or none if a page is not bound for writing.
    pub(crate) fn write_user(&self, slot: u16, address: u64, from: &[u8]) -> Result<(), Error> {
        let range = (address, from.len());
        for_each_piece(&self.bindings, slot, range, Rights::WRITE, |_, _, _| ())?;
        for_each_piece(&self.bindings, slot, range, Rights::WRITE, |frame, offset, piece| {
            self.machine.write(frame, offset, &from[piece]);
        })
    }

    /// Copies a list of frame numbers from a program's memory into the scratch list. Returns how many
    /// there are.
    pub(crate) fn read_frames(&mut self, slot: u16, list: Span) -> Result<usize, Error> {
        if list.count > LIST_MAX {
            return Err(Error::TooLong);
        }
        let mut bytes = [0; 4 * LIST_MAX as usize];
        let bytes = &mut bytes[..4 * list.count as usize];
        self.read_user(slot, list.start, bytes)?;
        for (number, chunk) in self.lists.scratch.iter_mut().zip(bytes.as_chunks().0) {
            *number = FrameNumber(u32::from_le_bytes(*chunk));
        }
        Ok(list.count as usize)
    }
}
