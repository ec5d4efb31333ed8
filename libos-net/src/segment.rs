//! The head of a TCP segment, as far as connections are told apart by it.

use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::device::Outbox;

const ETHERNET_HEADER: usize = 14;
const IPV4_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const HOP_LIMIT: u8 = 64;

/// Both ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Flow {
    pub(crate) remote: (Ipv4Address, u16),
    pub(crate) local: (Ipv4Address, u16),
}

/// What the head of a segment says. Nothing in it has been verified: the stack does that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) flow: Flow,
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// The sequence number of the first byte.
    pub(crate) sequence: u32,
    /// The sequence number behind the last byte; SYN and FIN count.
    pub(crate) end: u32,
    /// The next byte that the sender expects.
    pub(crate) acknowledgement: u32,
    source: EthernetAddress,
    destination: EthernetAddress,
}

impl Segment {
    /// The head of the TCP segment in an Ethernet frame, if there is one.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
        if packet.next_header() != IpProtocol::Tcp || packet.frag_offset() != 0 {
            return None;
        }
        let tcp = TcpPacket::new_checked(packet.payload()).ok()?;
        let sequence = tcp.seq_number().0 as u32;
        Some(Self {
            flow: Flow {
                remote: (packet.src_addr(), tcp.src_port()),
                local: (packet.dst_addr(), tcp.dst_port()),
            },
            syn: tcp.syn(),
            ack: tcp.ack(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            sequence,
            end: sequence.wrapping_add(tcp.segment_len() as u32),
            acknowledgement: tcp.ack_number().0 as u32,
            source: frame.src_addr(),
            destination: frame.dst_addr(),
        })
    }

    /// Whether it asks for a new connection.
    pub(crate) fn opens(&self) -> bool {
        self.syn && !self.ack && !self.rst && !self.fin
    }

    /// Puts an empty acknowledgement in the outbox that goes back to where this segment came from.
    pub(crate) fn acknowledge(&self, own_next: u32, peer_next: u32, outbox: &mut Outbox) {
        let Flow { remote, local } = self.flow;
        let tcp = TcpRepr {
            src_port: local.1,
            dst_port: remote.1,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(own_next as i32),
            ack_number: Some(TcpSeqNumber(peer_next as i32)),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let ip = Ipv4Repr {
            src_addr: local.0,
            dst_addr: remote.0,
            next_header: IpProtocol::Tcp,
            payload_len: TCP_HEADER,
            hop_limit: HOP_LIMIT,
        };
        outbox.push(ETHERNET_HEADER + IPV4_HEADER + TCP_HEADER, |bytes| {
            let checksums = smoltcp::phy::ChecksumCapabilities::default();
            let mut frame = EthernetFrame::new_unchecked(bytes);
            frame.set_src_addr(self.destination);
            frame.set_dst_addr(self.source);
            frame.set_ethertype(EthernetProtocol::Ipv4);
            let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
            ip.emit(&mut packet, &checksums);
            let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
            let (source, destination) = (IpAddress::Ipv4(local.0), IpAddress::Ipv4(remote.0));
            tcp.emit(&mut segment, &source, &destination, &checksums);
        });
    }
}
