//! Rule: a frame is reached by those who dominate its guard, and disposed of by its owner.
#![no_std]
#![no_main]

use exo_user::abi::request::BindRequest;
use exo_user::abi::tables::FrameState;
use exo_user::{Error, Rights, Start, capability};
use guest_probes::ground::{self, DATA, GROUND, TEXT, page};
use guest_probes::{neighbour, rule};

exo_user::program!(main);

fn main(start: &Start<'_>) -> u64 {
    for victim in [neighbour::first(), neighbour::witness()] {
        let frame = ground::frame_of(victim.index(), FrameState::Held);
        for rights in [Rights::READ, DATA, TEXT] {
            let request = BindRequest::new(GROUND, frame, rights, capability::OWN);
            rule::refused(ground::bind_call(&[request]), Error::NotDominated);
            let request = BindRequest::new(GROUND, frame, rights, capability::REVOKE);
            rule::refused(ground::bind_call(&[request]), Error::NoCapability);
        }
        rule::refused(ground::free_call(&[frame]), Error::NotOwner);
        rule::refused(ground::donate_call(&[frame]), Error::NotOwner);
        rule::refused(ground::ring_call(&[frame, frame]), Error::NotOwner);
        rule::refused(ground::allocate_call(&mut [frame]), Error::FrameTaken);
    }
    let archive = start.archive_frame;
    for rights in [DATA, TEXT] {
        let request = BindRequest::new(GROUND, archive, rights, capability::ARCHIVE);
        rule::refused(ground::bind_call(&[request]), Error::NotDominated);
    }
    // One good request does not carry a bad one.
    let [own] = ground::frames();
    let good = BindRequest::new(page(1), own, DATA, capability::OWN);
    let bad = BindRequest::new(page(2), archive, DATA, capability::ARCHIVE);
    guest_probes::attempt::prepare();
    rule::refused(ground::bind_call(&[good, bad]), Error::NotDominated);
    let fault = guest_probes::attempt::read(page(1));
    rule::holds("the good request of a bad batch was not carried out", fault.is_some());
    0
}
