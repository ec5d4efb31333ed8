//! Rule: the kernel's frames are nobody's, donated ones included.
#![no_std]
#![no_main]

use exo_user::abi::request::BindRequest;
use exo_user::abi::tables::FrameState;
use exo_user::{Error, FrameNumber, Rights, Start, capability, contract, tables};
use guest_probes::ground::{self, GROUND};
use guest_probes::{neighbour, rule};

exo_user::program!(main);

fn bind(frame: FrameNumber) -> Result<(), Error> {
    ground::bind(GROUND, frame, Rights::READ)
}

fn main(_: &Start<'_>) -> u64 {
    let total = tables::system().frames_total as u32;
    let reserved = tables::frames()
        .iter()
        .filter(|(_, entry)| entry.state == FrameState::Reserved as u8)
        .map(|(number, _)| FrameNumber(number as u32));
    let beyond = [total, total + 1, 1 << 31, u32::MAX - 1].map(FrameNumber);
    for frame in reserved.step_by(7).chain(beyond) {
        rule::same("to bind a reserved frame", bind(frame), Err(Error::NoFrame));
        rule::refused(ground::allocate_call(&mut [frame]), Error::NoFrame);
        rule::refused(ground::free_call(&[frame]), Error::NoFrame);
        rule::refused(ground::donate_call(&[frame]), Error::NoFrame);
    }
    rule::same("to bind any frame", bind(FrameNumber::ANY), Err(Error::NoFrame));
    let own = contract::name().index();
    for (slot, error) in
        [(own, Error::FramePinned), (neighbour::witness().index(), Error::NotOwner)]
    {
        let donated = ground::frame_of(slot, FrameState::Donated);
        rule::same("to bind a donated frame", bind(donated), Err(Error::NoFrame));
        rule::refused(ground::free_call(&[donated]), error);
        rule::refused(ground::donate_call(&[donated]), error);
        rule::refused(ground::allocate_call(&mut [donated]), Error::FrameTaken);
    }
    let free = ground::frame_of(0, FrameState::Free);
    let request = BindRequest::new(GROUND, free, Rights::READ, capability::OWN);
    rule::refused(ground::bind_call(&[request]), Error::NoFrame);
    rule::refused(ground::free_call(&[free]), Error::NotOwner);
    0
}
