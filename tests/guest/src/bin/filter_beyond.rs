//! Rule: a filter reads no byte behind the packet.
//!
//! The host sends short packets first, and then one that is long enough.
#![no_std]
#![no_main]

use exo_user::{Error, Start, environment, filter, println, time};
use filter_language::{Builder, encode};
use guest_probes::ground::{GROUND, load};
use guest_probes::rule::{holds, same};
use guest_probes::traffic::{Ring, install};
use packet_filters::{Atom, MAX_ENCODED, MAX_END, Width};

exo_user::program!(main);

/// The port that the contract reserves.
const PORT: u16 = 4001;
/// The largest packet, in which the last byte is the one that the filter wants.
const LAST: u16 = 1513;

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::create();
    let last = Atom::exact(LAST, Width::One, 0x5a);
    install(Builder::udp_port(PORT).compare(last), ring);
    // No filter reaches further than any packet, not even one that is written by hand.
    let encoded = encode(&guest_probes::traffic::filter(Builder::udp_port(PORT)));
    let length = encoded.as_ref().len();
    let mut bytes = [0; MAX_ENCODED];
    bytes[..length].copy_from_slice(encoded.as_ref());
    for offset in [MAX_END - 1, MAX_END, u16::MAX] {
        // Behind the version, the number of atoms and the width of the first.
        bytes[3..5].copy_from_slice(&offset.to_be_bytes());
        same("a far offset", filter::install(&bytes[..length], ring.id), Err(Error::BadFilter));
    }
    println!("ready");
    while ring.arrived() == 0 {
        environment::sleep(time::now() + time::MILLISECOND);
    }
    same("packets that matched", ring.arrived(), 1);
    let descriptor = exo_user::abi::ring::HEADER_WORDS as u64;
    let length = load(GROUND + 8 * descriptor) & 0xffff;
    same("the length of the packet that matched", length, 1514);
    holds("the ring is the program's to end", exo_user::ring::destroy(ring.id).is_ok());
    0
}
