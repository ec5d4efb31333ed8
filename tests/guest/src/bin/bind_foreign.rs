//! Rule: a frame is reached by those who dominate its guard, and disposed of by its owner.
#![no_std]
#![no_main]

use exo_user::abi::layout::{BIND_MAX, USER_END};
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::request::BindRequest;
use exo_user::abi::tables::FrameState;
use exo_user::{Error, FrameNumber, Rights, Start, capability};
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
    runs(own);
    0
}

/// Requests for many pages that begin well: over the end of what can be bound, of the frame table, of
/// what is held, of every number.
fn runs(own: FrameNumber) {
    let run = |page, frame, count| BindRequest::run(page, frame, count, DATA, capability::OWN);
    let table = exo_user::tables::system().frames_total as u32;
    for (request, error) in [
        (run(USER_END - PAGE_SIZE, own, 2), Error::BadAddress),
        (run(USER_END - PAGE_SIZE, own, BIND_MAX), Error::BadAddress),
        (run(0_u64.wrapping_sub(PAGE_SIZE), own, 2), Error::BadAddress),
        (run(page(1), FrameNumber(table - 1), 2), Error::NoFrame),
        (run(page(1), FrameNumber(u32::MAX), 2), Error::NoFrame),
        (run(page(1), own, BIND_MAX + 1), Error::TooLong),
        (run(page(1), own, 1 << 16), Error::TooLong),
    ] {
        rule::refused(ground::bind_call(&[request]), error);
    }
    let most = run(page(1), own, BIND_MAX);
    rule::refused(ground::bind_call(&[run(page(1), own, 1), most]), Error::TooLong);
    // Nobody has given us so many frames in a row.
    rule::refused_with(ground::bind_call(&[most]), &[Error::NoFrame, Error::NotDominated]);
    let fault = guest_probes::attempt::read(page(1));
    rule::holds("nothing of a bad run was bound", fault.is_some());
}
