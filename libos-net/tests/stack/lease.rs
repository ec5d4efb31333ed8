//! Addresses by DHCP, and an interface that answers pings.

use libos_net::cable::{End, cable};
use libos_net::{Address, Duration, Instant, Ipv4Address, Link, Settings, Stack};
use packet_filters::Filter;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
    EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
    UdpPacket, UdpRepr,
};

const ROUTER: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
const LEASED: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);

/// An IPv4 packet from the router to everybody on the link, with a payload that `emit` writes.
fn packet(ip: Ipv4Repr, to: EthernetAddress, emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; 14 + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 1]));
    frame.set_dst_addr(to);
    frame.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    emit(packet.payload_mut());
    bytes
}

/// The server's answer to a request.
fn offer(request: &DhcpRepr<'_>, message_type: DhcpMessageType, leased: Ipv4Address) -> Vec<u8> {
    let dhcp = DhcpRepr {
        message_type,
        transaction_id: request.transaction_id,
        your_ip: leased,
        server_ip: ROUTER,
        router: Some(ROUTER),
        subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
        server_identifier: Some(ROUTER),
        lease_duration: Some(3600),
        requested_ip: None,
        client_identifier: None,
        parameter_request_list: None,
        max_size: None,
        ..request.clone()
    };
    let udp = UdpRepr { src_port: 67, dst_port: 68 };
    let ip = Ipv4Repr {
        src_addr: ROUTER,
        dst_addr: Ipv4Address::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + dhcp.buffer_len(),
        hop_limit: 64,
    };
    let checksums = ChecksumCapabilities::default();
    packet(ip, EthernetAddress::BROADCAST, |bytes| {
        let mut datagram = UdpPacket::new_unchecked(bytes);
        let (source, destination) = (ROUTER.into(), Ipv4Address::BROADCAST.into());
        let fill = |payload: &mut [u8]| {
            dhcp.emit(&mut DhcpPacket::new_unchecked(payload)).unwrap();
        };
        udp.emit(&mut datagram, &source, &destination, dhcp.buffer_len(), fill, &checksums);
    })
}

/// Answers what the client has sent.
fn serve(server: &mut End, leased: Ipv4Address) {
    while let Some(arrival) = server.peek() {
        let frame = arrival.frame.to_vec();
        server.release();
        let frame = EthernetFrame::new_checked(&frame).unwrap();
        let Ok(ip) = Ipv4Packet::new_checked(frame.payload()) else { continue };
        let Ok(udp) = UdpPacket::new_checked(ip.payload()) else { continue };
        let Ok(packet) = DhcpPacket::new_checked(udp.payload()) else { continue };
        let Ok(request) = DhcpRepr::parse(&packet) else { continue };
        let answer = match request.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request => DhcpMessageType::Ack,
            _ => continue,
        };
        server.inject(&offer(&request, answer, leased));
    }
}

fn lease(leased: Ipv4Address) -> (End, Stack<End>) {
    let (mut server, client) = cable();
    server.open(&Filter::ANY).unwrap();
    let settings = Settings { address: Address::Dhcp, seed: 1 };
    let mut stack = Stack::new(client, &settings, Instant::from_secs(1)).unwrap();
    assert_eq!(stack.address(), None);
    for turn in 0..10 {
        let now = Instant::from_secs(1 + turn);
        stack.receive(now);
        let before = stack.address();
        stack.flush();
        if stack.address() != before {
            let soon = now + Duration::from_millis(2);
            assert!(stack.deadline().is_some_and(|due| due < soon), "the program is told");
        }
        serve(&mut server, leased);
    }
    (server, stack)
}

#[test]
fn an_address_is_leased() {
    let (_, stack) = lease(LEASED);
    assert_eq!(stack.address(), Some(LEASED));
    let deadline = stack.deadline().expect("the lease is renewed");
    assert!(deadline > Instant::from_secs(100));
}

#[test]
fn an_address_that_no_host_can_have_is_not_taken() {
    for bad in [Ipv4Address::BROADCAST, Ipv4Address::new(224, 0, 0, 1)] {
        let (_, stack) = lease(bad);
        assert_eq!(stack.address(), None, "{bad}");
    }
}

/// The router asks who has the address, and tells where it is itself.
fn who_has(address: Ipv4Address) -> Vec<u8> {
    let router = EthernetAddress([2, 0, 0, 0, 0, 1]);
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: router,
        source_protocol_addr: ROUTER,
        target_hardware_addr: EthernetAddress::default(),
        target_protocol_addr: address,
    };
    let mut bytes = vec![0; 14 + arp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_src_addr(router);
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_ethertype(EthernetProtocol::Arp);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

#[test]
fn a_ping_is_answered() {
    let (mut router, mut stack) = lease(LEASED);
    let echo = Icmpv4Repr::EchoRequest { ident: 3, seq_no: 4, data: b"ping" };
    let ip = Ipv4Repr {
        src_addr: ROUTER,
        dst_addr: LEASED,
        next_header: IpProtocol::Icmp,
        payload_len: echo.buffer_len(),
        hop_limit: 64,
    };
    let to = EthernetAddress(stack.link().address());
    router.inject(&who_has(LEASED));
    router.inject(&packet(ip, to, |bytes| {
        echo.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
    }));
    stack.receive(Instant::from_secs(20));
    stack.flush();
    let is_arp = |frame: &[u8]| frame[12..14] == [8, 6];
    assert!(is_arp(router.peek().expect("where the address is").frame));
    router.release();
    let answer = router.peek().expect("the echo").frame.to_vec();
    let frame = EthernetFrame::new_checked(&answer).unwrap();
    let ip = Ipv4Packet::new_checked(frame.payload()).unwrap();
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    let reply = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default());
    assert_eq!(reply, Ok(Icmpv4Repr::EchoReply { ident: 3, seq_no: 4, data: b"ping" }));
}
