//! The only place that turns a program's address into memory.
//!
//! An address is looked up in the program's software TLB and then reached through the kernel's own
//! mapping of the frame. No address of a program is dereferenced, so that a program can change its
//! bindings, or another CPU the memory behind them, without the kernel ever faulting. What is read
//! is copied first and looked at afterwards: it is the same for the rest of the call.

use crate::kernel::Kernel;
use crate::machine::Machine;
use exo_abi::layout::{LIST_MAX, USER_END, USER_START};
use exo_abi::name::PAGE_SIZE;
use exo_abi::{Error, FrameNumber, Rights};

/// The pieces of a range of a program's memory that lie in one page each.
struct Pieces {
    address: u64,
    left: u64,
}

impl Pieces {
    /// # Errors
    /// [`Error::BadAddress`] if a byte of the range is outside what programs can bind.
    fn new(address: u64, length: u64) -> Result<Self, Error> {
        let end = address.checked_add(length).ok_or(Error::BadAddress)?;
        if address < USER_START || end > USER_END {
            return Err(Error::BadAddress);
        }
        Ok(Self { address, left: length })
    }
}

impl Iterator for Pieces {
    /// Address and length in bytes.
    type Item = (u64, usize);

    fn next(&mut self) -> Option<(u64, usize)> {
        if self.left == 0 {
            return None;
        }
        let address = self.address;
        let length = self.left.min(PAGE_SIZE - address % PAGE_SIZE);
        self.address += length;
        self.left -= length;
        Some((address, length as usize))
    }
}

impl<M: Machine> Kernel<'_, M> {
    fn frame_behind(&self, slot: u16, address: u64, access: Rights) -> Result<FrameNumber, Error> {
        self.bindings.translate(slot, address, access).ok_or(Error::NotBound)
    }

    /// Copies bytes out of a program's memory.
    pub(crate) fn read_user(&self, slot: u16, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let mut rest = into;
        for (address, length) in Pieces::new(address, rest.len() as u64)? {
            let frame = self.frame_behind(slot, address, Rights::READ)?;
            let (piece, next) = rest.split_at_mut(length);
            self.machine.read(frame, (address % PAGE_SIZE) as usize, piece);
            rest = next;
        }
        Ok(())
    }

    /// Copies bytes into a program's memory: all, or none if a page is not bound for writing.
    pub(crate) fn write_user(&self, slot: u16, address: u64, from: &[u8]) -> Result<(), Error> {
        for (address, _) in Pieces::new(address, from.len() as u64)? {
            self.frame_behind(slot, address, Rights::WRITE)?;
        }
        let mut rest = from;
        for (address, length) in Pieces::new(address, from.len() as u64)? {
            let frame = self.frame_behind(slot, address, Rights::WRITE)?;
            let (piece, next) = rest.split_at(length);
            self.machine.write(frame, (address % PAGE_SIZE) as usize, piece);
            rest = next;
        }
        Ok(())
    }

    /// Copies `N` words out of a program's memory.
    pub(crate) fn read_words<const N: usize>(
        &self,
        slot: u16,
        address: u64,
    ) -> Result<[u64; N], Error> {
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            let at = address.checked_add(8 * index as u64).ok_or(Error::BadAddress)?;
            self.read_user(slot, at, &mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
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
        for (number, chunk) in self.scratch.iter_mut().zip(bytes.chunks_exact(4)) {
            *number = FrameNumber(u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
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
