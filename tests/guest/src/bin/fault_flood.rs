//! Rule: who faults all the time does so in its own time; and an epilogue may sleep.
#![no_std]
#![no_main]

use exo_user::abi::upcall::PAGE_FAULT;
use exo_user::upcall::{self, Handlers, Interrupted};
use exo_user::{Start, environment, time};
use guest_probes::attempt::{self, INVALID_OPCODE, attempt, raised};
use guest_probes::ground::page;
use guest_probes::{code, rule};

exo_user::program!(main);

const FAULTS: u64 = 20_000;

static HANDLERS: Handlers =
    Handlers { exception: attempt::caught, slice_end: Some(sleeps), ..Handlers::NONE };

/// An epilogue that does not yield, but sleeps.
fn sleeps(_: &mut Interrupted) {
    environment::sleep(time::now() + time::MILLISECOND);
}

fn main(_: &Start<'_>) -> u64 {
    rule::granted("an upcall stack", upcall::install_with_stack(4, &HANDLERS));
    for round in 0..FAULTS {
        let (code, argument, cause) = match round % 5 {
            0 => (code!("ud2"), 0, INVALID_OPCODE),
            1 => (code!("int3"), 0, 3),
            2 => (code!("xor ecx, ecx", "xor edx, edx", "div ecx"), 0, 0),
            3 => (code!("mov [rdi], rdi"), page(700) + 4096 * (round % 1000), PAGE_FAULT),
            _ => (code!("jmp rdi"), 0xffff_ffff_8010_0000, PAGE_FAULT),
        };
        // SAFETY: each of them faults and changes nothing.
        raised(format_args!("fault {round}"), unsafe { attempt(code, argument) }, cause);
    }
    0
}
