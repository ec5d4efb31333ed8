//! The only place that turns a program's address into memory.
//!
//! An address is looked up in the program's software TLB and then reached through the kernel's own
//! mapping of the frame. No address of a program is dereferenced, so that a program can change its
//! bindings, or another CPU the memory behind them, without the kernel ever faulting. What is read
//! is copied first and looked at afterwards: it is the same for the rest of the call.

use crate::kernel::Kernel;
use crate::machine::Machine;
use core::ops::Range;
use exo_abi::layout::{LIST_MAX, USER_END, USER_START};
use exo_abi::name::PAGE_SIZE;
use exo_abi::{Error, FrameNumber, Rights};

impl<M: Machine> Kernel<'_, M> {
    /// Visits the pieces of a range of a program's memory that lie in one page each: the frame, where
    /// in it the piece begins, and which bytes of the range it has.
    fn for_each_piece(
        &self,
        slot: u16,
        address: u64,
        length: usize,
        access: Rights,
        mut visit: impl FnMut(FrameNumber, usize, Range<usize>),
    ) -> Result<(), Error> {
        let end = address.checked_add(length as u64).ok_or(Error::BadAddress)?;
        if address < USER_START || end > USER_END {
            return Err(Error::BadAddress);
        }
        let mut done = 0;
        while done < length {
            let address = address + done as u64;
            let frame = self.bindings.translate(slot, address, access).ok_or(Error::NotBound)?;
            let offset = (address % PAGE_SIZE) as usize;
            let behind = length.min(done + PAGE_SIZE as usize - offset);
            visit(frame, offset, done..behind);
            done = behind;
        }
        Ok(())
    }

    /// Copies bytes out of a program's memory.
    pub(crate) fn read_user(&self, slot: u16, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.for_each_piece(slot, address, into.len(), Rights::READ, |frame, offset, piece| {
            self.machine.read(frame, offset, &mut into[piece]);
        })
    }

    /// Copies bytes into a program's memory: all, or none if a page is not bound for writing.
    pub(crate) fn write_user(&self, slot: u16, address: u64, from: &[u8]) -> Result<(), Error> {
        self.for_each_piece(slot, address, from.len(), Rights::WRITE, |_, _, _| ())?;
        self.for_each_piece(slot, address, from.len(), Rights::WRITE, |frame, offset, piece| {
            self.machine.write(frame, offset, &from[piece]);
        })
    }

    /// Copies `N` words out of a program's memory.
    pub(crate) fn read_words<const N: usize>(
        &self,
        slot: u16,
        address: u64,
    ) -> Result<[u64; N], Error> {
        let mut bytes = [[0; 8]; N];
        self.read_user(slot, address, bytes.as_flattened_mut())?;
        Ok(bytes.map(u64::from_le_bytes))
    }

    /// Copies a list of frame numbers from a program's memory into the scratch list, and refuses
    /// it if a frame is in it twice. Returns how many there are.
    pub(crate) fn read_frames(&mut self, slot: u16, list: u64, count: u64) -> Result<usize, Error> {
        if count > LIST_MAX {
            return Err(Error::TooLong);
        }
        let mut bytes = [0; 4 * LIST_MAX as usize];
        let bytes = &mut bytes[..4 * count as usize];
        self.read_user(slot, list, bytes)?;
        for (number, chunk) in self.scratch.iter_mut().zip(bytes.as_chunks().0) {
            *number = FrameNumber(u32::from_le_bytes(*chunk));
        }
        Ok(count as usize)
    }

    /// Refuses a scratch list in which a frame is named twice.
    pub(crate) fn refuse_doubles(&mut self, count: usize) -> Result<(), Error> {
        let list = &mut self.sorted[..count];
        list.copy_from_slice(&self.scratch[..count]);
        list.sort_unstable();
        if list.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::BadArgument);
        }
        Ok(())
    }
}
