//! Rule: a frame is freed once, by its owner, and is out of reach from then on.
#![no_std]
#![no_main]

use exo_user::{Error, FrameNumber, Start};
use guest_probes::attempt;
use guest_probes::ground::{self, DATA, GROUND, free_call};
use guest_probes::rule::{refused, same};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let before = ground::held();
    let frame = ground::bound(GROUND, DATA);
    let [other] = ground::frames();
    refused(free_call(&[frame, frame]), Error::BadArgument);
    refused(free_call(&[other, frame, other]), Error::BadArgument);
    refused(free_call(&[frame, FrameNumber(0)]), Error::NoFrame);
    refused(free_call(&[frame, FrameNumber::ANY]), Error::NoFrame);
    same("the page after what was refused", attempt::write(GROUND), None);
    ground::free(&[frame]);
    let fault = attempt::read(GROUND);
    attempt::raised("a page without a frame", fault, exo_user::abi::upcall::PAGE_FAULT);
    refused(free_call(&[frame]), Error::NotOwner);
    same("the other frame is kept", ground::held(), before + 1);
    refused(free_call(&[other, frame]), Error::NotOwner);
    same("the other frame is kept", ground::held(), before + 1);
    ground::free(&[other]);
    same("frames held", ground::held(), before);
    0
}
