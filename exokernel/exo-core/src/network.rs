//! The network: receive rings, filters, sending.

use crate::kernel::Kernel;
use crate::machine::{FILTERS, Machine, SendError};
use core::sync::atomic::Ordering;
use exo_abi::contract::Kind;
use exo_abi::layout::{LIST_MAX, PACKET_MAX, PACKET_MIN};
use exo_abi::request::SEND_WORDS;
use exo_abi::ring::{
    CONSUMED, DROPPED, Descriptor, FRAMES_MAX, HEADER_WORDS, PRODUCED, SLOT_SIZE, SLOTS,
    SLOTS_PER_FRAME,
};
use exo_abi::tables::{NO_RING, StatisticsWord};
use exo_abi::upcall::Event;
use exo_abi::{CapabilityName, EnvName, Error, FrameNumber, Rights};
use packet_filters::{Filter, MAX_ENCODED, contains, overlaps};

/// The most rings that the machine holds.
pub const RINGS: usize = 64;

/// A receive ring. What programs can write of it, in the header page, is read at each use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    owner: Option<u16>,
    header: FrameNumber,
    frames: [FrameNumber; FRAMES_MAX as usize],
    frame_count: u64,
    produced: u64,
    dropped: u64,
}

impl Ring {
    pub(crate) const FREE: Self = Self {
        owner: None,
        header: FrameNumber(0),
        frames: [FrameNumber(0); FRAMES_MAX as usize],
        frame_count: 0,
        produced: 0,
        dropped: 0,
    };

    fn slots(&self) -> u64 {
        self.frame_count * SLOTS_PER_FRAME
    }

    fn pinned(&self) -> impl Iterator<Item = FrameNumber> {
        core::iter::once(self.header).chain(self.frames.into_iter().take(self.frame_count as usize))
    }

    /// Puts a packet in; says whether there was a place.
    fn deliver(&mut self, machine: &impl Machine, packet: &[u8], filter: u32) -> bool {
        let header = machine.page(self.header);
        // What the owner says it has consumed is a claim: a wrong one makes the ring look full, or
        // lets the kernel overwrite what its owner has not read.
        let consumed = header[CONSUMED].load(Ordering::Acquire);
        if self.produced.wrapping_sub(consumed) >= self.slots() {
            self.dropped += 1;
            header[DROPPED].store(self.dropped, Ordering::Relaxed);
            return false;
        }
        let slot = self.produced % self.slots();
        let frame = self.frames[(slot / SLOTS_PER_FRAME) as usize];
        machine.write(frame, (slot % SLOTS_PER_FRAME * SLOT_SIZE) as usize, packet);
        let descriptor = Descriptor { length: packet.len() as u16, filter };
        header[HEADER_WORDS + slot as usize].store(descriptor.to_word(), Ordering::Relaxed);
        self.produced += 1;
        header[PRODUCED].store(self.produced, Ordering::Release);
        true
    }
}

