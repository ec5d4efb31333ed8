//! Connections in TIME-WAIT, without their sockets.
//!
//! The side that closes a connection first has to remember it for a while, so that a late copy of
//! an old packet does not end up in a new connection (RFC 9293, 3.6.1). A socket with its buffers is
//! much to keep for that: a server that closes would run out of sockets at a few requests a second.
//! Here a connection in TIME-WAIT is 40 bytes. What arrives for it is answered as RFC 9293, 3.10.7.4
//! says; a SYN opens the connection anew when its sequence number is past the old ones (RFC 1122,
//! 4.2.2.13), and a reset counts only when it stands exactly at the expected number (RFC 5961, 3.2).

use alloc::collections::{BTreeMap, VecDeque};

use smoltcp::time::{Duration, Instant};

use crate::segment::{Flow, Segment};

/// How long a connection is remembered.
pub(crate) const LIFETIME: Duration = Duration::from_secs(60);
/// How many are remembered. Beyond that the oldest is forgotten early.
pub(crate) const CAPACITY: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Entry {
    own_next: u32,
    peer_next: u32,
    until: Instant,
}

/// What to do with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It belongs to no connection in TIME-WAIT, or to one that has just been forgotten for it.
    Pass,
    /// It is to be answered with an acknowledgement of these numbers, and not looked at further.
    Acknowledge {
        /// The sequence number of the answer.
        own_next: u32,
        /// The number that it acknowledges.
        peer_next: u32,
    },
    /// It is not to be looked at further.
    Drop,
}

/// The connections in TIME-WAIT.
#[derive(Debug, Default)]
pub(crate) struct TimeWait {
    entries: BTreeMap<Flow, Entry>,
    /// In the order of their end. May name entries that are gone or were renewed since.
    order: VecDeque<(Instant, Flow)>,
}

impl TimeWait {
    /// Remembers a connection whose last numbers were these.
    pub(crate) fn insert(&mut self, flow: Flow, own_next: u32, peer_next: u32, now: Instant) {
        self.expire(now);
        while self.order.len() >= CAPACITY {
            self.forget_oldest();
        }
        let until = now + LIFETIME;
        self.entries.insert(flow, Entry { own_next, peer_next, until });
        self.order.push_back((until, flow));
    }

    /// What to do with a segment that belongs to no socket.
    pub(crate) fn verdict(&mut self, segment: &Segment, now: Instant) -> Verdict {
        self.expire(now);
        let Some(&Entry { own_next, peer_next, .. }) = self.entries.get(&segment.flow) else {
            return Verdict::Pass;
        };
        if segment.rst {
            if segment.sequence == peer_next {
                self.entries.remove(&segment.flow);
            }
            return Verdict::Drop;
        }
        let past = segment.sequence.wrapping_sub(peer_next) as i32 >= 0;
        if segment.opens() && past {
            self.entries.remove(&segment.flow);
            return Verdict::Pass;
        }
        // An answer to a bare acknowledgement could be answered in turn, for ever.
        if segment.end == segment.sequence {
            return Verdict::Drop;
        }
        Verdict::Acknowledge { own_next, peer_next }
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|&(until, _)| until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((until, flow)) = self.order.pop_front()
            && self.entries.get(&flow).is_some_and(|entry| entry.until == until)
        {
            self.entries.remove(&flow);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::{
        EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Address, Ipv4Packet, TcpPacket,
        TcpSeqNumber,
    };

    const START: Instant = Instant::from_micros_const(100_000_000);

    /// A segment without payload from `port`.
    fn segment(port: u16, sequence: u32, flags: impl FnOnce(&mut TcpPacket<&mut [u8]>)) -> Segment {
        let mut bytes = [0; 54];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        frame.set_ethertype(EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len(40);
        packet.set_next_header(IpProtocol::Tcp);
        packet.set_src_addr(Ipv4Address::new(10, 0, 0, 1));
        packet.set_dst_addr(Ipv4Address::new(10, 0, 0, 2));
        let mut tcp = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.set_src_port(port);
        tcp.set_dst_port(80);
        tcp.set_header_len(20);
        tcp.set_seq_number(TcpSeqNumber(sequence as i32));
        flags(&mut tcp);
        Segment::parse(&bytes).unwrap()
    }

    fn syn(port: u16, sequence: u32) -> Segment {
        segment(port, sequence, |tcp| tcp.set_syn(true))
    }

    #[test]
    fn a_repeated_fin_is_acknowledged() {
        let mut waiting = TimeWait::default();
        let fin = segment(5, 99, |tcp| tcp.set_fin(true));
        assert_eq!(waiting.verdict(&fin, START), Verdict::Pass);
        waiting.insert(fin.flow, 7, 100, START);
        let bare = segment(5, 99, |_| ());
        assert_eq!(waiting.verdict(&bare, START), Verdict::Drop, "acknowledgements don't bounce");
        let expected = Verdict::Acknowledge { own_next: 7, peer_next: 100 };
        assert_eq!(waiting.verdict(&fin, START), expected);
        assert_eq!(waiting.verdict(&fin, START + LIFETIME), Verdict::Pass);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn only_a_later_syn_opens_anew() {
        let mut waiting = TimeWait::default();
        waiting.insert(syn(5, 0).flow, 7, 100, START);
        assert!(matches!(waiting.verdict(&syn(5, 99), START), Verdict::Acknowledge { .. }));
        assert_eq!(waiting.verdict(&syn(6, 99), START), Verdict::Pass, "another port");
        assert_eq!(waiting.verdict(&syn(5, 100), START), Verdict::Pass);
        assert_eq!(waiting.len(), 0);
        waiting.insert(syn(5, 0).flow, 7, u32::MAX - 5, START);
        assert_eq!(waiting.verdict(&syn(5, 10), START), Verdict::Pass, "numbers wrap");
    }

    #[test]
    fn only_an_exact_reset_counts() {
        let mut waiting = TimeWait::default();
        let reset = |sequence| segment(5, sequence, |tcp| tcp.set_rst(true));
        waiting.insert(syn(5, 0).flow, 7, 100, START);
        assert_eq!(waiting.verdict(&reset(101), START), Verdict::Drop);
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting.verdict(&reset(100), START), Verdict::Drop);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn memory_is_bounded_and_renewal_lasts() {
        let mut waiting = TimeWait::default();
        for port in 1..=3 * CAPACITY as u16 {
            waiting.insert(syn(port, 0).flow, 0, 0, START);
        }
        assert_eq!(waiting.len(), CAPACITY);
        let renewed = syn(3 * CAPACITY as u16, 0);
        let later = START + Duration::from_secs(30);
        waiting.insert(renewed.flow, 1, 1, later);
        assert!(matches!(
            waiting.verdict(
                &segment(renewed.flow.remote.1, 0, |tcp| tcp.set_fin(true)),
                START + LIFETIME
            ),
            Verdict::Acknowledge { own_next: 1, .. }
        ));
        assert_eq!(waiting.len(), 1);
    }
}
