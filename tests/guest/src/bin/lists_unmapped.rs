//! Rule: a call reads and writes only what its caller could read and write.
#![no_std]
#![no_main]

use exo_user::abi::layout::{CONTROL, SYSTEM};
use exo_user::{Call, EnvName, Error, FrameNumber, Rights, Start, capability};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{granted, refused, same};

exo_user::program!(main);

/// The calls that read a list or a text of more than four bytes.
fn calls(list: u64) -> [Call; 8] {
    let (environment, capability, count) = (EnvName::NONE, capability::OWN, 2);
    [
        Call::FrameAllocate { list, count, capability },
        Call::FrameFree { list, count },
        Call::FrameTransfer { environment, capability, list, count },
        Call::Bind { environment, capability, list, count },
        Call::Donate { list, count },
        Call::RingCreate { list, count },
        Call::ConsoleWrite { address: list, length: 8 },
        Call::EnvironmentCreate { request: list },
    ]
}

/// Whether a call reads words of eight bytes, which are aligned.
fn is_of_words(call: &Call) -> bool {
    matches!(call, Call::Bind { .. } | Call::EnvironmentCreate { .. })
}

fn main(_: &Start<'_>) -> u64 {
    ground::bound(page(0), DATA);
    let frame = ground::bound(page(2), DATA);
    ground::store(page(2), u64::MAX);
    granted("the page to read", ground::bind(page(2), frame, Rights::READ));
    ground::bound(page(4), Rights::empty());
    let before = ground::held();
    // Unbound, half bound, bound without a right.
    for list in [page(1), page(1) - 4, page(1) - 8, page(8), page(4), page(5) - 4, page(5) - 8] {
        for call in calls(list) {
            // What begins eight bytes before the end of a page goes on behind it, but for short lists.
            if list % 8 == 0 && list.wrapping_add(8).is_multiple_of(4096) && !is_of_words(&call) {
                continue;
            }
            let aligned = list % 8 == 0 || !is_of_words(&call);
            refused(call, if aligned { Error::NotBound } else { Error::BadAddress });
        }
    }
    for list in [CONTROL, SYSTEM] {
        for call in calls(list) {
            refused(call, Error::BadAddress);
        }
    }
    // A list that cannot be written: the frames are free again, their numbers nobody's.
    let constant: &[FrameNumber; 2] = &[FrameNumber::ANY; 2];
    let capability = capability::OWN;
    for list in [page(2), constant.as_ptr() as u64] {
        refused(Call::FrameAllocate { list, count: 2, capability }, Error::NotBound);
    }
    same("frames held", ground::held(), before);
    0
}
