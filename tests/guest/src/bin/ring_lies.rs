//! Rule: whatever the owner of a ring writes into it, the kernel writes nowhere else.
//!
//! The host sends twenty packets whenever it reads that this program is ready.
#![no_std]
#![no_main]

use exo_user::abi::ring::{CONSUMED, DROPPED, HEADER_WORDS, PRODUCED, SLOTS};
use exo_user::{Start, environment, println, time};
use filter_language::Builder;
use guest_probes::random::Random;
use guest_probes::traffic::{self, Ring};
use guest_probes::{ground, rule};

exo_user::program!(main);

const PORT: u16 = 4004;
/// How many packets have to arrive.
const PACKETS: u64 = 200;
/// How many the host sends at once.
const BURST: u64 = 20;

fn main(start: &Start<'_>) -> u64 {
    let ring = Ring::create();
    traffic::install(Builder::udp_port(PORT), ring);
    // What lies beside the ring, as pages and as frames.
    let beside = ground::bound(ground::page(1), ground::DATA);
    ground::store(ground::page(1), 0x5a5a);
    let mut random = Random::new(start.seed);
    let mut asked = 0;
    while ring.arrived() < PACKETS {
        if ring.arrived() >= asked {
            asked += BURST;
            println!("ready");
        }
        for word in [PRODUCED, CONSUMED, SLOTS, DROPPED] {
            let lies = [0, 1, 2, 3, 1 << 31, 1 << 63, u64::MAX, u64::MAX - 1, random.next()];
            ring.set(word, random.one_of(&lies));
        }
        ring.set(HEADER_WORDS + random.below(500) as usize, random.next());
        if random.below(4) == 0 {
            // An honest moment, so that some packets find a place.
            ring.set(CONSUMED, ring.delivered());
        }
        environment::sleep(time::now() + 200_000);
    }
    rule::holds("some packets found a place", ring.delivered() > 0);
    rule::same("the page beside the ring", ground::load(ground::page(1)), 0x5a5a);
    let pins = exo_user::tables::frames().get(beside.0 as usize).map(|entry| entry.pins);
    rule::same("pins of the frame beside the ring", pins, Some(0));
    0
}
