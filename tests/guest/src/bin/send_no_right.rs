//! Rule: nobody sends without the right to, and nothing but whole packets from its own memory.
#![no_std]
#![no_main]

use exo_user::abi::request::SendRequest;
use exo_user::{Call, Error, Start, capability};
use guest_probes::ground::{self, DATA, GROUND};
use guest_probes::rule::refused;

exo_user::program!(main);

fn send(capability: u32, list: &[SendRequest]) -> Call {
    Call::Send { capability, list: list.as_ptr() as u64, count: list.len() as u64 }
}

fn main(start: &Start<'_>) -> u64 {
    ground::bound(GROUND, DATA);
    let packet = |address, length| [SendRequest { address, length }];
    let good = packet(GROUND, 60);
    for slot in [capability::OWN, capability::ARCHIVE] {
        refused(send(slot, &good), Error::NotDominated);
    }
    for slot in [1, 5, 15, 16, u32::MAX] {
        refused(send(slot, &good), Error::NoCapability);
    }
    if start.argument("licensed").is_none() {
        refused(send(capability::NETWORK, &good), Error::NoCapability);
        return 0;
    }
    for length in [0, 1, 13, 1515, 4096, 1 << 32, u64::MAX] {
        refused(send(capability::NETWORK, &packet(GROUND, length)), Error::BadPacket);
    }
    for (address, error) in [
        (GROUND + 4096, Error::NotBound),
        (GROUND + 4090, Error::NotBound),
        (0xffff_8000_0000_0000, Error::BadAddress),
        (u64::MAX - 20, Error::BadAddress),
        (0, Error::BadAddress),
    ] {
        refused(send(capability::NETWORK, &packet(address, 60)), error);
    }
    let capability = capability::NETWORK;
    for count in [513, 1 << 60, u64::MAX] {
        refused(Call::Send { capability, list: GROUND, count }, Error::TooLong);
    }
    refused(Call::Send { capability, list: GROUND + 4096, count: 1 }, Error::NotBound);
    refused(Call::Send { capability, list: u64::MAX - 7, count: 1 }, Error::BadAddress);
    0
}
