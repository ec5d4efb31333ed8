//! Calls about frames.

use crate::call::{Answer, Span};
use crate::kernel::Kernel;
use crate::machine::Machine;
use exo_abi::contract::Kind;
use exo_abi::tables::EnvWord;
use exo_abi::upcall::Event;
use exo_abi::{Error, FrameNumber, Rights, predicate};

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn frame_allocate(&mut self, caller: u16, list: Span, capability: u32) -> Answer {
        let guard = self.environment(caller).capabilities.get(capability)?.name;
        let count = self.read_frames(caller, list)?;
        self.hold(caller, Kind::Frames, count as u64)?;
        for index in 0..count {
            let wanted = self.lists.scratch[index];
            match self.bindings.frames.allocate(wanted, caller, guard) {
                Ok(frame) => self.lists.scratch[index] = frame,
                Err(error) => {
                    self.undo_allocation(caller, index, count);
                    return Err(error);
                }
            }
        }
        let mut bytes = [0; 4 * exo_abi::layout::LIST_MAX as usize];
        for (chunk, frame) in bytes.chunks_exact_mut(4).zip(&self.lists.scratch[..count]) {
            chunk.copy_from_slice(&frame.0.to_le_bytes());
        }
        if let Err(error) = self.write_user(caller, list.start, &bytes[..4 * count]) {
            self.undo_allocation(caller, count, count);
            return Err(error);
        }
        for &frame in &self.lists.scratch[..count] {
            self.machine.clear(frame);
        }
        self.expose_free();
        Ok(0)
    }

    /// Undoes an allocation of which the first `taken` frames in the scratch list have been taken
    /// and `charged` have been charged.
    fn undo_allocation(&mut self, caller: u16, taken: usize, charged: usize) {
        for &frame in &self.lists.scratch[..taken] {
            self.bindings.free(frame);
        }
        self.release(caller, Kind::Frames, charged as u64);
    }

    /// Reads a list of frames that the caller holds, free to be given away, each once.
    pub(crate) fn read_own_frames(&mut self, caller: u16, list: Span) -> Result<usize, Error> {
        let count = self.read_frames(caller, list)?;
        let list = &self.lists.scratch[..count];
        self.bindings.frames.check_each(list, |frames, frame| frames.owned(frame, caller))?;
        Ok(count)
    }

    pub(crate) fn frame_free(&mut self, caller: u16, list: Span) -> Answer {
        let count = self.read_own_frames(caller, list)?;
        for index in 0..count {
            self.bindings.free(self.lists.scratch[index]);
        }
        self.release(caller, Kind::Frames, count as u64);
        Ok(0)
    }

    pub(crate) fn frame_transfer(&mut self, caller: u16, to: u16, list: Span) -> Answer {
        let count = self.read_own_frames(caller, list)?;
        if to == caller {
            return Ok(0);
        }
        self.hold(to, Kind::Frames, count as u64)?;
        let guard = self.environment(to).guard;
        for &frame in &self.lists.scratch[..count] {
            self.bindings.frames.set_owner(frame, to, guard);
        }
        self.release(caller, Kind::Frames, count as u64);
        Ok(0)
    }

    pub(crate) fn donate(&mut self, caller: u16, list: Span) -> Answer {
        let count = self.read_own_frames(caller, list)?;
        for index in 0..count {
            self.bindings.donate(caller, self.lists.scratch[index]);
        }
        self.board.cell(caller).count(EnvWord::FramesDonated, count as u64);
        Ok(0)
    }

    /// Words of a frame have changed. Its owner is told if a predicate there holds: whoever could have
    /// written the words may say so, in its own time, and nothing is kept of it, so that a frame that goes
    /// takes its predicates with it.
    pub(crate) fn notify(&mut self, caller: u16, frame: FrameNumber, capability: u32) -> Answer {
        let capabilities = &self.environment(caller).capabilities;
        let allow = |guard: &_| capabilities.check(capability, guard, Rights::WRITE);
        self.bindings.frames.guards(frame, 1, allow)?;
        let owner = self.bindings.frames.entry(frame)?.owner;
        let holds = predicate::holds(self.machine.page(frame));
        if holds {
            self.post(owner, Event::Predicate);
        }
        Ok(holds.into())
    }
}
