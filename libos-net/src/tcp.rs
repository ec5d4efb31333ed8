//! The table of TCP connections.
//!
//! Each connection has a smoltcp socket set of its own, so that a packet costs one look-up and not a
//! scan of all sockets. A listener's connections are made when it opens and used again and again:
//!
//! ```text
//! Idle ── SYN ──▶ HalfOpen ── handshake ──▶ Ready ── accept ──▶ Taken ── close ──▶ Closing ──▶ Idle
//! ```

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, IpEndpoint};

use crate::link::FilterId;
use crate::segment::{Flow, Segment};
use crate::stream::{Backlog, ListenerId, StreamId};
use crate::time_wait::{TimeWait, Verdict};

/// How long a handshake may take. A few losses in a row take that long, because each attempt waits
/// twice as long as the one before; in a flood the oldest handshake ends early.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How long a closed connection may take to deliver what was written, and the other side to close.
const LINGER: Duration = Duration::from_secs(60);
/// How long the other side may leave data unacknowledged.
const SILENCE: Duration = Duration::from_secs(40);

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Not in use and without an owner: may be given away.
    Vacant,
    /// Waits for a SYN.
    Idle,
    /// The handshake has begun and ends by then.
    HalfOpen(Instant),
    /// Open, and nobody has accepted it.
    Ready,
    /// The program's.
    Taken,
    /// The program is done with it; it is over by then.
    Closing(Instant),
}

/// One connection, or the place for one.
pub(crate) struct Slot {
    pub(crate) stage: Stage,
    generation: u32,
    /// The listener that it belongs to; without one it is the program's own, with its own filter.
    listener: Option<usize>,
    filter: FilterId,
    flow: Option<Flow>,
    /// The numbers of the latest segment that the socket was shown: what TIME-WAIT remembers.
    latest: (u32, u32),
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// It may have something to send.
    pub(crate) dirty: bool,
    /// When the socket wants to be looked at next.
    due: Option<Instant>,
}

impl Slot {
    fn new(backlog: &Backlog, filter: FilterId, listener: Option<usize>) -> Self {
        let receive = SocketBuffer::new(vec![0; backlog.receive]);
        let mut socket = Socket::new(receive, SocketBuffer::new(vec![0; backlog.send]));
        // Programs here write whole answers: waiting for more would only delay the end.
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        let (generation, latest) = (0, (0, 0));
        let (stage, flow, dirty, due) = (Stage::Vacant, None, false, None);
        Self { stage, generation, listener, filter, flow, latest, sockets, handle, dirty, due }
    }

    pub(crate) fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The set with this socket alone, for smoltcp to poll.
    pub(crate) fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    pub(crate) fn flow(&self) -> Option<Flow> {
        self.flow
    }

    /// Notes when the socket wants to be looked at, the limit of its stage included.
    pub(crate) fn schedule(&mut self, socket: Option<Instant>) {
        let limit = match self.stage {
            Stage::HalfOpen(until) | Stage::Closing(until) => Some(until),
            _ => None,
        };
        self.due = [socket, limit].into_iter().flatten().min();
    }

    /// The program is done: what was written is still delivered.
    pub(crate) fn finish(&mut self, now: Instant) {
        if self.stage == Stage::Taken {
            self.socket_mut().close();
            self.stage = Stage::Closing(now + LINGER);
            self.dirty = true;
        }
    }
}

struct Listener {
    port: u16,
    idle: Vec<usize>,
    ready: VecDeque<usize>,
}

/// Where a segment goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// To this connection.
    Slot(usize),
    /// To nobody: the stack answers with a reset.
    Nobody,
    /// An answer by TIME-WAIT: these numbers.
    Acknowledge(u32, u32),
    /// Nowhere, and without an answer.
    Drop,
}

/// All TCP connections.
#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    listeners: Vec<Listener>,
    flows: BTreeMap<Flow, usize>,
    waiting: TimeWait,
}

impl Table {
    /// Sets connections aside for a listener. The port is not 0.
    pub(crate) fn listen(&mut self, port: u16, backlog: &Backlog, filter: FilterId) -> ListenerId {
        let listener = self.listeners.len();
        let idle = Vec::with_capacity(backlog.connections);
        let ready = VecDeque::with_capacity(backlog.connections);
        self.listeners.push(Listener { port, idle, ready });
        for _ in 0..backlog.connections {
            let slot = self.slots.len();
            self.slots.push(Slot::new(backlog, filter, Some(listener)));
            self.recycle(slot);
        }
        ListenerId(listener)
    }

