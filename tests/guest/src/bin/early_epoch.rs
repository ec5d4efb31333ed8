//! Rule: only losses that have happened are acknowledged, and only of what is recorded.
#![no_std]
#![no_main]

use exo_user::abi::contract::KINDS;
use exo_user::{Call, Error, Kind, Registers, Start, contract, revocation};
use guest_probes::rule::{granted, refused, refused_raw, same};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let epoch = contract::account(Kind::Frames).epoch;
    for early in [epoch + 1, epoch + 2, 1 << 63, u64::MAX] {
        refused(Call::Acknowledge { kind: Kind::Frames, epoch: early }, Error::StaleEpoch);
    }
    granted("the current epoch", revocation::acknowledge(Kind::Frames, epoch));
    same("the epoch", contract::account(Kind::Frames).epoch, epoch);
    for kind in [Kind::Slices, Kind::Filters, Kind::Rings, Kind::Environments] {
        refused(Call::Acknowledge { kind, epoch: 0 }, Error::BadKind);
    }
    let Registers { number, .. } = Call::Acknowledge { kind: Kind::Frames, epoch }.pack();
    for kind in [KINDS as u64, 255, 256, 1 << 32, u64::MAX] {
        let arguments = [kind, 0, 0, 0, 0, 0];
        refused_raw(Registers { number, arguments }, Error::BadArgument);
    }
    0
}
