//! Rule: a capability can be forged only below one that the program holds.
#![no_std]
#![no_main]

use exo_user::abi::layout::CAPABILITIES;
use exo_user::{
    Call, Capability, CapabilityName, EnvName, Error, Registers, Rights, Start, capability,
};
use guest_probes::child::{SPARE_SLOT, own_name};
use guest_probes::rule::{refused, refused_raw, refused_with, same};

exo_user::program!(main);

fn derive(source: u32, [low, high]: [u64; 2]) -> Call {
    let (authority, destination) = (0, SPARE_SLOT);
    Call::CapabilityGrant { environment: EnvName::NONE, authority, destination, source, low, high }
}

fn main(_: &Start<'_>) -> u64 {
    for name in [CapabilityName::ROOT, capability::programs()] {
        let above = Capability { name, rights: Rights::READ };
        refused(derive(0, above.to_words()), Error::NotDominated);
    }
    refused(derive(0, Capability::ROOT.to_words()), Error::NotDominated);
    let name = own_name();
    for rights in [Rights::REVOKE, Rights::NETWORK, Rights::CONSOLE, Rights::MACHINE] {
        refused(derive(0, Capability { name, rights }.to_words()), Error::NotDominated);
    }
    let mut names = 0;
    for part in 0..=u8::MAX {
        let name = capability::programs().child(part).unwrap_or_default();
        let capability = Capability { name, rights: Rights::READ };
        // SAFETY: capabilities are the kernel's; no memory is touched.
        let result = unsafe { exo_user::call::call(derive(0, capability.to_words())) };
        names += u64::from(result.is_ok());
    }
    same("names that can be derived", names, 1);
    for words in [[u64::MAX, 0], [1 | 14 << 16, 0], [1 | 1 << 24, 0], [1, 1 << 63]] {
        refused(derive(0, words), Error::BadArgument);
    }
    let good = Capability { name, rights: Rights::READ }.to_words();
    refused(derive(9, good), Error::NoCapability);
    refused(derive(u32::MAX, good), Error::NoCapability);
    let mut beyond = derive(0, good).pack();
    beyond.arguments[2] = CAPABILITIES as u64;
    refused_raw(beyond, Error::NoCapability);
    beyond.arguments[2] = 1 << 32;
    refused_raw(Registers { ..beyond }, Error::BadArgument);
    for capability in 0..=CAPABILITIES as u32 {
        let errors = [Error::NoCapability, Error::NotDominated];
        refused_with(Call::MachineExit { capability, code: 0 }, &errors);
    }
    0
}
