//! Rule: a frame that is taken is zero, whatever was in it and whoever had it.
#![no_std]
#![no_main]

use exo_user::{FrameNumber, Start, capability, frame};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{granted, same};

exo_user::program!(main);

const FRAMES: usize = 32;
const SECRET: u64 = 0x5ec4_e75e_c4e7;

fn main(_: &Start<'_>) -> u64 {
    let mut frames: [FrameNumber; FRAMES] = ground::frames();
    for round in 0..20 {
        for (index, &frame) in (0..).zip(&frames) {
            granted("a page", ground::bind(page(index), frame, DATA));
            for word in 0..512 {
                let found = ground::load(page(index) + 8 * word);
                same(format_args!("word {word} of frame {frame:?}"), found, 0);
            }
            for word in 0..512 {
                ground::store(page(index) + 8 * word, SECRET ^ word);
            }
        }
        ground::free(&frames);
        if round % 2 == 0 {
            // The very same ones, by number; if somebody was quicker, any.
            if frame::allocate(&mut frames, capability::OWN).is_err() {
                frames = ground::frames();
            }
        } else {
            frames = ground::frames();
        }
    }
    0
}
