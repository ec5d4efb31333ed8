//! Rule: nobody asks another for resources without the right to.
#![no_std]
#![no_main]

use exo_user::abi::layout::CAPABILITIES;
use exo_user::{Call, Error, Kind, Start, contract, tables};
use guest_probes::rule::{refused_with, same};
use guest_probes::{child, neighbour, rule};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let witness = neighbour::witness();
    let limit = || {
        let entry = tables::environment_named(witness).unwrap_or_default();
        (entry.frames_limit, entry.asks)
    };
    let before = limit();
    for environment in [neighbour::first(), witness] {
        for kind in Kind::ALL {
            for capability in (0..=CAPABILITIES as u32).chain([u32::MAX]) {
                let call =
                    Call::Revoke { environment, capability, kind, count: 1, own: 0, wall: 0 };
                refused_with(call, &[Error::NotDominated, Error::NoCapability]);
            }
        }
    }
    same("what the witness may have", limit(), before);
    // Control over a child is not the right to revoke.
    let environment = rule::granted("a child", child::create("child", 5));
    let (kind, capability) = (Kind::Frames, 0);
    let call = Call::Revoke { environment, capability, kind, count: 1, own: 0, wall: 0 };
    refused_with(call, &[Error::NotDominated]);
    child::remove(environment);
    same("debt", contract::debt(Kind::Frames), 0);
    0
}
