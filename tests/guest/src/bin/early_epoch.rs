//! Rule: only losses that have happened are acknowledged, and only of what is recorded.
#![no_std]
#![no_main]

use exo_user::abi::contract::KINDS;
use exo_user::{Call, Error, Kind, Registers, Start, contract, revocation};
use guest_probes::rule::{granted, refused, refused_raw, same};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let epoch = 0;
    for kind in [Kind::Frames, Kind::Slices, Kind::Filters, Kind::Rings] {
        same("the epoch", contract::account(kind).epoch, epoch);
        for early in [epoch + 1, epoch + 2, 1 << 63, u64::MAX] {
            refused(Call::Acknowledge { kind, epoch: early }, Error::StaleEpoch);
        }
        granted("the current epoch", revocation::acknowledge(kind, epoch));
        same("the epoch", contract::account(kind).epoch, epoch);
    }
    refused(Call::Acknowledge { kind: Kind::Environments, epoch }, Error::BadKind);
    let Registers { number, .. } = Call::Acknowledge { kind: Kind::Frames, epoch }.pack();
    for kind in [KINDS as u64, 255, 256, 1 << 32, u64::MAX] {
        let arguments = [kind, 0, 0, 0, 0, 0];
        refused_raw(Registers { number, arguments }, Error::BadArgument);
    }
    0
}
