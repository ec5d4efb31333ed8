//! Rule: a surrender list is a claim. What it names of the owner's goes first, saved where it says;
//! whatever else stands there is struck out, and nobody else notices.
//!
//! The program `taker` takes four frames of this one.
#![no_std]
#![no_main]

use exo_user::abi::tables::FrameState;
use exo_user::revocation::{self, Surrender};
use exo_user::{FrameNumber, Kind, Start, contract, loss, tables};
use guest_probes::attempt;
use guest_probes::ground::{self, DATA, page};
use guest_probes::neighbour;
use guest_probes::rule::{self, holds, same};

exo_user::program!(main);

const FRAMES: usize = 40;
/// With so many frames, the taker comes.
const FULL: u64 = 130;
const TAKEN: usize = 4;

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let frames = ground::frames::<FRAMES>();
    for (index, &frame) in (0..).zip(&frames) {
        rule::granted("a page", ground::bind(page(index), frame, DATA));
        ground::store(page(index), u64::from(frame.0));
    }
    let witness = ground::frame_of(neighbour::witness().index(), FrameState::Held);
    let generation = tables::frames().get(witness.0 as usize).unwrap_or_default().generation;
    let own_table = ground::frame_of(contract::name().index(), FrameState::Donated);
    let nowhere = FrameNumber(0);
    let entry = |name: u64, save| Surrender { kind: Kind::Frames, name, save };
    let own = |index: usize, save| entry(frames[index].0.into(), save);
    revocation::publish(&[
        entry(witness.0.into(), nowhere),
        entry(own_table.0.into(), nowhere),
        entry(1 << 40, nowhere),
        entry((1 << 56) - 1, nowhere),
        own(20, witness),
        own(21, frames[21]),
        own(22, own_table),
        own(23, FrameNumber(u32::MAX)),
        Surrender { kind: Kind::Slices, name: u64::MAX >> 8, save: nowhere },
        own(30, frames[3]),
        own(31, nowhere),
        // Its place has just been taken.
        own(32, frames[30]),
        own(33, nowhere),
    ]);
    holds("the taker waits", ground::held() < FULL);
    while ground::held() < FULL {
        ground::frames::<1>();
    }
    ground::wait_for_loss();
    let mut told = [nowhere; TAKEN];
    let mut count = 0;
    let read = loss::Reader::new().frames(|frame| {
        told[count % TAKEN] = frame;
        count += 1;
    });
    rule::granted("to read the record", read);
    same("losses", count, TAKEN);
    same(
        "what was listed goes first",
        [told[0], told[1], told[2]],
        [30, 31, 33].map(|i| frames[i]),
    );
    same("what was saved", ground::load(page(3)), frames[30].0.into());
    for index in (0..FRAMES as u64).filter(|index| ![3, 30, 31, 33].contains(index)) {
        let frame = frames[index as usize];
        if frame != told[3] {
            same("a page that was kept", ground::load(page(index)), frame.0.into());
        }
    }
    let after = tables::frames().get(witness.0 as usize).unwrap_or_default();
    same("the witness's frame", after.generation, generation);
    0
}
