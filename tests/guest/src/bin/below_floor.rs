//! Rule: the floor of a contract holds, even against who has the right to revoke.
#![no_std]
#![no_main]

use exo_user::{Call, EnvName, Error, Kind, Start, capability, contract, tables};
use guest_probes::neighbour;
use guest_probes::rule::{refused, same};

exo_user::program!(main);

fn revoke(environment: EnvName, kind: Kind, count: u64) -> Call {
    let capability = capability::REVOKE;
    Call::Revoke { environment, capability, kind, count, own: 0, wall: 0 }
}

fn main(_: &Start<'_>) -> u64 {
    let witness = neighbour::witness();
    let entry = tables::environment_named(witness).unwrap_or_default();
    let own = contract::account(Kind::Frames).limit;
    for count in [
        entry.frames_limit - entry.frames_floor + 1,
        entry.frames_limit,
        entry.frames_limit + 1,
        1 << 63,
        u64::MAX,
    ] {
        refused(revoke(witness, Kind::Frames, count), Error::BelowFloor);
    }
    refused(revoke(witness, Kind::Environments, 1), Error::BadKind);
    for kind in [Kind::Slices, Kind::Filters, Kind::Rings] {
        refused(revoke(witness, kind, 1000), Error::BelowFloor);
    }
    refused(revoke(witness, Kind::Frames, 0), Error::BadArgument);
    for own in [EnvName::NONE, contract::name()] {
        refused(revoke(own, Kind::Frames, 1), Error::BadArgument);
    }
    // Whoever started the programs is above all that may be revoked.
    let init = EnvName(tables::environment_named(contract::name()).unwrap_or_default().parent);
    refused(revoke(init, Kind::Frames, 1), Error::NotDominated);
    // The right to revoke is no other right.
    let (environment, capability) = (witness, capability::REVOKE);
    let destroy = Call::EnvironmentDestroy { environment, capability, code: 0 };
    refused(destroy, Error::NotDominated);
    let (low, high) = (0, 0);
    let grant = Call::CapabilityGrant {
        environment,
        authority: capability,
        destination: 0,
        source: 0,
        low,
        high,
    };
    refused(grant, Error::NotDominated);
    let after = tables::environment_named(witness).unwrap_or_default();
    same("the limit", after.frames_limit, entry.frames_limit);
    same("what it was asked", after.asks, entry.asks);
    same("its own limit", contract::account(Kind::Frames).limit, own);
    0
}
