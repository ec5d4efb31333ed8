//! Rule: an environment starts once, in the program's part, and what it lacks is its own misfortune.
#![no_std]
#![no_main]

use exo_user::abi::layout::USER_END;
use exo_user::abi::tables::{EndReason, EnvState};
use exo_user::abi::upcall::PAGE_FAULT;
use exo_user::{Call, EnvName, Error, Start, capability, contract, environment, tables};
use guest_probes::rule::{granted, refused, same};
use guest_probes::{child, ground};

exo_user::program!(main);

fn start(environment: EnvName, entry: u64, stack: u64) -> Call {
    Call::EnvironmentStart { environment, capability: capability::OWN, entry, stack, argument: 0 }
}

fn main(_: &Start<'_>) -> u64 {
    let name = granted("a child", child::create("child", 0));
    for entry in [0, 8, USER_END, 0x8000_0000_0000, 0xffff_8000_0000_0000, u64::MAX] {
        refused(start(name, entry, 0), Error::BadAddress);
    }
    for stack in [USER_END + 1, 0x8000_0000_0000, 0xffff_ffff_8010_0000, u64::MAX] {
        refused(start(name, ground::GROUND, stack), Error::BadAddress);
    }
    for own in [EnvName::NONE, contract::name()] {
        refused(start(own, ground::GROUND, 0), Error::WrongState);
    }
    // SAFETY: it touches no memory of this program.
    granted("to start", unsafe { exo_user::call::call(start(name, ground::GROUND, 0)) });
    refused(start(name, ground::GROUND, 0), Error::WrongState);
    // It has no slice: it runs with what is left of this program's, and faults at once.
    let state = || tables::environment_named(name).unwrap_or_default().state;
    while EnvState::from_number(state()) == Some(EnvState::Preempted) {
        granted("to give way", environment::yield_to(name));
    }
    let entry = tables::environment_named(name).unwrap_or_default();
    same("its state", entry.state, EnvState::Ended as u64);
    same("its end", (entry.end_reason, entry.end_code), (EndReason::Exception as u64, PAGE_FAULT));
    same("where", (entry.end_rip, entry.end_address), (ground::GROUND, ground::GROUND));
    refused(start(name, ground::GROUND, 0), Error::WrongState);
    granted("to free its slot", environment::destroy(name, capability::OWN, 0));
    0
}
