//! Rule: nobody does anything to an environment over which it has no capability.
#![no_std]
#![no_main]

use exo_user::abi::request::NOBODY;
use exo_user::{Call, EnvName, Error, Rights, Start, layout, tables};
use guest_probes::{neighbour, rule};

exo_user::program!(main);

fn attacks(environment: EnvName, capability: u32) -> [Call; 7] {
    let (page, count, list) = (layout::IMAGE.start, 1, layout::START_BLOCK);
    let rights = Rights::READ;
    [
        Call::FrameTransfer { environment, capability, list, count },
        Call::Bind { environment, capability, list, count },
        Call::Unbind { environment, capability, page, count },
        Call::Protect { environment, capability, page, count, rights },
        Call::EnvironmentStart { environment, capability, entry: page, stack: 0, argument: 0 },
        Call::EnvironmentDestroy { environment, capability, code: 0 },
        Call::CapabilityGrant {
            environment,
            authority: capability,
            destination: 0,
            source: 0,
            low: 0,
            high: 0,
        },
    ]
}

fn main(_: &Start<'_>) -> u64 {
    for victim in [neighbour::first(), neighbour::witness()] {
        for call in attacks(victim, 0) {
            rule::refused(call, Error::NotDominated);
        }
        for call in attacks(victim, 9).into_iter().chain(attacks(victim, u32::MAX)) {
            rule::refused(call, Error::NoCapability);
        }
        for (position, slice) in tables::slices().iter() {
            if slice.holder == victim.0 {
                let (cpu, position, capability) = (0, position as u32, 0);
                let give_back = Call::Slice { cpu, position, environment: NOBODY, capability };
                rule::refused(give_back, Error::NotDominated);
                let take = Call::Slice { cpu, position, environment: EnvName::NONE, capability };
                rule::refused(take, Error::SliceTaken);
            }
        }
    }
    0
}
