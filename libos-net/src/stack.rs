//! One interface with its sockets.
//!
//! A turn has three parts: [`Stack::receive`] drains a batch from the link, the program reads and
//! writes its sockets, [`Stack::flush`] sends what has become ready. [`Stack::deadline`] says when
//! the next turn is due if nothing arrives before.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use filter_language::{Builder, Connection};
use packet_filters::{Filter, FilterError};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint, Ipv4Address, Ipv4Cidr};

use crate::datagram::{Datagram, DatagramId, Port as UdpPort};
use crate::device::{BATCH, Outbox, Port};
use crate::link::{FilterId, Link, LinkError};
use crate::segment::Segment;
use crate::settings::{Address, Settings};
use crate::stream::{Backlog, ListenerId, Stream, StreamId};
use crate::tcp::{self, Route, Table};

/// When to try again if the link is busy or something could not be sent.
const RETRY: Duration = Duration::from_millis(1);
/// The port on which a DHCP client listens.
const DHCP_CLIENT: u16 = 68;

/// Why a socket was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// Port 0, or an address that is nobody's.
    BadPort,
    /// The interface has no address yet.
    NoAddress,
    /// There is a connection with these ends already.
    Exists,
    /// The conditions make no filter.
    Filter(FilterError),
    /// The link refused the filter.
    Link(LinkError),
}

