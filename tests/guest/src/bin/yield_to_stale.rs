//! Rule: the CPU is given only to who is there and can run.
#![no_std]
#![no_main]

use exo_user::abi::upcall::Event;
use exo_user::{
    Call, EnvName, Error, Start, capability, contract, control, environment, println, time,
};
use guest_probes::rule::{granted, holds, same};
use guest_probes::{child, neighbour};

exo_user::program!(main);

fn give_way(target: EnvName) -> Result<(), Error> {
    environment::yield_to(target)
}

fn main(_: &Start<'_>) -> u64 {
    let name = granted("a child", child::create("child", 0));
    same("not started", give_way(name), Err(Error::NotRunnable));
    granted("to end it", environment::destroy(name, capability::OWN, 0));
    same("ended", give_way(name), Err(Error::WrongState));
    granted("to free its slot", environment::destroy(name, capability::OWN, 0));
    same("gone", give_way(name), Err(Error::StaleEnvironment));
    same("nobody", give_way(EnvName(u64::MAX)), Err(Error::NoEnvironment));
    same("nobody yet", give_way(EnvName::new(0, 7)), Err(Error::NoEnvironment));
    granted("itself", give_way(contract::name()));
    for _ in 0..2000 {
        // It runs or waits for its turn; if it has just ended, that is its good right.
        match give_way(neighbour::witness()) {
            Ok(()) | Err(Error::NotRunnable) => {}
            Err(error) => holds(format_args!("{error:?} is an answer"), false),
        }
        granted("whoever is next", give_way(EnvName::NONE));
    }
    same("asleep: the first program", give_way(neighbour::first()), Err(Error::NotRunnable));
    // The child's end is pending, and would end the sleep.
    control::take(Event::ChildEnded);
    let until = time::now() + time::MILLISECOND;
    environment::sleep(until);
    holds("a sleep has an end", time::now() >= until);
    let nothing = Call::Sleep { until: 0, keeper: EnvName::NONE };
    // SAFETY: it touches no memory.
    granted("a sleep that is over", unsafe { exo_user::call::give_up(nothing) });
    println!("awake");
    0
}
