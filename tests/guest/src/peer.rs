//! Children that run a function of the same program, and what they share.

use crate::{ground, rule};
use exo_user::abi::tables::{EnvEntry, EnvState};
use exo_user::abi::upcall::Event;
use exo_user::child::{self, Contract, Entry};
use exo_user::{EnvName, Rights, capability, contract, control, environment, slice, tables, time};

/// A page that the program and its children have at the same place, once [`share`] was called.
pub const SHARED: u64 = ground::page(1 << 10);

/// Read, write, and always there.
const RIGHTS: Rights = ground::DATA.union(Rights::WIRED);

/// Gives slices of the first CPU back, all but one: what is left of the contract can be a child's.
pub fn keep_one_slice() {
    let own = contract::name().0;
    let positions = tables::system().positions as usize;
    let held = tables::slices().iter().take(positions).filter(|(_, entry)| entry.holder == own);
    for (position, _) in held.skip(1) {
        rule::granted("a slice", slice::give_back(0, position as u32, capability::OWN));
    }
}

/// A child, not yet started, with `slices` positions of the last CPU.
pub fn create(label: &str, number: u8, slices: u64) -> EnvName {
    let contract = Contract { label, number, slices, ..Contract::default() };
    let child = rule::granted("a child", child::create(contract));
    let system = tables::system();
    let first = (system.cpus - 1) * system.positions;
    let mut free = (0..system.positions).filter(|position| {
        tables::slices().get((first + position) as usize).is_some_and(|entry| entry.holder == 0)
    });
    for _ in 0..slices {
        let position = free.next().unwrap_or(0) as u32;
        rule::granted("a slice", child::take_slice(child, system.cpus as u32 - 1, position));
    }
    child
}

/// Starts a child with the program's name as its argument.
pub fn start(child: EnvName, entry: Entry) {
    rule::granted("a start", child::start(child, entry, contract::name().0));
}

/// Makes the shared page.
pub fn bind_shared() {
    ground::bound(SHARED, RIGHTS);
}

/// Binds the shared page for a child.
pub fn share(child: EnvName) {
    rule::granted("a shared page", child::share(child, SHARED, RIGHTS));
}

/// How a child has ended, if it has.
pub fn end(child: EnvName) -> Option<EnvEntry> {
    tables::environment_named(child).filter(|entry| entry.state & 0xff == EnvState::Ended as u64)
}

/// Waits until a child has ended well, and removes it. Meanwhile it gets the CPU.
pub fn join(child: EnvName) {
    let code = loop {
        control::take(Event::ChildEnded);
        if let Some(entry) = end(child) {
            break (entry.end_reason, entry.end_code);
        }
        // One without slices lives on those of others.
        if environment::yield_to(child).is_err() {
            environment::sleep(time::now() + time::MILLISECOND);
        }
    };
    rule::same("the child's end", code, (0, 0));
    child::remove(child);
    control::take(Event::ChildEnded);
}
