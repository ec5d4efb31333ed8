//! Rule: bytes that are no filter are refused, whatever they are.
#![no_std]
#![no_main]

use exo_user::abi::tables::SEND_TEMPLATE;
use exo_user::{Call, EnvName, Error, Start, filter};
use filter_language::{Builder, encode};
use guest_probes::ground::{self, DATA, page};
use guest_probes::random::Random;
use guest_probes::rule::{holds, refused, same};
use guest_probes::traffic::{self, Ring};
use packet_filters::MAX_ENCODED;

exo_user::program!(main);

const PORT: u16 = 4003;

fn main(start: &Start<'_>) -> u64 {
    let ring = Ring::create();
    let good = encode(&traffic::filter(Builder::udp_port(PORT)));
    let good = good.as_ref();
    for length in 0..good.len() {
        let result = filter::install(&good[..length], ring.id);
        same("a truncated filter", result, Err(Error::BadFilter));
    }
    let mut bytes = [0; MAX_ENCODED];
    bytes[..good.len()].copy_from_slice(good);
    let longer = filter::install(&bytes[..good.len() + 1], ring.id);
    same("a filter with a tail", longer, Err(Error::BadFilter));
    let mut random = Random::new(start.seed);
    for _ in 0..2000 {
        let mut forged = bytes;
        let length = random.below(MAX_ENCODED as u64 + 1) as usize;
        for _ in 0..=random.below(4) {
            forged[random.below(good.len() as u64) as usize] = random.next() as u8;
        }
        // What is a filter by chance is somebody's or nobody's, but never this program's: the
        // atoms that its reservation wants are too many to be hit.
        match filter::install(&forged[..length], ring.id) {
            Ok(id) => same("to remove what was installed", filter::remove(id), Ok(())),
            Err(error) => {
                let expected = [Error::BadFilter, Error::NotReserved, Error::FilterOverlaps];
                holds(format_args!("{error:?} is an answer"), expected.contains(&error));
            }
        }
    }
    ground::bound(page(1), DATA);
    let (environment, capability, ring) = (EnvName::NONE, 0, ring.id.into());
    for (address, length, error) in [
        (page(1), MAX_ENCODED as u64 + 1, Error::TooLong),
        (page(1), u64::MAX, Error::TooLong),
        (page(2) - 8, 16, Error::NotBound),
        (0xffff_8000_0000_0000, 16, Error::BadAddress),
        (u64::MAX, 16, Error::BadAddress),
        (page(1), 0, Error::BadFilter),
    ] {
        refused(Call::FilterInstall { environment, capability, address, length, ring }, error);
    }
    let address = good.as_ptr() as u64;
    for ring in [63, 64, 1 << 32, SEND_TEMPLATE - 1] {
        let length = good.len() as u64;
        let call = Call::FilterInstall { environment, capability, address, length, ring };
        refused(call, Error::NoRing);
    }
    0
}
