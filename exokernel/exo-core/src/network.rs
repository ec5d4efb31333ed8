//! The network: receive rings, filters, sending.

use crate::call::{Answer, Span};
use crate::handler::Handler;
use crate::kernel::Kernel;
use crate::machine::{Devices, FILTERS, Machine, RESERVATIONS, SHAPES_EACH};
use crate::user_memory::{read_bytes, read_words};
use core::sync::atomic::Ordering;
use exo_abi::contract::Kind;
use exo_abi::control::ControlWord;
use exo_abi::layout::{LIST_MAX, PACKET_MAX, PACKET_MIN};
use exo_abi::request::SEND_WORDS;
use exo_abi::ring::{
    CONSUMED, DROPPED, Descriptor, FRAMES_MAX, HEADER_WORDS, PRODUCED, SLOT_SIZE, SLOTS,
    SLOTS_PER_FRAME,
};
use exo_abi::tables::{NO_RING, SEND_TEMPLATE, StatisticsWord};
use exo_abi::upcall::Event;
use exo_abi::{CapabilityName, EnvName, Error, FrameNumber, Rights};
use packet_filters::{Filter, InsertError, MAX_ENCODED, contains, overlaps};

/// The most rings that the machine holds.
pub const RINGS: usize = 64;

/// The id of the first reservation. Other filters have lower ones.
const FIRST_RESERVATION: u32 = (FILTERS - RESERVATIONS) as u32;

/// A receive ring. What programs can write of it, in the header page, is read at each use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    owner: Option<u16>,
    header: FrameNumber,
    frames: [FrameNumber; FRAMES_MAX as usize],
    frame_count: u64,
    produced: u64,
    dropped: u64,
    pub(crate) handler: Option<Handler>,
}

impl Ring {
    pub(crate) const FREE: Self = Self {
        owner: None,
        header: FrameNumber(0),
        frames: [FrameNumber(0); FRAMES_MAX as usize],
        frame_count: 0,
        produced: 0,
        dropped: 0,
        handler: None,
    };

    fn slots(&self) -> u64 {
        self.frame_count * SLOTS_PER_FRAME
    }

