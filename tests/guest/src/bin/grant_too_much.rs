//! Rule: nobody gives away more of its contract than it has to spare.
#![no_std]
#![no_main]

use exo_user::{Call, EnvName, Error, Kind, Start, contract};
use guest_probes::neighbour;
use guest_probes::rule::{holds, refused, same};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    let witness = neighbour::witness();
    for kind in Kind::ALL {
        let before = contract::account(kind);
        let grant = |count| Call::Grant { environment: witness, kind, count };
        for count in [before.limit + 1, 1 << 32, 1 << 63, u64::MAX] {
            refused(grant(count), Error::OverLimit);
        }
        let spare = before.limit - before.held;
        if before.held > 0 {
            refused(grant(spare + 1), Error::OverLimit);
        }
        for nobody in [EnvName(u64::MAX), EnvName::new(60_000, 1), EnvName::new(0, 9)] {
            let call = Call::Grant { environment: nobody, kind, count: 0 };
            refused(call, Error::NoEnvironment);
        }
        same("the account", contract::account(kind), before);
    }
    let frames = contract::account(Kind::Frames);
    holds("the program holds its floor", frames.held >= frames.floor);
    0
}
