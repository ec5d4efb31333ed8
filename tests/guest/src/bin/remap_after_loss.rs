//! Rule: a frame that was taken by force is out of reach, and is told as lost.
//!
//! The program `taker` takes frames of this one.
#![no_std]
#![no_main]

use exo_user::abi::upcall::{FaultCode, PAGE_FAULT};
use exo_user::{Error, Kind, Start, contract, loss, tables};
use guest_probes::attempt::{self, Fault};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{self, holds, same};

exo_user::program!(main);

const FRAMES: usize = 60;

fn lost(fault: Option<Fault>, address: u64) {
    let told = fault.is_some_and(|fault| {
        let code = FaultCode::from_bits_truncate(fault.code);
        fault.cause == PAGE_FAULT && fault.address == address && code.contains(FaultCode::LOST)
    });
    holds(format_args!("{address:#x} is told as lost: {fault:x?}"), told);
}

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let frames = ground::frames::<FRAMES>();
    for (index, &frame) in (0..).zip(&frames) {
        rule::granted("a page", ground::bind(page(index), frame, DATA));
        ground::store(page(index), u64::from(frame.0));
    }
    ground::wait_for_loss();
    let mut told = [false; FRAMES];
    let mut count = 0;
    let read = loss::Reader::new().frames(|frame| {
        let place = frames.iter().position(|&own| own == frame);
        holds(format_args!("{frame:?} was this program's"), place.is_some());
        told[place.unwrap_or(0)] = true;
        count += 1;
    });
    rule::granted("to read the record", read);
    same("losses told", count, contract::account(Kind::Frames).repossessed);
    for (index, &frame) in (0..).zip(&frames) {
        if !told[index as usize] {
            same("a page that was kept", ground::load(page(index)), u64::from(frame.0));
            continue;
        }
        lost(attempt::read(page(index)), page(index));
        lost(attempt::write(page(index)), page(index));
        let again = ground::bind(page(index), frame, DATA);
        let expected = [Err(Error::NoFrame), Err(Error::NotDominated)];
        holds(format_args!("binding it again: {again:?}"), expected.contains(&again));
        rule::refused(ground::free_call(&[frame]), Error::NotOwner);
        rule::refused(ground::ring_call(&[frame, frame]), Error::NotOwner);
        let entry = tables::frames().get(frame.0 as usize).unwrap_or_default();
        holds("it is not this program's", usize::from(entry.owner) != contract::name().index());
    }
    0
}
