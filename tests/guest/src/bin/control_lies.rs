//! Rule: the control page is believed in nothing: its lies cost its owner alone.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::control::ControlWord;
use exo_user::upcall::{self, Handlers, Interrupted};
use exo_user::{EnvName, Start, control, environment};
use guest_probes::random::Random;
use guest_probes::rule::{granted, holds};

exo_user::program!(main);

static HANDLERS: Handlers = Handlers {
    slice_end: Some(upcall::give_slice_up),
    revoke: Some(ignore),
    lost: Some(ignore),
    packet: Some(ignore),
    child_ended: Some(ignore),
    console: Some(ignore),
    ..Handlers::NONE
};

fn ignore(_: &mut Interrupted) {}

fn main(start: &Start<'_>) -> u64 {
    granted("an upcall stack", upcall::install_with_stack(8, &HANDLERS));
    let mut random = Random::new(start.seed);
    for _ in 0..20_000 {
        let (word, lie) = match random.below(3) {
            0 => (ControlWord::Pending, random.next()),
            1 => (ControlWord::Enabled, random.next()),
            _ => (ControlWord::Mask, random.below(2) * random.next()),
        };
        control::word(word).store(lie, SeqCst);
        match random.below(8) {
            0 => granted("to give way", environment::yield_to(EnvName::NONE)),
            1 => environment::sleep(0),
            _ => holds("it has a name", !environment::name().is_none()),
        }
        if random.below(64) == 0 {
            // An honest moment: the end of a slice can be told.
            control::word(ControlWord::Mask).store(0, SeqCst);
            environment::name();
        }
    }
    0
}
