//! Rule: a program with thousands of filters gets every packet that is for it and none of another's,
//! while another changes its filters all the time; and nobody sends in another's name.
//!
//! Arguments: `port=PORT`, where this program's packets go: each of its filters wants another port
//! that they come from. The host sends them when all such programs have said that they are ready, a
//! burst at a time, and waits for a packet from each before the next.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};
use exo_user::abi::ring::PRODUCED;
use exo_user::packet::{self, Packet};
use exo_user::{Error, Start, capability, environment, filter, println, tables, time};
use filter_language::{Builder, encode};
use guest_probes::ground::{self, GROUND};
use guest_probes::rule::{self, same};
use guest_probes::traffic::{Ring, filter as build};

exo_user::program!(main);

/// How many filters there are, from the first port on that packets come from.
const FILTERS: u32 = 5_000;
const FIRST: u16 = 10_000;
/// Each packet that the host sends is for one filter, in turn, this far from the one before.
const STEP: u32 = 37;
/// How many packets the host sends to each program, and how many in a burst.
const PACKETS: u64 = 500;
const BURST: u64 = 20;
const UDP: u8 = 17;

/// The ids of the filters.
static IDS: [AtomicU32; FILTERS as usize] = [const { AtomicU32::new(0) }; FILTERS as usize];

fn main(start: &Start<'_>) -> u64 {
    let port = start.argument("port").and_then(|port| port.parse().ok()).unwrap_or(0);
    let ring = Ring::of::<33>();
    let install = |number: u32| {
        let source = FIRST + number as u16;
        let filter = build(Builder::udp_port(port).source_port(source));
        rule::granted("a filter", filter::install(encode(&filter).as_ref(), ring.id))
    };
    for (number, id) in (0..).zip(&IDS) {
        id.store(install(number), Ordering::Relaxed);
    }
    spoof(port);
    println!("ready");
    // Filters of no packet here come and go while the others are looked up.
    let (mut taken, mut changes) = (0, 0);
    while taken < PACKETS {
        let extra = install(FILTERS + changes % 100);
        let produced = ground::load(GROUND + 8 * PRODUCED as u64);
        ring.drain();
        for _ in taken / BURST..produced / BURST {
            same("to say so", send(&datagram(own_address(), UDP, port)), Ok(1));
        }
        taken = produced;
        rule::granted("to remove it", filter::remove(extra));
        changes += 1;
        if changes % 8 == 0 {
            environment::sleep(time::now() + 200_000);
        }
    }
    rule::holds("filters came and went meanwhile", changes > 50);
    let entry = tables::rings().get(ring.id as usize).unwrap_or_default();
    same("packets dropped", entry.dropped, 0);
    same("packets delivered", entry.delivered, PACKETS);
    for (number, id) in (0..).zip(&IDS) {
        let entry = tables::filters().get(id.load(Ordering::Relaxed) as usize).unwrap_or_default();
        same("packets of a filter", entry.matches, wanted(number));
    }
    rule::granted("the ring's end", exo_user::ring::destroy(ring.id));
    0
}

/// How many packets the host sends for the filter of a number.
fn wanted(number: u32) -> u64 {
    (0..PACKETS as u32).filter(|packet| packet * STEP % FILTERS == number).count() as u64
}

fn own_address() -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = tables::system().link_address.to_le_bytes();
    [a, b, c, d, e, f]
}

fn send(frame: &[u8]) -> Result<usize, Error> {
    packet::send(&[Packet::new(frame)], capability::NETWORK)
}

/// A packet from a port, to nobody.
fn datagram(address: [u8; 6], protocol: u8, port: u16) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&address);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[23] = protocol;
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame
}

/// Tries to send what others may.
fn spoof(port: u16) {
    let own = own_address();
    let mut other = own;
    other[5] ^= 1;
    for frame in [
        datagram(other, UDP, port),
        datagram(own, UDP, port ^ 1),
        datagram(own, 6, port),
        [0xff; 60],
    ] {
        same("in another's name", send(&frame), Err(Error::NotReserved));
    }
    // The header says that it is longer: the port is somewhere else.
    let mut long = datagram(own, UDP, port);
    long[14] = 0x4f;
    same("a port behind the packet", send(&long), Err(Error::NotReserved));
}
