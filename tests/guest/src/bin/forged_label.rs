//! Rule: a label is text, and no program gives a child the label of the kernel or of a forebear.
//!
//! The test reads the console too: a child that was made all the same would speak as another.
#![no_std]
#![no_main]

use exo_user::{Call, Error, Start};
use guest_probes::child;
use guest_probes::ground;
use guest_probes::rule::{granted, refused, same};

exo_user::program!(main);

/// What would be shown as somebody else's line, or not as a label at all.
const FORGED: [&str; 8] = [
    "kernel",
    "init",
    "forged_label",
    "x]\n[kernel] boo",
    "\r[kernel",
    "\u{1b}[2J",
    "a b",
    "x] y [z",
];

fn main(_: &Start<'_>) -> u64 {
    let before = ground::held();
    for label in FORGED {
        let (mut request, frames, count) = child::request(label, 0);
        request.donation = frames.as_ptr() as u64;
        let create = Call::EnvironmentCreate { request: &raw const request as u64 };
        refused(create, Error::BadArgument);
        ground::free(&frames[..count]);
    }
    // Bytes behind the end of a label are not hidden there.
    let (mut request, frames, count) = child::request("a", 0);
    request.donation = frames.as_ptr() as u64;
    request.label[5] = b'b';
    let create = Call::EnvironmentCreate { request: &raw const request as u64 };
    refused(create, Error::BadArgument);
    ground::free(&frames[..count]);
    let good = granted("an honest label", child::create("honest-1.x_y", 0));
    child::remove(good);
    same("frames held", ground::held(), before);
    0
}
