//! Rule: nobody takes more frames than its contract allows, and the others lack none.
#![no_std]
#![no_main]

use exo_user::{Error, FrameNumber, Kind, Start, contract};
use guest_probes::ground::{self, allocate_call};
use guest_probes::rule::{holds, refused, same};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let before = contract::account(Kind::Frames);
    let spare = (before.limit - before.held) as usize;
    holds("the program has less than a list", spare < 500);
    for _ in 0..3 {
        let mut list = [FrameNumber::ANY; 512];
        refused(allocate_call(&mut list), Error::OverLimit);
        refused(allocate_call(&mut list[..spare + 1]), Error::OverLimit);
        same("what was refused is not held", ground::held(), before.held);
        let frames: [FrameNumber; 512] = core::array::from_fn(|index| {
            if index < spare { ground::frames::<1>()[0] } else { FrameNumber::ANY }
        });
        refused(allocate_call(&mut [FrameNumber::ANY]), Error::OverLimit);
        refused(allocate_call(&mut [frames[0]]), Error::OverLimit);
        same("all is held", ground::held(), before.limit);
        ground::free(&frames[..spare]);
        same("all is given back", ground::held(), before.held);
    }
    same("the limit", contract::account(Kind::Frames).limit, before.limit);
    0
}
