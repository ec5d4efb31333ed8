//! Filters for the usual questions, behind an Ethernet header.
//!
//! Every function is `const`, so a program can keep its filters as constants:
//!
//! ```
//! use filter_language::Builder;
//! use packet_filters::Filter;
//!
//! const ECHO: Filter = match Builder::udp_port(7).destination_ip([10, 0, 2, 15]).build() {
//!     Ok(filter) => filter,
//!     Err(_) => panic!("not a filter"),
//! };
//! assert!(!ECHO.matches(b"too short"));
//! ```

use packet_filters::{Atom, Filter, FilterError, MAX_ATOMS, Width};

const ETHERTYPE: u16 = 12;
const NETWORK: u16 = 14;
const IPV4_FRAGMENT: u16 = NETWORK + 6;
const IPV4_PROTOCOL: u16 = NETWORK + 9;
const IPV4_SOURCE: u16 = NETWORK + 12;
const IPV4_DESTINATION: u16 = NETWORK + 16;
const ARP_SENDER: u16 = NETWORK + 8;
const ARP_TARGET: u16 = NETWORK + 24;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// Both ends of a TCP connection, as the receiver sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The address that packets come from.
    pub remote_ip: [u8; 4],
    /// The port that packets come from.
    pub remote_port: u16,
    /// The address that packets go to.
    pub local_ip: [u8; 4],
    /// The port that packets go to.
    pub local_port: u16,
}

/// Collects the conditions of one filter; [`Builder::build`] checks them together.
///
/// Conditions on the transport header stand behind a shift over the IPv4 header, in whatever
/// order the methods were called.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    fixed: List,
    transport: List,
}

impl Builder {
    /// No conditions yet.
    pub const fn new() -> Self {
        Builder { fixed: List::EMPTY, transport: List::EMPTY }
    }

    /// Frames of one type, for example 0x86dd.
    pub const fn ethertype(ethertype: u16) -> Self {
        Builder::new().compare(Atom::exact(ETHERTYPE, Width::Two, ethertype as u32))
    }

    /// ARP requests and replies that are about this address.
    pub const fn arp_target(ip: [u8; 4]) -> Self {
        Builder::ethertype(TYPE_ARP).compare(Atom::exact(ARP_TARGET, Width::Four, number(ip)))
    }

    /// IPv4 packets of one protocol.
    pub const fn ipv4(protocol: u8) -> Self {
        Builder::ethertype(TYPE_IPV4).compare(Atom::exact(
            IPV4_PROTOCOL,
            Width::One,
            protocol as u32,
        ))
    }

    /// ICMP over IPv4.
    pub const fn icmp() -> Self {
        Builder::ipv4(PROTOCOL_ICMP)
    }

    /// UDP datagrams (IPv4) to a port; later fragments, which carry no ports, do not match.
    pub const fn udp_port(port: u16) -> Self {
        Builder::ipv4(PROTOCOL_UDP).unfragmented().destination_port(port)
    }

    /// TCP segments (IPv4) to a port; later fragments do not match.
    pub const fn tcp_port(port: u16) -> Self {
        Builder::ipv4(PROTOCOL_TCP).unfragmented().destination_port(port)
    }

    /// The segments of one TCP connection. Contained in [`Builder::tcp_port`] of its local port.
    pub const fn tcp_connection(connection: Connection) -> Self {
        Builder::tcp_port(connection.local_port)
            .source_port(connection.remote_port)
            .source_ip(connection.remote_ip)
            .destination_ip(connection.local_ip)
    }

    /// Adds: from this IPv4 address.
    pub const fn source_ip(self, ip: [u8; 4]) -> Self {
        self.compare(Atom::exact(IPV4_SOURCE, Width::Four, number(ip)))
    }

    /// Adds: to this IPv4 address.
    pub const fn destination_ip(self, ip: [u8; 4]) -> Self {
        self.compare(Atom::exact(IPV4_DESTINATION, Width::Four, number(ip)))
    }

    /// Adds: from this TCP or UDP port.
    pub const fn source_port(self, port: u16) -> Self {
        self.transport_compare(0, Width::Two, port as u32)
    }

    /// Adds: to this TCP or UDP port.
    pub const fn destination_port(self, port: u16) -> Self {
        self.transport_compare(2, Width::Two, port as u32)
    }

    /// Adds: to this link address.
    pub const fn destination_mac(self, mac: [u8; 6]) -> Self {
        self.mac(0, mac)
    }

    /// Adds: from this link address.
    pub const fn source_mac(self, mac: [u8; 6]) -> Self {
        self.mac(6, mac)
    }

    /// Adds: a link address at this offset.
    const fn mac(self, offset: u16, [a, b, c, d, e, f]: [u8; 6]) -> Self {
        let end = Atom::exact(offset + 4, Width::Two, number([0, 0, e, f]));
        self.compare(Atom::exact(offset, Width::Four, number([a, b, c, d]))).compare(end)
    }

    /// ARP requests and replies that say of nobody else's link address that it is the sender's.
    pub const fn arp_sender(mac: [u8; 6]) -> Self {
        Builder::ethertype(TYPE_ARP).source_mac(mac).mac(ARP_SENDER, mac)
    }

    /// Adds: the first or only fragment of an IPv4 packet.
    pub const fn unfragmented(self) -> Self {
        let atom =
            Atom::Compare { offset: IPV4_FRAGMENT, width: Width::Two, mask: 0x1fff, value: 0 };
        self.compare(atom)
    }

    /// Adds an atom whose offset counts from the link header.
    pub const fn compare(mut self, atom: Atom) -> Self {
        self.fixed.push(atom);
        self
    }

    /// Adds a compare whose offset counts from the end of the IPv4 header.
    pub const fn transport_compare(mut self, offset: u16, width: Width, value: u32) -> Self {
        self.transport.push(Atom::exact(offset.saturating_add(NETWORK), width, value));
        self
    }

    /// The filter, if the conditions make one.
    pub const fn build(self) -> Result<Filter, FilterError> {
        let mut all = self.fixed;
        if self.transport.length > 0 {
            all.push(Atom::Shift { offset: NETWORK, mask: 0x0f, shift: 2 });
        }
        let mut i = 0;
        while i < self.transport.length && i < MAX_ATOMS {
            all.push(self.transport.atoms[i]);
            i += 1;
        }
        if all.length > MAX_ATOMS || self.transport.length > MAX_ATOMS {
            return Err(FilterError::TooManyAtoms);
        }
        crate::filter(all.atoms.split_at(all.length).0)
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

/// Atoms in the order they came; `length` counts those that found no room too.
#[derive(Clone, Copy, Debug)]
struct List {
    atoms: [Atom; MAX_ATOMS],
    length: usize,
}

impl List {
    const EMPTY: List = List { atoms: [Atom::exact(0, Width::One, 0); MAX_ATOMS], length: 0 };

    const fn push(&mut self, atom: Atom) {
        if self.length < MAX_ATOMS {
            self.atoms[self.length] = atom;
        }
        self.length = self.length.saturating_add(1);
    }
}

const fn number(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes)
}