impl Kernel<'_> {
    pub(crate) fn ring_create(
        &mut self,
        machine: &impl Machine,
        caller: u16,
        list: u64,
        count: u64,
    ) -> Result<u64, Error> {
        if count < 2 {
            return Err(Error::BadArgument);
        }
        if count > FRAMES_MAX + 1 {
            return Err(Error::TooLong);
        }
        let count = self.read_own_frames(machine, caller, list, count)?;
        let id = self.rings.iter().position(|ring| ring.owner.is_none());
        let id = id.ok_or(Error::NoFreeRings)?;
        self.hold(machine, caller, Kind::Rings, 1)?;
        let mut ring = Ring {
            owner: Some(caller),
            header: self.scratch[0],
            frame_count: count as u64 - 1,
            ..Ring::FREE
        };
        ring.frames[..count - 1].copy_from_slice(&self.scratch[1..count]);
        for frame in ring.pinned() {
            self.bindings.frames.pin(frame);
        }
        machine.clear(ring.header);
        machine.page(ring.header)[SLOTS].store(ring.slots(), Ordering::Relaxed);
        self.rings[id] = ring;
        self.exposed.set_ring(id as u32, self.environment(caller).name, ring.slots());
        Ok(id as u64)
    }

    fn own_ring(&self, caller: u16, id: u64) -> Result<usize, Error> {
        let id = usize::try_from(id).map_err(|_| Error::NoRing)?;
        match self.rings.get(id) {
            Some(ring) if ring.owner == Some(caller) => Ok(id),
            _ => Err(Error::NoRing),
        }
    }

    pub(crate) fn ring_destroy(
        &mut self,
        machine: &impl Machine,
        caller: u16,
        ring: u32,
    ) -> Result<u64, Error> {
        let id = self.own_ring(caller, ring.into())?;
        self.break_ring(machine, caller, id);
        Ok(0)
    }

    /// Removes a ring and the filters that lead to it, and unpins its frames.
    fn break_ring(&mut self, machine: &impl Machine, owner: u16, id: usize) {
        for filter in 0..FILTERS as u32 {
            if self.filter_of(owner, filter).is_some_and(|ring| ring == id as u64) {
                self.drop_filter(machine, owner, filter);
            }
        }
        self.load_filters(machine);
        let ring = core::mem::replace(&mut self.rings[id], Ring::FREE);
        for frame in ring.pinned() {
            self.bindings.frames.unpin(frame);
        }
        self.exposed.set_ring(id as u32, EnvName::NONE, 0);
        self.release(machine, owner, Kind::Rings, 1);
    }

    /// Breaks the ring of `owner` that pins `frame`.
    pub(crate) fn break_ring_over(
        &mut self,
        machine: &impl Machine,
        owner: u16,
        frame: FrameNumber,
    ) {
        let over =
            |ring: &Ring| ring.owner == Some(owner) && ring.pinned().any(|pinned| pinned == frame);
        if let Some(id) = self.rings.iter().position(over) {
            self.break_ring(machine, owner, id);
        }
    }

    pub(crate) fn read_filter(
        &self,
        machine: &impl Machine,
        caller: u16,
        address: u64,
        length: u64,
    ) -> Result<Filter, Error> {
        let mut bytes = [0; MAX_ENCODED];
        let length = usize::try_from(length).map_err(|_| Error::TooLong)?;
        let bytes = bytes.get_mut(..length).ok_or(Error::TooLong)?;
        self.read_user(machine, caller, address, bytes)?;
        Filter::decode(bytes).map_err(|_| Error::BadFilter)
    }

    pub(crate) fn filter_install(
        &mut self,
        machine: &impl Machine,
        caller: u16,
        environment: EnvName,
        capability: u32,
        filter: &Filter,
        ring: u64,
    ) -> Result<u64, Error> {
        let owner = if ring == NO_RING {
            let capabilities = &self.environment(caller).capabilities;
            capabilities.check(capability, &CapabilityName::ROOT, Rights::NETWORK)?;
            if environment.is_none() { caller } else { self.find_alive(environment)? }
        } else {
            self.own_ring(caller, ring)?;
            caller
        };
        self.refuse_overlap(owner, filter)?;
        if ring != NO_RING && !self.reserved(owner, filter) {
            return Err(Error::NotReserved);
        }
        let id = (0..FILTERS as u32).find(|&id| self.filter_holder(id).is_none());
        let id = id.ok_or(Error::NoFreeFilters)?;
        if ring == NO_RING {
            self.hold(machine, owner, Kind::Filters, 1)?;
            self.reservations[id as usize] = Some(*filter);
        } else {
            self.filters.insert(id, filter).map_err(|_| Error::FilterOverlaps)?;
            if let Err(error) = self.hold(machine, owner, Kind::Filters, 1) {
                self.filters.remove(id);
                return Err(error);
            }
            if !machine.load_classifier(self.filters) {
                self.filters.remove(id);
                self.release(machine, owner, Kind::Filters, 1);
                return Err(Error::NoFreeFilters);
            }
        }
        self.exposed.set_filter(id, self.environment(owner).name, ring);
        Ok(id.into())
    }

    fn filter_holder(&self, id: u32) -> Option<u16> {
        let holder = self.exposed.filter(id).0;
        (!holder.is_none()).then_some(holder.index() as u16)
    }

    /// The ring of a filter of `owner`'s, or [`NO_RING`].
    fn filter_of(&self, owner: u16, id: u32) -> Option<u64> {
        (self.filter_holder(id) == Some(owner)).then(|| self.exposed.filter(id).1)
    }

    fn refuse_overlap(&self, owner: u16, filter: &Filter) -> Result<(), Error> {
        for id in 0..FILTERS as u32 {
            let foreign = self.filter_holder(id).is_some_and(|holder| holder != owner);
            let other = self.reservations[id as usize].as_ref().or(self.filters.get(id));
            if foreign && other.is_some_and(|other| overlaps(other, filter)) {
                return Err(Error::FilterOverlaps);
            }
        }
        Ok(())
    }

    fn reserved(&self, owner: u16, filter: &Filter) -> bool {
        (0..FILTERS as u32).any(|id| {
            self.filter_holder(id) == Some(owner)
                && self.reservations[id as usize]
                    .as_ref()
                    .is_some_and(|pattern| contains(pattern, filter))
        })
    }

    pub(crate) fn filter_remove(
        &mut self,
        machine: &impl Machine,
        caller: u16,
        id: u32,
    ) -> Result<u64, Error> {
        if id as usize >= FILTERS || self.filter_holder(id) != Some(caller) {
            return Err(Error::NoFilter);
        }
        self.drop_filter(machine, caller, id);
        self.load_filters(machine);
        Ok(0)
    }

    fn drop_filter(&mut self, machine: &impl Machine, owner: u16, id: u32) {
        self.reservations[id as usize] = None;
        self.filters.remove(id);
        self.exposed.set_filter(id, EnvName::NONE, 0);
        self.release(machine, owner, Kind::Filters, 1);
    }

    /// Loads the code for fewer filters than before. If it should not fit, the old code stays: it
    /// names filters that lead nowhere now, and their packets are nobody's.
    fn load_filters(&mut self, machine: &impl Machine) {
        machine.load_classifier(self.filters);
    }

    /// Takes the rings and filters of an environment that ends.
    pub(crate) fn release_network(&mut self, machine: &impl Machine, slot: u16) {
        for id in 0..RINGS {
            if self.rings[id].owner == Some(slot) {
                self.break_ring(machine, slot, id);
            }
        }
        for id in 0..FILTERS as u32 {
            if self.filter_holder(id) == Some(slot) {
                self.drop_filter(machine, slot, id);
            }
        }
        self.load_filters(machine);
    }

    /// A packet has arrived.
    pub fn received<M: Machine>(&mut self, machine: &M, packet: &[u8]) {
        self.count(machine, StatisticsWord::Received, 1);
        if packet.len() as u64 > PACKET_MAX || (packet.len() as u64) < PACKET_MIN {
            return self.count(machine, StatisticsWord::Unclaimed, 1);
        }
        let filter = machine.classify(packet).filter(|&id| self.filters.get(id).is_some());
        let ring = filter.map(|id| self.exposed.filter(id).1 as usize);
        let (Some(filter), Some(ring)) = (filter, ring.and_then(|id| self.rings.get_mut(id)))
        else {
            return self.count(machine, StatisticsWord::Unclaimed, 1);
        };
        let Some(owner) = ring.owner else { return };
        let delivered = ring.deliver(machine, packet, filter);
        let id = self.exposed.filter(filter).1 as u32;
        self.exposed.count_filter(filter, !delivered);
        self.exposed.count_ring(id, !delivered);
        self.post(machine, owner, Event::Packet);
    }

    pub(crate) fn send(
        &mut self,
        machine: &impl Machine,
        caller: u16,
        capability: u32,
        list: u64,
        count: u64,
    ) -> Result<u64, Error> {
        let environment = self.environment(caller);
        environment.capabilities.check(capability, &environment.guard, Rights::NETWORK)?;
        if count > LIST_MAX {
            return Err(Error::TooLong);
        }
        let mut sent = 0;
        let mut result = Ok(0);
        while sent < count && result.is_ok() {
            let request = list.checked_add(8 * SEND_WORDS as u64 * sent).ok_or(Error::BadAddress);
            result = request.and_then(|request| self.send_one(machine, caller, request));
            sent += u64::from(result.is_ok());
        }
        if sent > 0 {
            machine.doorbell();
            self.count(machine, StatisticsWord::Sent, sent);
            return Ok(sent);
        }
        result
    }

    fn send_one(&self, machine: &impl Machine, caller: u16, request: u64) -> Result<u64, Error> {
        let [address, length] = self.read_words::<SEND_WORDS>(machine, caller, request)?;
        if !(PACKET_MIN..=PACKET_MAX).contains(&length) {
            return Err(Error::BadPacket);
        }
        let mut packet = [0; PACKET_MAX as usize];
        let packet = &mut packet[..length as usize];
        self.read_user(machine, caller, address, packet)?;
        match machine.transmit(packet) {
            Ok(()) => Ok(0),
            Err(SendError::NoDevice) => Err(Error::NoDevice),
            Err(SendError::QueueFull) => Err(Error::QueueFull),
        }
    }
}
