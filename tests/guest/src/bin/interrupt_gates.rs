//! Rule: software interrupts reach no handler of the kernel but those for programs.
#![no_std]
#![no_main]

use exo_user::Start;
use guest_probes::attempt::{self, PROTECTION};
use guest_probes::ground::{self, DATA, GROUND, TEXT};
use guest_probes::{code, rule};

exo_user::program!(main);

/// The vectors that a program may raise by `int` if the kernel likes: breakpoint and overflow.
const PERMITTED: [u64; 2] = [3, 4];

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let frame = ground::bound(GROUND, DATA);
    for vector in 0..256 {
        // `int VECTOR`, `ret`
        ground::store(GROUND + 8 * vector, 0xc3_00cd | vector << 8);
    }
    rule::granted("the code", ground::bind(GROUND, frame, TEXT));
    for vector in 0..256 {
        // SAFETY: there is an `int` and a `ret`.
        let fault = unsafe { attempt::execute(GROUND + 8 * vector) };
        let found = fault.map(|fault| (fault.cause, fault.code));
        let permitted = PERMITTED.contains(&vector) && found.map(|found| found.0) == Some(vector);
        // The error code names the gate: its number, in the interrupt table. QEMU's translator counts
        // the gates of 16 bytes twice.
        let gate = [3, 4].map(|shift| Some((PROTECTION, (vector << shift) | 2)));
        let refused = gate.contains(&found);
        rule::holds(format_args!("int {vector} is refused: {fault:x?}"), permitted || refused);
    }
    // The one-byte breakpoint.
    // SAFETY: it is an exception or nothing.
    let breakpoint = unsafe { attempt::attempt(code!("int3"), 0) };
    rule::holds("int3 is an exception of the program", breakpoint.is_some());
    0
}