impl From<LinkError> for OpenError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<FilterError> for OpenError {
    fn from(error: FilterError) -> Self {
        Self::Filter(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadPort => f.write_str("the port or address is nobody's"),
            Self::NoAddress => f.write_str("the interface has no address yet"),
            Self::Exists => f.write_str("there is such a connection already"),
            Self::Filter(error) => write!(f, "not a filter: {error:?}"),
            Self::Link(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OpenError {}

/// Whose frames a filter claims.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// The interface itself: ARP and ICMP.
    Interface,
    Dhcp,
    Listener(usize),
    Connection(usize),
    Udp(usize),
}

/// The DHCP client.
struct Dhcp {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    due: Option<Instant>,
}

/// Counters of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames that arrived.
    pub received: u64,
    /// Frames that came by a filter which was closed before.
    pub stray: u64,
    /// Frames that found no place to be sent from, or that the link refused for good.
    pub refused: u64,
}

/// One interface with its sockets.
pub struct Stack<L: Link> {
    link: L,
    interface: Interface,
    outbox: Outbox,
    /// For frames that belong to no socket: the interface answers them by itself.
    nobody: SocketSet<'static>,
    owners: BTreeMap<FilterId, Owner>,
    tcp: Table,
    udp: Vec<Option<UdpPort>>,
    dhcp: Option<Dhcp>,
    /// With a static address filters ask for it; one that was leased may change under them.
    fixed: Option<Ipv4Address>,
    arp: Option<FilterId>,
    now: Instant,
    retry: bool,
    counters: Counters,
}

impl<L: Link> Stack<L> {
    /// A stack on a link. It claims ARP for its address, and ICMP where the contract covers it.
    ///
    /// # Errors
    /// [`OpenError::Link`] when the link refuses the filter for ARP or DHCP.
    pub fn new(link: L, settings: &Settings, now: Instant) -> Result<Self, OpenError> {
        let mut outbox = Outbox::new();
        let mut config = Config::new(EthernetAddress(link.address()).into());
        config.random_seed = settings.seed;
        let mut port = Port { incoming: None, outbox: &mut outbox };
        let interface = Interface::new(config, &mut port, now);
        let mut stack = Self {
            link,
            interface,
            outbox,
            nobody: SocketSet::new(Vec::new()),
            owners: BTreeMap::new(),
            tcp: Table::default(),
            udp: Vec::new(),
            dhcp: None,
            fixed: None,
            arp: None,
            now,
            retry: false,
            counters: Counters::default(),
        };
        match settings.address {
            Address::Static { address, gateway } => {
                stack.fixed = Some(address.address());
                stack.set_address(Some(address), gateway)?;
            }
            Address::Dhcp => stack.start_dhcp()?,
        }
        match stack.claim(Builder::icmp(), Owner::Interface) {
            Ok(_) | Err(OpenError::Link(LinkError::NotReserved | LinkError::Overlaps(_))) => {
                Ok(stack)
            }
            Err(error) => Err(error),
        }
    }

    /// The interface's address. By DHCP there is none at first.
    pub fn address(&self) -> Option<Ipv4Address> {
        self.interface.ipv4_addr()
    }

    /// What carries the frames.
    pub fn link(&self) -> &L {
        &self.link
    }

    /// What carries the frames, to be changed: a wrapper may have settings.
    pub fn link_mut(&mut self) -> &mut L {
        &mut self.link
    }

    /// The counters so far.
    pub fn counters(&self) -> Counters {
        Counters { refused: self.outbox.refused(), ..self.counters }
    }

    /// Opens a listener: its filter claims the port from now on.
    ///
    /// # Errors
    /// [`OpenError::BadPort`], [`OpenError::Filter`], [`OpenError::Link`].
    pub fn listen(&mut self, port: u16, backlog: &Backlog) -> Result<ListenerId, OpenError> {
        if port == 0 {
            return Err(OpenError::BadPort);
        }
        let filter = self.claim(Builder::tcp_port(port), Owner::Interface)?;
        let listener = self.tcp.listen(port, backlog, filter);
        self.owners.insert(filter, Owner::Listener(listener.0));
        Ok(listener)
    }

    /// The next connection of a listener that nobody has taken. To be asked until there is none.
    pub fn accept(&mut self, listener: ListenerId) -> Option<StreamId> {
        self.tcp.accept(listener)
    }

    /// How many connections of a listener are free. With none left, who comes next has to try again
    /// until one is closed.
    pub fn vacancies(&self, listener: ListenerId) -> usize {
        self.tcp.vacancies(listener)
    }

    /// Opens a connection. `backlog` gives the sizes of its buffers.
    ///
    /// # Errors
    /// [`OpenError::NoAddress`], [`OpenError::BadPort`], [`OpenError::Exists`],
    /// [`OpenError::Filter`], [`OpenError::Link`].
    pub fn connect(
        &mut self,
        local_port: u16,
        remote: (Ipv4Address, u16),
        backlog: &Backlog,
    ) -> Result<StreamId, OpenError> {
        let address = self.address().ok_or(OpenError::NoAddress)?;
        if local_port == 0 || remote.1 == 0 || remote.0.is_unspecified() {
            return Err(OpenError::BadPort);
        }
        let local = IpEndpoint::new(address.into(), local_port);
        let remote = IpEndpoint::new(remote.0.into(), remote.1);
        let flow = tcp::flow(local, remote);
        if self.tcp.knows(&flow) {
            return Err(OpenError::Exists);
        }
        let filter = Builder::tcp_connection(Connection {
            remote_ip: flow.remote.0.octets(),
            remote_port: flow.remote.1,
            local_ip: flow.local.0.octets(),
            local_port,
        });
        let filter = self.open(&filter.build()?, Owner::Interface)?;
        let index = self.tcp.reserve(backlog, filter, flow);
        self.owners.insert(filter, Owner::Connection(index));
        let context = self.interface.context();
        let slot = self.tcp.slot(index).ok_or(OpenError::Exists)?;
        slot.dirty = true;
        slot.socket_mut().connect(context, remote, local).map_err(|_| OpenError::BadPort)?;
        self.tcp.name(index).ok_or(OpenError::Exists)
    }

    /// The connection of this name, unless it is over.
    pub fn stream(&mut self, name: StreamId) -> Option<Stream<'_>> {
        let now = self.now;
        self.tcp.get(name).map(|slot| Stream { slot, now })
    }

    /// Opens a UDP socket with room for `datagrams` of `bytes` in total each way.
    ///
    /// # Errors
    /// [`OpenError::BadPort`], [`OpenError::Filter`], [`OpenError::Link`].
    pub fn bind(
        &mut self,
        port: u16,
        datagrams: usize,
        bytes: usize,
    ) -> Result<DatagramId, OpenError> {
        if port == 0 {
            return Err(OpenError::BadPort);
        }
        let index = self.udp.iter().position(Option::is_none).unwrap_or(self.udp.len());
        let filter = self.claim(Builder::udp_port(port), Owner::Udp(index))?;
        let socket = Some(UdpPort::new(port, datagrams, bytes, filter));
        match self.udp.get_mut(index) {
            Some(place) => *place = socket,
            None => self.udp.push(socket),
        }
        Ok(DatagramId(index))
    }

    /// The UDP socket of this name, unless it was closed.
    pub fn datagram(&mut self, name: DatagramId) -> Option<Datagram<'_>> {
        self.udp.get_mut(name.0)?.as_mut().map(|port| Datagram { port })
    }

