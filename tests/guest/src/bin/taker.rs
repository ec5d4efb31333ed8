//! Takes frames of another program by force: the hand that the rules about loss need.
#![no_std]
#![no_main]

use exo_user::{EnvName, Kind, Start, capability, environment, revocation, tables, time};
use guest_probes::{neighbour, rule};

exo_user::program!(main);

fn main(start: &Start<'_>) -> u64 {
    let label = start.argument("victim").unwrap_or("");
    let count = start.number("count", 20);
    let victim = neighbour::find(label).unwrap_or(EnvName::NONE);
    rule::holds("there is a victim", !victim.is_none());
    // First it shall have taken all that it may.
    let entry = || tables::environment_named(victim).unwrap_or_default();
    let full = start.number("full", 100);
    while entry().frames < full {
        environment::sleep(time::now() + time::MILLISECOND);
    }
    let spare = entry().frames_limit - entry().frames;
    let debt = revocation::revoke(victim, capability::REVOKE, Kind::Frames, spare + count, 0, 0);
    rule::same("the debt", debt, Ok(count));
    while entry().name != 0 && entry().frames > entry().frames_limit {
        environment::sleep(time::now() + time::MILLISECOND);
    }
    0
}