    fn pinned(&self) -> impl Iterator<Item = FrameNumber> {
        let frames = self.frames.into_iter().take(self.frame_count as usize);
        core::iter::once(self.header).chain(frames).chain(self.handler.map(|handler| handler.state))
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

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn ring_create(&mut self, caller: u16, list: Span) -> Answer {
        if list.count < 2 {
            return Err(Error::BadArgument);
        }
        if list.count > FRAMES_MAX + 1 {
            return Err(Error::TooLong);
        }
        let count = self.read_own_frames(caller, list)?;
        let id = self.lists.rings.iter().position(|ring| ring.owner.is_none());
        let id = id.ok_or(Error::NoFreeRings)?;
        self.hold(caller, Kind::Rings, 1)?;
        let mut ring = Ring {
            owner: Some(caller),
            header: self.lists.scratch[0],
            frame_count: count as u64 - 1,
            ..Ring::FREE
        };
        ring.frames[..count - 1].copy_from_slice(&self.lists.scratch[1..count]);
        for frame in ring.pinned() {
            self.bindings.frames.pin(frame);
        }
        self.machine.clear(ring.header);
        self.machine.page(ring.header)[SLOTS].store(ring.slots(), Ordering::Relaxed);
        self.lists.rings[id] = ring;
        self.exposed.set_ring(id as u32, self.environment(caller).name, ring.slots());
        Ok(id as u64)
    }

    pub(crate) fn own_ring(&self, caller: u16, id: u64) -> Result<usize, Error> {
        let ring = self.lists.rings.get(id as usize);
        ring.filter(|ring| ring.owner == Some(caller)).map(|_| id as usize).ok_or(Error::NoRing)
    }

    pub(crate) fn ring_destroy(&mut self, caller: u16, ring: u32) -> Answer {
        let id = self.own_ring(caller, ring.into())?;
        self.break_ring(caller, id);
        Ok(0)
    }

    /// Removes a ring and the filters that lead to it, and unpins its frames.
    pub(crate) fn break_ring(&mut self, owner: u16, id: usize) {
        self.drop_filters(owner, |ring| ring == id as u64);
        let ring = core::mem::replace(&mut self.lists.rings[id], Ring::FREE);
        for frame in ring.pinned() {
            self.bindings.frames.unpin(frame);
        }
        self.exposed.set_ring(id as u32, EnvName::NONE, 0);
        self.release_one(owner, Kind::Rings, id as u32);
    }

    /// Breaks the ring of `owner` that pins `frame`.
    pub(crate) fn break_ring_over(&mut self, owner: u16, frame: FrameNumber) {
        let over =
            |ring: &Ring| ring.owner == Some(owner) && ring.pinned().any(|pinned| pinned == frame);
        if let Some(id) = self.lists.rings.iter().position(over) {
            self.break_ring(owner, id);
        }
    }

    pub(crate) fn read_filter(&self, caller: u16, span: Span) -> Result<Filter, Error> {
        let mut bytes = [0; MAX_ENCODED];
        let length = usize::try_from(span.count).map_err(|_| Error::TooLong)?;
        let bytes = bytes.get_mut(..length).ok_or(Error::TooLong)?;
        self.read_user(caller, span.start, bytes)?;
        Filter::decode(bytes).map_err(|_| Error::BadFilter)
    }

    /// Whether the caller may say who gets which packets.
    fn rules_packets(&self, caller: u16, capability: u32) -> Result<(), Error> {
        let capabilities = &self.environment(caller).capabilities;
        capabilities.check(capability, &CapabilityName::ROOT, Rights::NETWORK)
    }

    pub(crate) fn filter_install(
        &mut self,
        caller: u16,
        environment: EnvName,
        capability: u32,
        filter: &Filter,
        ring: u64,
    ) -> Answer {
        let other = !environment.is_none();
        if other || ring >= SEND_TEMPLATE {
            self.rules_packets(caller, capability)?;
        }
        let owner = if other { self.find_alive(environment)? } else { caller };
        if ring < SEND_TEMPLATE {
            self.own_ring(owner, ring)?;
        }
        let templates = &mut self.environment_mut(owner).templates;
        let place = ring.checked_sub(SEND_TEMPLATE).map_or(usize::MAX, |place| place as usize);
        if let Some(template) = templates.get_mut(place) {
            *template = Some(*filter);
            return Ok(0);
        }
        self.hold(owner, Kind::Filters, 1)?;
        let id = match ring {
            NO_RING => self.add_reservation([caller, owner], filter),
            _ => self.add_filter([caller, owner], filter, other),
        };
        match id {
            Ok(id) => self.exposed.set_filter(id, self.environment(owner).name, ring),
            Err(_) => self.release(owner, Kind::Filters, 1),
        }
        id.map(u64::from)
    }

    /// Reservations of different owners never overlap, nor does a reservation overlap a filter of
    /// somebody else. So a filter that is contained in a reservation of its owner needs to be
    /// compared with nothing else.
    fn add_reservation(&mut self, who: [u16; 2], filter: &Filter) -> Result<u32, Error> {
        self.refuse_overlap(who, filter)?;
        let free = self.lists.reservations.iter().position(Option::is_none);
        let place = free.ok_or(Error::NoFreeFilters)?;
        self.lists.reservations[place] = Some(*filter);
        Ok(FIRST_RESERVATION + place as u32)
    }

    /// Whoever could reserve it need not. A shape costs everybody something at each packet, and there
    /// are few: whose filter of it is the newest answers for it.
    fn add_filter(&mut self, who: [u16; 2], filter: &Filter, may: bool) -> Result<u32, Error> {
        let [caller, owner] = who;
        if !self.reserved(owner, filter) {
            self.refuse_overlap(who, filter)?;
            if !may {
                return Err(Error::NotReserved);
            }
        }
        let own = |id: &u32| self.filter_holder(*id) == Some(owner);
        if !self.filters.has_shape_of(filter)
            && self.filters.newest().filter(own).count() >= SHAPES_EACH
        {
            return Err(Error::OverLimit);
        }
        let id = self.filters.insert(filter).map_err(|error| match error {
            InsertError::Duplicate(other) => self.name_overlap(caller, other),
            InsertError::Full | InsertError::TooManyShapes => Error::NoFreeFilters,
        })?;
        self.load_filters();
        Ok(id)
    }

    pub(crate) fn filter_holder(&self, id: u32) -> Option<u16> {
        let holder = self.exposed.filter(id).0;
        (!holder.is_none()).then_some(holder.index() as u16)
    }

    /// The reservations with their ids.
    fn reservations(&self) -> impl Iterator<Item = (u32, &Filter)> {
        let places = (FIRST_RESERVATION..).zip(self.lists.reservations.iter());
        places.filter_map(|(id, filter)| Some((id, filter.as_ref()?)))
    }

    fn refuse_overlap(&self, [caller, owner]: [u16; 2], filter: &Filter) -> Result<(), Error> {
        let foreign = |id| self.filter_holder(id).is_some_and(|holder| holder != owner);
        let overlapping = |(id, other): &(u32, &Filter)| foreign(*id) && overlaps(other, filter);
        let reserved = self.reservations().find(overlapping).map(|(id, _)| id);
        let other = reserved.or_else(|| self.filters.overlap(filter, foreign));
        other.map_or(Ok(()), |other| Err(self.name_overlap(caller, other)))
    }

    /// Tells the caller which filter is overlapped.
    fn name_overlap(&self, caller: u16, other: u32) -> Error {
        let control = self.board.cell(caller).control(self.machine);
        control[ControlWord::Overlaps as usize].store(other.into(), Ordering::Relaxed);
        Error::FilterOverlaps
    }

    fn reserved(&self, owner: u16, filter: &Filter) -> bool {
        self.reservations()
            .any(|(id, pattern)| self.filter_holder(id) == Some(owner) && contains(pattern, filter))
    }

    pub(crate) fn filter_remove(&mut self, caller: u16, id: u32, capability: u32) -> Answer {
        let holder = self.filter_holder(id).ok_or(Error::NoFilter)?;
        if holder != caller && self.rules_packets(caller, capability).is_err() {
            return Err(Error::NoFilter);
        }
        self.drop_filter(holder, id);
        self.load_filters();
        Ok(0)
    }

    pub(crate) fn drop_filter(&mut self, owner: u16, id: u32) {
        match id.checked_sub(FIRST_RESERVATION) {
            Some(place) => self.lists.reservations[place as usize] = None,
            None => drop(self.filters.remove(id)),
        }
        self.exposed.set_filter(id, EnvName::NONE, 0);
        self.release_one(owner, Kind::Filters, id);
    }

    /// Removes the filters of `owner` that `belongs` picks by their rings. Code that was not made
    /// anew may still name one, whose packets are then nobody's.
    fn drop_filters(&mut self, owner: u16, belongs: impl Fn(u64) -> bool) {
        for id in 0..FILTERS as u32 {
            if self.environment(owner).accounts.get(Kind::Filters).held == 0 {
                break;
            }
            if self.filter_holder(id) == Some(owner) && belongs(self.exposed.filter(id).1) {
                self.drop_filter(owner, id);
            }
        }
        self.load_filters();
    }

    pub(crate) fn load_filters(&mut self) {
        if self.filters.is_stale() {
            self.devices.load_classifier(&mut self.filters);
        }
    }

    /// Takes the rings and filters of an environment that ends.
    pub(crate) fn release_network(&mut self, slot: u16) {
        for id in 0..RINGS {
            if self.lists.rings[id].owner == Some(slot) {
                self.break_ring(slot, id);
            }
        }
        self.drop_filters(slot, |_| true);
    }

    /// A packet has arrived. What its handler sends waits for [`Kernel::doorbell`].
    pub fn received(&mut self, packet: &[u8]) {
        if packet.len() as u64 > PACKET_MAX || (packet.len() as u64) < PACKET_MIN {
            return self.count(StatisticsWord::Unclaimed, 1);
        }
        let filter = self.devices.classify(&self.filters, packet).unwrap_or(u32::MAX);
        let (holder, ring) = self.exposed.filter(filter);
        let id = if holder.is_none() { RINGS } else { ring as usize };
        let Some(owner) = self.lists.rings.get(id).and_then(|ring| ring.owner) else {
            return self.count(StatisticsWord::Unclaimed, 1);
        };
        let (passed, told) = self.handle((id, owner), packet, filter);
        let dropped = passed && !self.lists.rings[id].deliver(self.machine, packet, filter);
        self.exposed.count_filter(filter, dropped);
        if passed {
            self.exposed.count_ring(id as u32, dropped);
        }
        if told {
            self.post(owner, Event::Packet);
        }
    }

    /// Tells the device of what was sent, with this many packets just received.
    pub fn doorbell(&mut self, received: u64) {
        let (sent, here) = (self.devices.doorbell(), self.here());
        here.cpu.count(StatisticsWord::Sent, sent);
        here.cpu.count(StatisticsWord::Received, received);
    }

    pub(crate) fn send(&mut self, caller: u16, capability: u32, list: Span) -> Answer {
        self.check_own(caller, capability, Rights::NETWORK)?;
        if list.count > LIST_MAX {
            return Err(Error::TooLong);
        }
        let mut sent = 0;
        let mut result = Ok(0);
        while sent < list.count && result.is_ok() {
            let request =
                list.start.checked_add(8 * SEND_WORDS as u64 * sent).ok_or(Error::BadAddress);
            result = request.and_then(|request| self.send_one(caller, request)).map(|()| 0);
            sent += u64::from(result.is_ok());
        }
        if sent > 0 {
            self.doorbell(0);
            return Ok(sent);
        }
        result
    }

    fn send_one(&mut self, caller: u16, request: u64) -> Result<(), Error> {
        let mut words = [0; SEND_WORDS];
        read_words(&self.bindings, self.machine, caller, request, &mut words)?;
        let [address, length] = words;
        if !(PACKET_MIN..=PACKET_MAX).contains(&length) {
            return Err(Error::BadPacket);
        }
        let (bindings, machine) = (&self.bindings, self.machine);
        let sender = &mut self.environments[usize::from(caller)];
        self.devices.transmit(length as usize, |packet| {
            read_bytes(bindings, machine, caller, address, packet)?;
            sender.may_send(packet)
        })
    }
}