    /// Closes a UDP socket and ends its filter.
    pub fn unbind(&mut self, name: DatagramId) {
        if let Some(port) = self.udp.get_mut(name.0).and_then(Option::take) {
            self.release(port.filter);
        }
    }

    /// Handles a batch of what has arrived. True: there may be more, so another turn is due now.
    pub fn receive(&mut self, now: Instant) -> bool {
        self.now = now;
        self.interface.poll_maintenance(now);
        self.tcp.wake(now, false);
        for _ in 0..BATCH {
            if !self.receive_one() {
                return false;
            }
        }
        true
    }

    fn receive_one(&mut self) -> bool {
        let Some(arrival) = self.link.peek() else { return false };
        self.counters.received = self.counters.received.saturating_add(1);
        let now = self.now;
        let mut finished = None;
        let mut port = Port { incoming: Some(arrival.frame), outbox: &mut self.outbox };
        let interface = &mut self.interface;
        match self.owners.get(&arrival.filter).copied() {
            None => self.counters.stray = self.counters.stray.saturating_add(1),
            Some(Owner::Interface) => {
                interface.poll_ingress_single(now, &mut port, &mut self.nobody);
                // It may be the answer for which sockets wait.
                self.tcp.wake(now, true);
                for udp in self.udp.iter_mut().flatten() {
                    udp.dirty |= udp.due.is_some();
                }
            }
            Some(Owner::Dhcp) => {
                if let Some(dhcp) = &mut self.dhcp {
                    interface.poll_ingress_single(now, &mut port, &mut dhcp.sockets);
                }
            }
            Some(Owner::Udp(index)) => {
                if let Some(Some(udp)) = self.udp.get_mut(index) {
                    interface.poll_ingress_single(now, &mut port, udp.sockets());
                }
            }
            Some(owner @ (Owner::Listener(_) | Owner::Connection(_))) => {
                if let Some(segment) = Segment::parse(arrival.frame) {
                    let route = match owner {
                        Owner::Connection(index) => Route::Slot(index),
                        Owner::Listener(index) => self.tcp.route(index, &segment, now),
                        _ => Route::Drop,
                    };
                    finished = deliver(
                        interface,
                        &mut self.tcp,
                        port,
                        route,
                        &segment,
                        now,
                        &mut self.nobody,
                    );
                }
            }
        }
        self.link.release();
        if let Some(filter) = finished {
            self.release(filter);
        }
        true
    }

    /// Sends what is ready, as far as the link takes it.
    pub fn flush(&mut self) {
        self.retry = false;
        self.poll_dhcp();
        loop {
            let complete = self.collect();
            if !self.outbox.flush(&mut self.link) {
                self.retry = true;
                return;
            }
            if complete {
                return;
            }
        }
    }

    /// Puts frames in the outbox. False: it was full before everybody had had their turn.
    fn collect(&mut self) -> bool {
        for index in 0..self.tcp.len() {
            if self.outbox.is_full() {
                return false;
            }
            self.send_connection(index);
        }
        for udp in self.udp.iter_mut().flatten() {
            let due = udp.due.is_some_and(|due| due <= self.now);
            if udp.dirty || due {
                let mut port = Port { incoming: None, outbox: &mut self.outbox };
                let sockets = udp.sockets();
                egress(&mut self.interface, &mut port, sockets, self.now);
                let due = self.interface.poll_at(self.now, sockets);
                udp.due = due.map(|due| due.max(self.now + RETRY));
                udp.dirty = self.outbox.is_full();
            }
        }
        !self.outbox.is_full()
    }

    fn send_connection(&mut self, index: usize) {
        let Some(slot) = self.tcp.slot(index) else { return };
        if !slot.dirty {
            return;
        }
        let mut port = Port { incoming: None, outbox: &mut self.outbox };
        egress(&mut self.interface, &mut port, slot.sockets(), self.now);
        slot.dirty = self.outbox.is_full();
        let finished = self.tcp.settle(index, self.now);
        if let Some(slot) = self.tcp.slot(index) {
            let due = self.interface.poll_at(self.now, slot.sockets());
            // Everything that could be sent was: "now" can only mean "when something has changed".
            slot.schedule(due.map(|due| due.max(self.now + RETRY)));
        }
        if let Some(filter) = finished {
            self.release(filter);
        }
    }

