//! Rule: nobody installs more filters than its contract allows, or more than have a meaning.
#![no_std]
#![no_main]

use exo_user::{Error, Kind, Start, contract, filter};
use filter_language::{Builder, encode};
use guest_probes::rule::{self, same};
use guest_probes::traffic::{Ring, filter as build};

exo_user::program!(main);

const PORT: u16 = 4005;
/// The contract's limit without the reservation.
const LIMIT: usize = 6;

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::create();
    let install = |source: usize| {
        let builder = Builder::udp_port(PORT).source_port(source as u16);
        filter::install(encode(&build(builder)).as_ref(), ring.id)
    };
    let before = contract::account(Kind::Filters).held;
    for _ in 0..20 {
        let ids: [u32; LIMIT] =
            core::array::from_fn(|index| rule::granted("a filter", install(1000 + index)));
        same("one more", install(2000), Err(Error::OverLimit));
        for id in ids {
            rule::granted("to remove it", filter::remove(id));
        }
        same("filters held", contract::account(Kind::Filters).held, before);
    }
    // Those that are left go with their ring.
    rule::granted("a filter", install(3000));
    rule::granted("to end the ring", exo_user::ring::destroy(ring.id));
    same("filters held", contract::account(Kind::Filters).held, before);
    same("a filter for no ring", install(3001), Err(Error::NoRing));
    0
}
