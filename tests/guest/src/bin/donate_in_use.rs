//! Rule: donated memory is the kernel's until it takes it: unreachable, and no call gives it back.
#![no_std]
#![no_main]

use exo_user::abi::upcall::PAGE_FAULT;
use exo_user::{Error, Start, contract, frame, tables};
use guest_probes::attempt;
use guest_probes::ground::{self, DATA, GROUND, donate_call, free_call, page};
use guest_probes::rule::{granted, refused, same};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let before = ground::held();
    let frame = ground::bound(GROUND, DATA);
    granted("a second page", ground::bind(page(1), frame, DATA));
    ground::store(GROUND, 1);
    ground::store(page(1), 2);
    refused(donate_call(&[frame, frame]), Error::BadArgument);
    // SAFETY: the ground is read and written by address alone.
    granted("to donate", unsafe { frame::donate(&[frame]) });
    for page in [GROUND, page(1)] {
        attempt::raised("to read it", attempt::read(page), PAGE_FAULT);
        attempt::raised("to write it", attempt::write(page), PAGE_FAULT);
    }
    refused(donate_call(&[frame]), Error::FramePinned);
    refused(free_call(&[frame]), Error::FramePinned);
    refused(ground::transfer_call(contract::name(), &[frame]), Error::FramePinned);
    refused(ground::ring_call(&[frame, frame]), Error::FramePinned);
    refused(ground::allocate_call(&mut [frame]), Error::FrameTaken);
    same("to bind it", ground::bind(GROUND, frame, DATA), Err(Error::NoFrame));
    same("it counts", ground::held(), before + 1);
    let entry = tables::frames().get(frame.0 as usize).unwrap_or_default();
    same("bindings to it", entry.bindings, 0);
    0
}
