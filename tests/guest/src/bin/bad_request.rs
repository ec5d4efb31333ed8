//! Rule: an environment is made of what its maker has, and of no less than it needs.
#![no_std]
#![no_main]

use exo_user::abi::request::EnvironmentRequest;
use exo_user::abi::tables::FrameState;
use exo_user::{Call, Capability, Error, FrameNumber, Kind, Start, capability, contract};
use guest_probes::rule::{refused, same};
use guest_probes::{child, ground, neighbour};

exo_user::program!(main);

/// What is wrong with a request, and what it gets.
type Fault = (fn(&mut EnvironmentRequest), Error);

const FAULTS: [Fault; 14] = [
    (|request| request.donation_count -= 1, Error::TooFewFrames),
    (|request| request.donation_count = 0, Error::TooFewFrames),
    (|request| request.donation_count = 513, Error::TooLong),
    (|request| request.donation_count = u64::MAX, Error::TooLong),
    (|request| request.donation = 0xffff_8000_0000_0000, Error::BadAddress),
    (|request| request.tlb_frames = 0, Error::BadArgument),
    (|request| request.tlb_frames = u64::MAX, Error::BadArgument),
    (|request| request.capability = 9, Error::NoCapability),
    (|request| request.capability = u64::MAX, Error::NoCapability),
    (|request| request.guard = Capability::ROOT.to_words(), Error::NotDominated),
    (|request| request.guard = [u64::MAX; 2], Error::BadArgument),
    (|request| request.limits[Kind::Frames as usize] = u64::MAX, Error::OverLimit),
    (|request| request.limits[Kind::Slices as usize] = 1000, Error::OverLimit),
    (|request| request.floors[Kind::Frames as usize] = u64::MAX, Error::BelowFloor),
];

fn create(request: &EnvironmentRequest) -> Call {
    Call::EnvironmentCreate { request: core::ptr::from_ref(request) as u64 }
}

fn main(_: &Start<'_>) -> u64 {
    let (mut request, mut frames, count) = child::request("child", 0);
    request.donation = frames.as_ptr() as u64;
    let before = contract::account(Kind::Frames);
    for (change, error) in FAULTS {
        let mut forged = request;
        change(&mut forged);
        refused(create(&forged), error);
    }
    let mut less = request;
    less.limits[Kind::Frames as usize] = count as u64 - 1;
    refused(create(&less), Error::OverLimit);
    let mut archive = request;
    archive.capability = capability::ARCHIVE.into();
    refused(create(&archive), Error::NotDominated);
    let last = frames[count - 1];
    for (frame, error) in [
        (frames[0], Error::BadArgument),
        (ground::frame_of(neighbour::witness().index(), FrameState::Held), Error::NotOwner),
        (ground::frame_of(contract::name().index(), FrameState::Donated), Error::FramePinned),
        (FrameNumber(0), Error::NoFrame),
        (FrameNumber::ANY, Error::NoFrame),
    ] {
        frames[count - 1] = frame;
        request.donation = frames.as_ptr() as u64;
        refused(create(&request), error);
    }
    frames[count - 1] = last;
    same("the account", contract::account(Kind::Frames), before);
    ground::free(&frames[..count]);
    0
}
