//! Rule: what the kernel writes to is not given away under its hands.
#![no_std]
#![no_main]

use exo_user::{EnvName, Error, Start, contract, ring, tables};
use guest_probes::ground::{self, donate_call, free_call, transfer_call};
use guest_probes::rule::{granted, refused, same};
use guest_probes::traffic::Ring;

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::create();
    for frame in ring.frames {
        refused(free_call(&[frame]), Error::FramePinned);
        refused(donate_call(&[frame]), Error::FramePinned);
        refused(transfer_call(EnvName::NONE, &[frame]), Error::FramePinned);
        refused(transfer_call(contract::name(), &[frame]), Error::FramePinned);
        refused(ground::ring_call(&[frame, frame]), Error::FramePinned);
    }
    granted("to end the ring", ring::destroy(ring.id));
    refused(exo_user::Call::RingDestroy { ring: ring.id }, Error::NoRing);
    for frame in ring.frames {
        let pins = tables::frames().get(frame.0 as usize).map(|entry| entry.pins);
        same("pins", pins, Some(0));
    }
    ground::free(&ring.frames);
    0
}
