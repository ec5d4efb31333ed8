//! Rule: time is what the contract allows: no position more, and nobody else's.
#![no_std]
#![no_main]

use exo_user::abi::request::NOBODY;
use exo_user::{Call, EnvName, Error, Kind, Start, contract, slice, tables};
use guest_probes::rule::{refused, refused_with, same};

exo_user::program!(main);

fn take(cpu: u32, position: u32) -> Call {
    Call::Slice { cpu, position, environment: EnvName::NONE, capability: 0 }
}

fn main(_: &Start<'_>) -> u64 {
    let account = contract::account(Kind::Slices);
    let system = tables::system();
    for position in [system.positions, system.positions + 1, u32::MAX.into()] {
        refused(take(0, position as u32), Error::NoSlice);
    }
    for cpu in [system.cpus as u32, u32::MAX] {
        refused(take(cpu, 0), Error::NoSlice);
    }
    let mut held = account.held;
    for position in 0..system.positions as u32 {
        let holder = tables::slices().get(position as usize).unwrap_or_default().holder;
        let give_back = Call::Slice { cpu: 0, position, environment: NOBODY, capability: 0 };
        if holder == contract::name().0 {
            refused(take(0, position), Error::SliceTaken);
        } else if holder != 0 {
            refused(take(0, position), Error::SliceTaken);
            refused_with(give_back, &[Error::NotDominated]);
        } else if held < account.limit {
            match slice::take(0, position, EnvName::NONE, 0) {
                Ok(()) => held += 1,
                // The first program has dealt some meanwhile.
                Err(error) => same("the refusal", error, Error::OverLimit),
            }
        } else {
            // Somebody may have taken it meanwhile.
            refused_with(take(0, position), &[Error::OverLimit, Error::SliceTaken]);
        }
    }
    same("positions held", contract::account(Kind::Slices).held, account.limit);
    0
}
