//! Rule: nobody brings more than its share of the shapes that filters have, whatever its contract allows.
#![no_std]
#![no_main]

use exo_user::{Error, Start, filter};
use filter_language::{Builder, encode};
use guest_probes::rule::{self, same};
use guest_probes::traffic::{Ring, filter as build};
use packet_filters::{Atom, Width};

exo_user::program!(main);

const PORT: u16 = 4030;
/// What one program may bring.
const SHARE: usize = 8;

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::create();
    // Each mask over the number of the packet makes another shape.
    let install = |mask: u32, value: u32| {
        let number = Atom::Compare { offset: 18, width: Width::Two, mask, value };
        let builder = Builder::udp_port(PORT).compare(number);
        filter::install(encode(&build(builder)).as_ref(), ring.id)
    };
    let first = 0x8080;
    for turn in 0..20 {
        let mask = |index: usize| first + 16 * turn + index as u32;
        let ids: [u32; SHARE] =
            core::array::from_fn(|index| rule::granted("a shape", install(mask(index), 0)));
        for more in SHARE..SHARE + 4 {
            same("one more shape", install(mask(more), 0), Err(Error::OverLimit));
        }
        let same_shape = rule::granted("a filter of a shape", install(mask(0), 0x8000));
        same("one more shape", install(mask(SHARE), 0), Err(Error::OverLimit));
        for id in ids.into_iter().chain([same_shape]) {
            rule::granted("to remove it", filter::remove(id));
        }
    }
    rule::granted("to end the ring", exo_user::ring::destroy(ring.id));
    0
}
