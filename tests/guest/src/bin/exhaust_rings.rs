//! Rule: nobody makes more rings than its contract allows.
#![no_std]
#![no_main]

use exo_user::{Error, Kind, Start, contract, ring};
use guest_probes::ground::{self, ring_call};
use guest_probes::rule::{granted, refused, same};

exo_user::program!(main);

/// The contract's limit.
const LIMIT: usize = 2;

fn main(_: &Start<'_>) -> u64 {
    let frames: [_; 2 * LIMIT + 2] = ground::frames();
    for _ in 0..20 {
        let rings: [u32; LIMIT] = core::array::from_fn(|index| {
            // SAFETY: nothing is bound to the frames.
            granted("a ring", unsafe { ring::create(&frames[2 * index..][..2]) })
        });
        refused(ring_call(&frames[2 * LIMIT..]), Error::OverLimit);
        refused(ground::free_call(&frames[..1]), Error::FramePinned);
        for ring in rings {
            granted("to end a ring", ring::destroy(ring));
        }
        same("rings held", contract::account(Kind::Rings).held, 0);
    }
    ground::free(&frames);
    0
}
