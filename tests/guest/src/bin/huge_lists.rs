//! Rule: a list has a longest length, and an address that overflows is none.
#![no_std]
#![no_main]

use exo_user::abi::layout::{CONSOLE_MAX, LIST_MAX, USER_END};
use exo_user::{Call, EnvName, Error, Start, capability};
use guest_probes::ground::{DATA, GROUND, bound};
use guest_probes::rule::refused;

exo_user::program!(main);

/// The calls that take a list.
fn calls(list: u64, count: u64) -> [Call; 5] {
    let environment = EnvName::NONE;
    let capability = capability::OWN;
    [
        Call::FrameAllocate { list, count, capability },
        Call::FrameFree { list, count },
        Call::FrameTransfer { environment, capability, list, count },
        Call::Bind { environment, capability, list, count },
        Call::Donate { list, count },
    ]
}

const COUNTS: [u64; 8] =
    [LIST_MAX + 1, 1 << 20, 1 << 32, 1 << 60, 1 << 61, (1 << 62) + 1, u64::MAX - 1, u64::MAX];

fn main(_: &Start<'_>) -> u64 {
    bound(GROUND, DATA);
    for count in COUNTS {
        for call in calls(GROUND, count) {
            refused(call, Error::TooLong);
        }
        refused(Call::RingCreate { list: GROUND, count }, Error::TooLong);
        refused(
            Call::ConsoleWrite { address: GROUND, length: count.max(CONSOLE_MAX + 1) },
            Error::TooLong,
        );
        let capability = capability::OWN;
        let length = count.max(CONSOLE_MAX + 1);
        refused(Call::ConsoleRead { capability, address: GROUND, length }, Error::TooLong);
    }
    for list in [
        0,
        1,
        USER_END - 4,
        USER_END,
        0x7fff_ffff_fffc,
        0x7fff_ffff_ffff,
        0xffff_8000_0000_0000,
        0xffff_ffff_8010_0000,
        u64::MAX - 3,
        u64::MAX,
    ] {
        for call in calls(list, 2).into_iter().chain(calls(list, LIST_MAX)) {
            refused(call, Error::BadAddress);
        }
        refused(Call::RingCreate { list, count: 2 }, Error::BadAddress);
        refused(Call::ConsoleWrite { address: list, length: 8 }, Error::BadAddress);
        refused(Call::EnvironmentCreate { request: list }, Error::BadAddress);
    }
    0
}