    /// When the next turn is due if nothing arrives before. `None`: not before something arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let retry = self.retry.then(|| self.now + RETRY);
        let dhcp = self.dhcp.as_ref().and_then(|dhcp| dhcp.due);
        let udp = self.udp.iter().flatten().filter_map(|udp| udp.due).min();
        [retry, dhcp, udp, self.tcp.due()].into_iter().flatten().min()
    }

    /// Installs a filter that also asks for the interface's address, where that is fixed.
    fn claim(&mut self, filter: Builder, owner: Owner) -> Result<FilterId, OpenError> {
        let filter = match self.fixed {
            Some(address) => filter.destination_ip(address.octets()),
            None => filter,
        };
        self.open(&filter.build()?, owner)
    }

    fn open(&mut self, filter: &Filter, owner: Owner) -> Result<FilterId, OpenError> {
        let id = self.link.open(filter)?;
        self.owners.insert(id, owner);
        Ok(id)
    }

    fn release(&mut self, filter: FilterId) {
        self.owners.remove(&filter);
        self.link.close(filter);
    }

    fn set_address(
        &mut self,
        address: Option<Ipv4Cidr>,
        gateway: Option<Ipv4Address>,
    ) -> Result<(), OpenError> {
        if let Some(filter) = self.arp.take() {
            self.release(filter);
        }
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            // The list has room for two.
            let _ = address.map(|address| addresses.push(IpCidr::Ipv4(address)));
        });
        self.interface.routes_mut().remove_default_ipv4_route();
        if let Some(gateway) = gateway {
            // The table has room for two, and this is the only one.
            let _ = self.interface.routes_mut().add_default_ipv4_route(gateway);
        }
        if let Some(address) = address {
            let filter = Builder::arp_target(address.address().octets()).build()?;
            self.arp = Some(self.open(&filter, Owner::Interface)?);
        }
        Ok(())
    }

    fn start_dhcp(&mut self) -> Result<(), OpenError> {
        self.claim(Builder::udp_port(DHCP_CLIENT), Owner::Dhcp)?;
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(dhcpv4::Socket::new());
        self.dhcp = Some(Dhcp { sockets, handle, due: Some(self.now) });
        Ok(())
    }

    fn poll_dhcp(&mut self) {
        let Some(dhcp) = &mut self.dhcp else { return };
        let mut port = Port { incoming: None, outbox: &mut self.outbox };
        egress(&mut self.interface, &mut port, &mut dhcp.sockets, self.now);
        let due = self.interface.poll_at(self.now, &dhcp.sockets);
        dhcp.due = due.map(|due| due.max(self.now + RETRY));
        let lease = match dhcp.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp.handle).poll() {
            None => return,
            Some(dhcpv4::Event::Deconfigured) => (None, None),
            Some(dhcpv4::Event::Configured(lease)) => (usable(lease.address), lease.router),
        };
        // The program learns of it in the next turn, which is not to wait for a packet.
        self.retry = true;
        // Without the filter for ARP nobody finds the interface, which is as good as no address:
        // the next lease is the next try.
        if self.set_address(lease.0, lease.1).is_err() {
            self.interface.update_ip_addrs(|addresses| addresses.clear());
        }
    }
}

impl<L: Link> fmt::Debug for Stack<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("address", &self.address())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// An address that an interface can have. What comes from the network is not taken for one unseen:
/// smoltcp would panic.
fn usable(address: Ipv4Cidr) -> Option<Ipv4Cidr> {
    let own = address.address();
    let bad = own.is_unspecified() || own.is_multicast() || own.is_broadcast();
    (!bad).then_some(address)
}

/// Sends from the sockets of a set until there is nothing more to send, or no room.
fn egress(
    interface: &mut Interface,
    port: &mut Port<'_>,
    sockets: &mut SocketSet<'static>,
    now: Instant,
) {
    while interface.poll_egress(now, port, sockets) == PollResult::SocketStateChanged {
        if port.outbox.is_full() {
            return;
        }
    }
}

/// Shows a segment to the connection that it is for. A filter that is returned has no use any more.
fn deliver(
    interface: &mut Interface,
    tcp: &mut Table,
    mut port: Port<'_>,
    route: Route,
    segment: &Segment,
    now: Instant,
    nobody: &mut SocketSet<'static>,
) -> Option<FilterId> {
    match route {
        Route::Slot(index) => {
            interface.poll_ingress_single(now, &mut port, tcp.slot(index)?.sockets());
            tcp.shown(index, segment, now)
        }
        Route::Nobody => {
            interface.poll_ingress_single(now, &mut port, nobody);
            None
        }
        Route::Acknowledge(own_next, peer_next) => {
            segment.acknowledge(own_next, peer_next, port.outbox);
            None
        }
        Route::Drop => None,
    }
}
