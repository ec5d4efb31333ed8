//! Cables that lose, repeat, damage and reorder; strangers who flood.

use libos_net::cable::Fate;
use libos_net::{Duration, Link};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Address, Ipv4Packet,
    Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::traffic::{Asker, Echo};
use crate::world::{SERVER, World};

/// A SYN from a stranger who never answers.
pub(crate) fn syn(server: [u8; 6], source: Ipv4Address, port: u16) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let tcp = TcpRepr {
        src_port: port,
        dst_port: 80,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: SERVER,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 9]));
    frame.set_dst_addr(EthernetAddress(server));
    frame.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
    tcp.emit(&mut segment, &source.into(), &SERVER.into(), &checksums);
    bytes
}

/// Sixty questions over a cable whose weather follows from the seed.
fn sixty_questions(seed: u64) {
    let mut state = seed | 1;
    let mut world = World::in_weather(move |frame| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 40 {
            0 => Fate::Lose,
            1 => Fate::Repeat,
            // ARP has no checksum of its own; there the link's would find it.
            2 if frame[12..14] == [8, 6] => Fate::Lose,
            2 => Fate::Damage((state >> 8) as usize % 8000),
            3 => Fate::Overtake,
            _ => Fate::Deliver,
        }
    });
    let mut echo = Echo::new(&mut world);
    let mut asker = Asker::new(60, 10);
    let start = world.now;
    while !asker.done() {
        world.turn(|stack| echo.serve(stack), |stack| asker.ask(stack));
        assert!(world.now < start + Duration::from_secs(300), "{} answered", asker.answered);
    }
    assert_eq!(asker.answered, 60);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn answers_arrive_through_bad_weather(seed: u64) {
        sixty_questions(seed);
    }
}

/// Five frames of one handshake are lost or damaged, which takes it more than ten seconds.
#[test]
fn a_handshake_survives_five_losses() {
    sixty_questions(5_918_146_666_147_169_676);
}

#[test]
fn a_flood_of_syns_keeps_nobody_out() {
    let (mut stranger, victim) = libos_net::cable::cable();
    let now = libos_net::Instant::from_secs(1);
    let server = victim.address();
    let mut stack = libos_net::Stack::new(victim, &crate::world::settings(SERVER), now).unwrap();
    let listener = stack.listen(80, &crate::world::BACKLOG).unwrap();
    assert_eq!(stack.vacancies(listener), crate::world::BACKLOG.connections);
    for port in 1..=1000 {
        stranger.inject(&syn(server, Ipv4Address::new(10, 0, 0, 77), port));
        stack.receive(now);
        stack.flush();
    }
    // What was never answered is forgotten.
    stack.receive(now + Duration::from_secs(60));
    stack.flush();
    assert_eq!(stack.vacancies(listener), crate::world::BACKLOG.connections);

    let mut world = World::new();
    let mut echo = Echo::new(&mut world);
    let mut asker = Asker::new(100, 10);
    let mut port = 0;
    while !asker.done() {
        port += 1;
        world.turn(|stack| echo.serve(stack), |stack| asker.ask(stack));
        // The stranger shares the client's cable: his packets come out of the same end.
        let flood = syn(world.server.link().address(), Ipv4Address::new(10, 0, 0, 77), port);
        world.client.link_mut().inject(&flood);
        assert!(port < 60_000);
    }
    assert_eq!(asker.answered, 100);
}
