//! Rule: a handler answers a packet before its owner runs, with its owner's right to send and not
//! without; and what it does not keep reaches the ring.
//!
//! The host sends packets whenever it reads that this program is ready, and waits for their echo.
#![no_std]
#![no_main]

use exo_user::{Start, capability, environment, handler, println, time};
use filter_language::Builder;
use guest_probes::bytecode::{EXIT, constant, copy, help, slot};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule;
use guest_probes::traffic::{self, Ring};

exo_user::program!(main);

const PORT: u16 = 4011;
/// How many packets are echoed, and then how many are not.
const PACKETS: u64 = 20;

/// Counts in the state's first word what it sees, and in the second its replies. Sends the packet back
/// with addresses and ports exchanged, and keeps what is sent.
const ECHO: [[u8; 8]; 46] = [
    // Count.
    copy(7, 3),
    slot(0x79, 0, 7, 0, 0),
    slot(0x07, 0, 0, 0, 1),
    slot(0x7b, 7, 0, 0, 0),
    // Too short to be one.
    constant(0, 0),
    slot(0xa5, 2, 0, 39, 42),
    // The reply is the packet.
    copy(6, 1),
    copy(8, 2),
    copy(9, 4),
    help(1),
    constant(0, 0),
    copy(1, 9),
    // Link addresses, 6 bytes each.
    slot(0x61, 2, 1, 0, 0),
    slot(0x69, 3, 1, 4, 0),
    slot(0x61, 4, 1, 6, 0),
    slot(0x69, 5, 1, 10, 0),
    slot(0x63, 1, 4, 0, 0),
    slot(0x6b, 1, 5, 4, 0),
    slot(0x63, 1, 2, 6, 0),
    slot(0x6b, 1, 3, 10, 0),
    // Addresses, 4 bytes each, at 26.
    slot(0x61, 2, 1, 26, 0),
    slot(0x61, 3, 1, 30, 0),
    slot(0x63, 1, 3, 26, 0),
    slot(0x63, 1, 2, 30, 0),
    // Ports, 2 bytes each, at 34.
    slot(0x69, 2, 1, 34, 0),
    slot(0x69, 3, 1, 36, 0),
    slot(0x6b, 1, 3, 34, 0),
    slot(0x6b, 1, 2, 36, 0),
    // No checksum.
    slot(0x6a, 1, 0, 40, 0),
    // The whole packet goes into the state, too, behind the counters.
    copy(1, 6),
    constant(2, 42),
    copy(3, 7),
    slot(0x07, 3, 0, 0, 64),
    help(2),
    slot(0x7b, 7, 0, 16, 0),
    // Send.
    copy(1, 8),
    help(3),
    copy(6, 0),
    slot(0x79, 1, 7, 8, 0),
    slot(0x0f, 1, 6, 0, 0),
    slot(0x7b, 7, 1, 8, 0),
    // 3 if it was sent: keep it, and be quiet about it.
    copy(0, 6),
    slot(0x27, 0, 0, 0, 3),
    EXIT,
    EXIT,
    EXIT,
];

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::create();
    traffic::install(Builder::udp_port(PORT), ring);
    let state = ground::bound(page(1), DATA);
    let word = |index: u64| ground::load(page(1) + 8 * index);
    // SAFETY: the ground is read and written by address alone.
    let install = |slot| unsafe { handler::install(ring.id, slot, ECHO.as_flattened(), state) };
    rule::granted("a handler", install(capability::NETWORK));
    println!("ready");
    // Nothing happens to this program until a packet is passed on, which is the last: too short.
    let mut woken = 0;
    while ring.arrived() == 0 {
        environment::sleep(u64::MAX);
        woken += 1;
    }
    rule::same("packets seen", word(0), PACKETS + 1);
    rule::same("packets sent", word(1), PACKETS);
    rule::holds("this program was woken once at most", woken <= 1);
    rule::holds("the packet's bytes are in the state", ground::load(page(1) + 96) != 0);
    rule::holds("their sum has 16 bits", word(2) < 1 << 16);
    // The same handler without the right to send keeps nothing, whatever its result is.
    rule::granted("another handler", install(capability::OWN));
    println!("silent");
    while ring.arrived() < 1 + PACKETS {
        environment::sleep(time::now() + 1_000_000);
    }
    rule::same("packets seen", word(0), 2 * PACKETS + 1);
    rule::granted("no handler", handler::remove(ring.id));
    ground::free(&[state]);
    0
}
