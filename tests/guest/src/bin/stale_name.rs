//! Rule: the name of an environment that has ended is stale, and never becomes another.
#![no_std]
#![no_main]

use exo_user::{Call, EnvName, Error, Kind, Start, capability};
use guest_probes::{child, rule};

exo_user::program!(main);

fn calls(environment: EnvName) -> [Call; 8] {
    let (capability, count) = (capability::OWN, 1);
    let page = guest_probes::ground::GROUND;
    [
        Call::Yield { target: environment, keeper: EnvName::NONE },
        Call::FrameTransfer { environment, capability, list: page, count },
        Call::Bind { environment, capability, list: page, count },
        Call::Unbind { environment, capability, page, count },
        Call::EnvironmentStart { environment, capability, entry: page, stack: 0, argument: 0 },
        Call::EnvironmentDestroy { environment, capability, code: 0 },
        Call::Revoke { environment, capability, kind: Kind::Frames, count, own: 0, wall: 0 },
        Call::Grant { environment, kind: Kind::Frames, count },
    ]
}

fn main(_: &Start<'_>) -> u64 {
    let name = rule::granted("a child", child::create("child", 0));
    child::remove(name);
    for call in calls(name) {
        rule::refused(call, Error::StaleEnvironment);
    }
    let future = EnvName::new(name.index() as u32, name.generation() + 1);
    for nobody in [future, EnvName(u64::MAX - 1), EnvName::new(60_000, 1), EnvName::new(1, 0)] {
        for call in calls(nobody) {
            rule::refused(call, Error::NoEnvironment);
        }
    }
    let next = rule::granted("another child", child::create("child", 0));
    rule::holds("the next child has another name", next != name);
    rule::refused(calls(name)[5], Error::StaleEnvironment);
    child::remove(next);
    0
}
