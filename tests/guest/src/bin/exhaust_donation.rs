//! Rule: page tables are a cache: a program that spreads its pages loses speed and nothing else.
//!
//! Wired pages are refused when there is no place for them left.
#![no_std]
#![no_main]

use exo_user::{Error, Rights, Start, binding, frame};
use guest_probes::ground::{self, DATA, GROUND};
use guest_probes::rule::{self, granted, holds, same};

exo_user::program!(main);

/// How far the pages are apart: each needs page tables of its own.
const STRIDES: [u64; 3] = [1 << 21, 1 << 30, 1 << 39];
/// How many pages are spread with each stride.
const PAGES: u64 = 60;

fn main(_: &Start<'_>) -> u64 {
    let [frame] = ground::frames();
    granted("the frame", ground::bind(GROUND, frame, DATA | Rights::WIRED));
    ground::store(GROUND, 0x600d);
    for stride in STRIDES {
        for page in (1..=PAGES).map(|index| GROUND + index * stride) {
            granted("a page far away", ground::bind(page, frame, DATA));
            same("what is there", ground::load(page), 0x600d);
        }
        for page in (1..=PAGES).map(|index| GROUND + index * stride) {
            // SAFETY: nothing refers to the page.
            granted("to unbind it", unsafe { binding::unbind(page, 1) });
        }
    }
    // Wired pages until there is no place.
    let wired = DATA | Rights::WIRED;
    let mut bound = 0;
    let error = loop {
        match ground::bind(ground::page(1 + bound), frame, wired) {
            Ok(()) => bound += 1,
            Err(error) => break error,
        }
        holds("there is an end of it", bound < 100_000);
    };
    same("no place for wired pages", error, Error::TlbFull);
    same("the first of them", ground::load(ground::page(1)), 0x600d);
    same("the last of them", ground::load(ground::page(bound)), 0x600d);
    // SAFETY: nothing refers to the pages.
    let unbound = granted("to unbind them", unsafe { binding::unbind(ground::page(1), bound) });
    same("pages unbound", unbound, bound);
    // All that the contract allows becomes kernel memory; the kernel has a use for it.
    while let Ok(frame) = frame::allocate_any(0) {
        // SAFETY: nothing is bound to it.
        granted("to donate", unsafe { frame::donate(&[frame]) });
    }
    rule::refused(ground::donate_call(&[exo_user::FrameNumber(0)]), Error::NoFrame);
    same("what is there", ground::load(GROUND), 0x600d);
    0
}