    /// Sets one connection aside for the program to connect with.
    pub(crate) fn reserve(&mut self, backlog: &Backlog, filter: FilterId, flow: Flow) -> usize {
        let mut fresh = Slot::new(backlog, filter, None);
        fresh.stage = Stage::Taken;
        fresh.flow = Some(flow);
        let index = match self.slots.iter().position(|slot| slot.stage == Stage::Vacant) {
            Some(index) => {
                fresh.generation = self.slots[index].generation.wrapping_add(1);
                self.slots[index] = fresh;
                index
            }
            None => {
                self.slots.push(fresh);
                self.slots.len() - 1
            }
        };
        self.flows.insert(flow, index);
        index
    }

    /// Whether a connection with these ends exists.
    pub(crate) fn knows(&self, flow: &Flow) -> bool {
        self.flows.contains_key(flow)
    }

    /// The connection's name.
    pub(crate) fn name(&self, index: usize) -> Option<StreamId> {
        self.slots.get(index).map(|slot| StreamId { index, generation: slot.generation })
    }

    /// The connection of this name, unless it is over.
    pub(crate) fn get(&mut self, name: StreamId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(name.index)?;
        (slot.generation == name.generation && slot.stage == Stage::Taken).then_some(slot)
    }

    pub(crate) fn slot(&mut self, index: usize) -> Option<&mut Slot> {
        self.slots.get_mut(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The next connection of a listener that is open and not taken.
    pub(crate) fn accept(&mut self, listener: ListenerId) -> Option<StreamId> {
        let listener = self.listeners.get_mut(listener.0)?;
        while let Some(index) = listener.ready.pop_front() {
            if let Some(slot) = self.slots.get_mut(index)
                && slot.stage == Stage::Ready
            {
                slot.stage = Stage::Taken;
                return self.name(index);
            }
        }
        None
    }

    /// How many connections of a listener are free.
    pub(crate) fn vacancies(&self, listener: ListenerId) -> usize {
        self.listeners.get(listener.0).map_or(0, |listener| listener.idle.len())
    }

    /// Where a segment goes that a listener's filter claimed. A SYN takes an idle connection.
    pub(crate) fn route(&mut self, listener: usize, segment: &Segment, now: Instant) -> Route {
        if let Some(&index) = self.flows.get(&segment.flow) {
            return Route::Slot(index);
        }
        match self.waiting.verdict(segment, now) {
            Verdict::Acknowledge { own_next, peer_next } => {
                return Route::Acknowledge(own_next, peer_next);
            }
            Verdict::Drop => return Route::Drop,
            Verdict::Pass => {}
        }
        if !segment.opens() {
            return Route::Nobody;
        }
        let Some(port) = self.listeners.get(listener).map(|listener| listener.port) else {
            return Route::Drop;
        };
        if port != segment.flow.local.1 {
            return Route::Drop;
        }
        self.take_idle(listener).map_or(Route::Drop, Route::Slot)
    }

    /// An idle connection. Without one, the oldest of those that wait for nothing but the other
    /// side: an unfinished handshake, so that a flood of SYNs keeps nobody out who answers, or an
    /// end that is not returned.
    fn take_idle(&mut self, listener: usize) -> Option<usize> {
        if let Some(index) = self.listeners.get_mut(listener)?.idle.pop() {
            return Some(index);
        }
        let oldest = (self.slots.iter().enumerate())
            .filter(|(_, slot)| slot.listener == Some(listener))
            .filter_map(|(index, slot)| match (slot.stage, slot.socket().state()) {
                (Stage::HalfOpen(until), _) | (Stage::Closing(until), State::FinWait2) => {
                    Some((until, index))
                }
                _ => None,
            })
            .min();
        self.recycle(oldest?.1);
        self.listeners.get_mut(listener)?.idle.pop()
    }

    /// Draws the conclusions from what a segment did to a connection. A filter that is returned is
    /// no longer needed.
    pub(crate) fn shown(
        &mut self,
        index: usize,
        segment: &Segment,
        now: Instant,
    ) -> Option<FilterId> {
        let slot = self.slots.get_mut(index)?;
        slot.dirty = true;
        slot.latest = (segment.acknowledgement, segment.end);
        if slot.stage == Stage::Idle {
            if slot.socket().state() == State::Listen {
                // A bad checksum, or an address that isn't ours.
                slot.dirty = false;
                self.shelve(index);
                return None;
            }
            slot.stage = Stage::HalfOpen(now + HANDSHAKE);
            slot.flow = Some(segment.flow);
            slot.socket_mut().set_timeout(Some(SILENCE));
            self.flows.insert(segment.flow, index);
        }
        self.settle(index, now)
    }

    /// Moves a connection to the stage that its socket's state asks for. A filter that is returned
    /// is no longer needed.
    pub(crate) fn settle(&mut self, index: usize, now: Instant) -> Option<FilterId> {
        let slot = self.slots.get_mut(index)?;
        let state = slot.socket().state();
        match slot.stage {
            Stage::HalfOpen(until) => match state {
                State::SynReceived if now < until => None,
                State::SynReceived | State::Listen | State::Closed => self.recycle(index),
                _ => {
                    slot.stage = Stage::Ready;
                    let listener = slot.listener?;
                    self.listeners.get_mut(listener)?.ready.push_back(index);
                    None
                }
            },
            Stage::Ready if state == State::Closed => self.recycle(index),
            Stage::Closing(until) => match state {
                // Its last words are not to be forgotten over the recycling.
                _ if slot.dirty && now < until => None,
                State::Closed => self.recycle(index),
                State::TimeWait => {
                    let (own_next, peer_next) = slot.latest;
                    if let Some(flow) = slot.flow {
                        self.waiting.insert(flow, own_next, peer_next, now);
                    }
                    self.recycle(index)
                }
                _ if now >= until => {
                    slot.socket_mut().abort();
                    slot.dirty = true;
                    slot.stage = Stage::Closing(now + LINGER);
                    None
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Makes a connection idle again, or vacant if it has no listener: then its filter is returned.
    fn recycle(&mut self, index: usize) -> Option<FilterId> {
        let slot = self.slots.get_mut(index)?;
        if slot.stage == Stage::Ready
            && let Some(listener) = slot.listener.and_then(|owner| self.listeners.get_mut(owner))
        {
            listener.ready.retain(|&ready| ready != index);
        }
        slot.generation = slot.generation.wrapping_add(1);
        slot.dirty = false;
        slot.due = None;
        if let Some(flow) = slot.flow.take() {
            self.flows.remove(&flow);
        }
        slot.stage = Stage::Vacant;
        slot.socket_mut().abort();
        let Some(listener) = slot.listener else {
            // The buffers go back to the heap at once, not when the place is used again.
            let nothing = Backlog { connections: 0, receive: 0, send: 0 };
            let generation = slot.generation;
            let filter = slot.filter;
            *slot = Slot::new(&nothing, filter, None);
            slot.generation = generation;
            return Some(filter);
        };
        let port = self.listeners.get(listener)?.port;
        // Listening again forgets the old connection, the reset that `abort` would send included.
        if slot.socket_mut().listen(port).is_ok() {
            slot.stage = Stage::Idle;
            self.shelve(index);
        }
        None
    }

    fn shelve(&mut self, index: usize) {
        if let Some(listener) = self.slots.get(index).and_then(|slot| slot.listener)
            && let Some(listener) = self.listeners.get_mut(listener)
        {
            listener.idle.push(index);
        }
    }

    /// Marks what has become due, and with `all` whatever may have waited for a neighbour's address.
    pub(crate) fn wake(&mut self, now: Instant, all: bool) {
        for slot in &mut self.slots {
            let due = slot.due.is_some_and(|due| all || due <= now);
            if due && !matches!(slot.stage, Stage::Idle | Stage::Vacant) {
                slot.dirty = true;
            }
        }
    }

    /// When a connection wants to be looked at next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| slot.due).min()
    }
}

/// The flow of a connection to be.
pub(crate) fn flow(local: IpEndpoint, remote: IpEndpoint) -> Flow {
    let IpAddress::Ipv4(local_ip) = local.addr;
    let IpAddress::Ipv4(remote_ip) = remote.addr;
    Flow { remote: (remote_ip, remote.port), local: (local_ip, local.port) }
}
