//! Rule: a program receives only what was reserved for it.
#![no_std]
#![no_main]

use exo_user::abi::tables::{NO_RING, SEND_TEMPLATE};
use exo_user::{Call, EnvName, Error, Start, capability, filter, tables};
use filter_language::{Builder, encode};
use guest_probes::rule::{self, refused, same};
use guest_probes::traffic::{self, Ring};
use packet_filters::{Atom, Width};

exo_user::program!(main);

/// The port that the contract reserves, and one that another program's reserves.
const OWN: u16 = 4002;
const FOREIGN: u16 = 4001;
const IPV4: u16 = 0x0800;

fn install(builder: Builder, ring: Ring) -> Result<u32, Error> {
    filter::install(encode(&traffic::filter(builder)).as_ref(), ring.id)
}

fn main(_: &Start<'_>) -> u64 {
    let ring = Ring::create();
    let claims = [
        Builder::udp_port(FOREIGN),
        Builder::udp_port(FOREIGN).source_port(OWN),
        Builder::ethertype(IPV4),
        Builder::ipv4(17),
        Builder::new().compare(Atom::exact(0, Width::One, 2)),
        Builder::new().compare(Atom::exact(1500, Width::One, 2)),
    ];
    for claim in claims {
        same("somebody else's packets", install(claim, ring), Err(Error::FilterOverlaps));
    }
    for claim in [Builder::udp_port(4999), Builder::tcp_port(4999), Builder::ethertype(0x88b5)] {
        same("packets of nobody", install(claim, ring), Err(Error::NotReserved));
    }
    let own = rule::granted("its own packets", install(Builder::udp_port(OWN), ring));
    let encoded = encode(&traffic::filter(Builder::udp_port(4999)));
    for capability in [capability::OWN, capability::NETWORK, 9, u32::MAX] {
        for environment in [EnvName::NONE, EnvName(1 << 32)] {
            let (address, length) = (encoded.as_ref().as_ptr() as u64, encoded.as_ref().len());
            let length = length as u64;
            for ring in SEND_TEMPLATE..=NO_RING {
                let call = Call::FilterInstall { environment, capability, address, length, ring };
                rule::refused_with(call, &[Error::NotDominated, Error::NoCapability]);
            }
        }
    }
    for (id, entry) in tables::filters().iter() {
        if entry.holder != exo_user::contract::name().0 {
            refused(
                Call::FilterRemove { filter: id as u32, capability: capability::NETWORK },
                Error::NoFilter,
            );
        }
    }
    refused(
        Call::FilterRemove { filter: u32::MAX, capability: capability::NETWORK },
        Error::NoFilter,
    );
    rule::granted("to remove its own", filter::remove(own));
    refused(Call::FilterRemove { filter: own, capability: capability::NETWORK }, Error::NoFilter);
    0
}
