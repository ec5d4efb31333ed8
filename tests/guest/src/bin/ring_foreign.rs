//! Rule: a ring is made of its owner's frames, each once, and is its owner's alone.
#![no_std]
#![no_main]

use exo_user::abi::tables::FrameState;
use exo_user::{Call, Error, FrameNumber, Start, contract, tables};
use guest_probes::ground::{self, ring_call};
use guest_probes::neighbour;
use guest_probes::rule::{refused, same};
use guest_probes::traffic::Ring;

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let [own, second] = ground::frames();
    for (frame, error) in [
        (ground::frame_of(neighbour::witness().index(), FrameState::Held), Error::NotOwner),
        (ground::frame_of(0, FrameState::Held), Error::NotOwner),
        (ground::frame_of(0, FrameState::Free), Error::NotOwner),
        (ground::frame_of(contract::name().index(), FrameState::Donated), Error::FramePinned),
        (FrameNumber(0), Error::NoFrame),
        (FrameNumber(u32::MAX), Error::NoFrame),
        (own, Error::BadArgument),
    ] {
        refused(ring_call(&[own, frame]), error);
        refused(ring_call(&[frame, own]), error);
    }
    refused(ring_call(&[]), Error::BadArgument);
    refused(ring_call(&[own]), Error::BadArgument);
    refused(ring_call(&[own; 130]), Error::TooLong);
    let list = [own, second].as_ptr() as u64;
    refused(Call::RingCreate { list, count: u64::MAX }, Error::TooLong);
    let before = tables::frames().get(own.0 as usize).map(|entry| entry.pins);
    same("pins after what was refused", before, Some(0));
    for (id, entry) in tables::rings().iter() {
        if entry.holder != contract::name().0 {
            refused(Call::RingDestroy { ring: id as u32 }, Error::NoRing);
        }
    }
    refused(Call::RingDestroy { ring: u32::MAX }, Error::NoRing);
    let ring = Ring::create();
    refused(ring_call(&[own, ring.frames[1]]), Error::FramePinned);
    0
}
