//! Handlers at arrival: programs of the owners of rings, which see a packet before it is put into the
//! ring, and may keep it from there.
//!
//! A handler reaches the packet, one frame of its owner's, which stays pinned, and a reply that it
//! may send where its owner could. Whatever goes wrong in it leaves the packet deliverable.

use crate::call::Answer;
use crate::kernel::Kernel;
use crate::machine::{Devices, Machine};
use core::mem;
use exo_abi::layout::PROGRAM_MAX;
use exo_abi::tables::StatisticsWord;
use exo_abi::{Error, FrameNumber, Rights};
use packet_filters::ebpf::{KEEP, QUIET};

/// The least time that is charged, in nanoseconds: whenever something is, a CPU looks at what everybody
/// owes, and that takes longer than a packet.
const CHARGE: u64 = 100_000;

/// A packet for a handler, and what the handler may do.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// The packet, from the link header on.
    pub packet: &'a [u8],
    /// The filter that it matched.
    pub filter: u32,
    /// The frame that the handler reads and writes.
    pub state: FrameNumber,
    /// Whether its owner may send a packet.
    pub may_send: &'a dyn Fn(&mut [u8]) -> Result<(), Error>,
}

/// What a handler has made of a packet: its result, [`KEEP`] and [`QUIET`], or nothing if it was ended
/// before its exit or its reply could not be sent.
pub type Handled = Option<u64>;

/// The handler of a ring. Its code is the machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handler {
    pub(crate) state: FrameNumber,
    /// The slot of the capability to send with; it is checked each time.
    capability: u32,
    /// The time that it took and its owner has not been charged for.
    time: u64,
}

impl<M: Machine> Kernel<'_, M> {
    /// Gives a ring of the caller's a handler, in the place of the one before; without a program,
    /// takes it away.
    pub(crate) fn handler_install(
        &mut self,
        caller: u16,
        ring: u32,
        capability: u32,
        [address, length]: [u64; 2],
        state: FrameNumber,
    ) -> Answer {
        let id = self.own_ring(caller, ring.into())?;
        let before = self.lists.rings[id].handler;
        let mut handler = None;
        if length > 0 {
            let mut program = [0; PROGRAM_MAX as usize];
            let program = program.get_mut(..length as usize).ok_or(Error::TooLong)?;
            self.read_user(caller, address, program)?;
            if before.is_none_or(|before| before.state != state) {
                self.bindings.frames.owned(state, caller)?;
            }
            if !self.devices.load_handler(id, program) {
                return Err(Error::BadProgram);
            }
            self.bindings.frames.pin(state);
            handler = Some(Handler { state, capability, time: 0 });
        }
        self.lists.rings[id].handler = handler;
        if let Some(before) = before {
            self.bindings.frames.unpin(before.state);
        }
        Ok(0)
    }

    /// Shows a packet to the handler of the ring that it is for. Says whether the ring is to have it,
    /// and whether the owner is to be told.
    pub(crate) fn handle(
        &mut self,
        (ring, owner): (usize, u16),
        packet: &[u8],
        filter: u32,
    ) -> (bool, bool) {
        let Some(Handler { state, capability, mut time }) = self.lists.rings[ring].handler else {
            return (true, true);
        };
        let sender = &self.environments[usize::from(owner)];
        let may_send = |packet: &mut [u8]| {
            sender.may(capability, Rights::NETWORK).and_then(|()| sender.may_send(packet))
        };
        let arrival = Arrival { packet, filter, state, may_send: &may_send };
        let start = self.machine.now();
        let result = self.devices.run_handler(ring, &arrival);
        time += self.machine.now() - start;
        // Whoever the interrupts have met does not pay for it.
        if time >= CHARGE {
            self.charge(owner, mem::take(&mut time), 1 << self.here().cpu.number);
        }
        self.lists.rings[ring].handler = Some(Handler { state, capability, time });
        let word = result.map_or(StatisticsWord::Trapped, |_| StatisticsWord::Handled);
        self.count(word, 1);
        let result = result.unwrap_or(0);
        (result & KEEP == 0, result & QUIET == 0)
    }
}
