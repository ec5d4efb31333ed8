//! The others: victims that a program finds in the kernel's tables.

use crate::rule;
use exo_user::abi::tables::EnvState;
use exo_user::{EnvName, environment, tables};

/// The honest program that runs beside the hostile ones.
pub const WITNESS: &str = "witness";

/// The first program, which has the root capability.
pub fn first() -> EnvName {
    let entry = tables::environments().get(0).unwrap_or_default();
    rule::holds("there is a first program", entry.name != 0);
    EnvName(entry.name)
}

/// The living environment with this label, if there is one.
pub fn find(label: &str) -> Option<EnvName> {
    let alive = |state: u64| state != EnvState::Free as u64 && state != EnvState::Ended as u64;
    let mut entries = tables::environments().iter();
    let found = entries.find(|(_, entry)| alive(entry.state) && tables::label(entry) == label);
    found.map(|(_, entry)| EnvName(entry.name))
}

/// The witness.
pub fn witness() -> EnvName {
    let found = find(WITNESS);
    rule::holds("there is a witness", found.is_some());
    found.unwrap_or_default()
}

/// Gives the CPU up once, to whoever is next.
pub fn let_others_run() {
    rule::granted("to give way", environment::yield_to(EnvName::NONE));
}
