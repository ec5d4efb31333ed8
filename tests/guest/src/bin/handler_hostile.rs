//! Rule: a handler reaches its packet, its frame and its reply, and nothing else; what is refused
//! changes nothing; one that is ended leaves its packet to the ring.
//!
//! The host sends twenty packets whenever it reads that this program is ready.
#![no_std]
#![no_main]

use exo_user::{Call, Error, Start, capability, environment, handler, println, time};
use filter_language::Builder;
use guest_probes::bytecode::{EXIT, constant, copy, help, slot};
use guest_probes::ground::{self, DATA, GROUND, page};
use guest_probes::rule::{self, refused};
use guest_probes::traffic::{self, Ring};

exo_user::program!(main);

const PORT: u16 = 4012;
/// How many packets the host sends at once.
const BURST: u64 = 20;

/// What no handler may do.
const REFUSED: [&[[u8; 8]]; 18] = [
    // Nothing in the result; a pointer in it.
    &[EXIT],
    &[copy(0, 1), EXIT],
    // No end, and the middle of a constant.
    &[constant(0, 0)],
    &[slot(0x05, 0, 0, 1, 0), slot(0x18, 0, 0, 0, 1), slot(0, 0, 0, 0, 0), EXIT],
    &[slot(0x05, 0, 0, 9, 0), EXIT],
    // Reads: a number as an address, before the packet, behind the state, of the stack.
    &[slot(0x79, 0, 5, 0, 0), EXIT],
    &[slot(0x71, 0, 1, -1, 0), EXIT],
    &[slot(0x79, 0, 3, 4089, 0), EXIT],
    &[slot(0x79, 0, 10, -8, 0), EXIT],
    &[slot(0x79, 0, 10, 0, 0), EXIT],
    // Writes: the packet, behind the state, a pointer where it can be seen.
    &[slot(0x72, 1, 0, 0, 7), constant(0, 0), EXIT],
    &[slot(0x7a, 3, 0, 4096, 7), constant(0, 0), EXIT],
    &[slot(0x7b, 3, 1, 0, 0), constant(0, 0), EXIT],
    // Helpers: none of that number, wrong kinds, functions of the program.
    &[help(9), EXIT],
    &[copy(1, 3), constant(2, 1), help(1), EXIT],
    &[slot(0x85, 0, 1, 0, 0), EXIT],
    // Atomic operations, and what is no instruction.
    &[slot(0xdb, 3, 2, 0, 0), constant(0, 0), EXIT],
    &[[0xff; 8], EXIT],
];

/// What is ended by its guards or its fuel.
const TRAPS: [&[[u8; 8]]; 4] = [
    // The last byte of the longest packet.
    &[slot(0x71, 0, 1, 1513, 0), EXIT],
    // The reply, which is empty.
    &[slot(0x72, 4, 0, 0, 7), constant(0, 1), EXIT],
    // The state, as far away as the filter's number says, times much.
    &[
        slot(0x07, 5, 0, 0, 1),
        slot(0x67, 5, 0, 0, 40),
        slot(0x0f, 3, 5, 0, 0),
        slot(0x72, 3, 0, 0, 7),
        constant(0, 1),
        EXIT,
    ],
    // For ever.
    &[slot(0x05, 0, 0, -1, 0)],
];

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::create();
    traffic::install(Builder::udp_port(PORT), ring);
    let state = ground::bound(page(1), DATA);
    let beside = ground::bound(page(2), DATA);
    ground::store(page(2), 0x5a5a);
    let call = |ring, program: &[[u8; 8]], state| Call::HandlerInstall {
        ring,
        capability: capability::NETWORK,
        address: program.as_ptr() as u64,
        length: 8 * program.len() as u64,
        state,
    };
    for program in REFUSED {
        refused(call(ring.id, program, state.0), Error::BadProgram);
    }
    let good = [constant(0, 0), EXIT];
    refused(call(ring.id + 1, &good, state.0), Error::NoRing);
    refused(call(u32::MAX, &good, state.0), Error::NoRing);
    refused(call(ring.id, &good, 0), Error::NoFrame);
    refused(call(ring.id, &good, u32::MAX), Error::NoFrame);
    refused(call(ring.id, &good, ring.frames[0].0), Error::FramePinned);
    for (address, length, error) in [
        (GROUND + 3 * 4096, 16, Error::NotBound),
        (0xffff_8000_0000_0000, 16, Error::BadAddress),
        (u64::MAX - 7, 16, Error::BadAddress),
        (GROUND, 4097, Error::TooLong),
        (GROUND, u64::MAX, Error::TooLong),
        (page(1), 4095, Error::BadProgram),
    ] {
        let (ring, capability, state) = (ring.id, capability::NETWORK, state.0);
        refused(Call::HandlerInstall { ring, capability, address, length, state }, error);
    }
    let mut expected = 0;
    for program in TRAPS {
        // SAFETY: the ground is read and written by address alone.
        let installed =
            unsafe { handler::install(ring.id, capability::OWN, program.as_flattened(), state) };
        rule::granted("a handler that will be ended", installed);
        expected += BURST;
        println!("ready");
        while ring.arrived() < expected {
            environment::sleep(time::now() + 1_000_000);
        }
        ring.drain();
    }
    rule::same("packets", ring.arrived(), expected);
    rule::same("the page beside the state", ground::load(page(2)), 0x5a5a);
    rule::same("the state", ground::load(page(1)), 0);
    let list = [state];
    refused(ground::free_call(&list), Error::FramePinned);
    // The ring takes its handler and the pins with it.
    rule::granted("the ring's end", exo_user::ring::destroy(ring.id));
    ground::free(&[state, beside]);
    0
}
