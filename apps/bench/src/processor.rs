//! Calls, exceptions and slices.

use crate::Bench;
use crate::measurement::{Measurement, counter};
use crate::{handlers, mark, peer};
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::Ordering;
use libos_posix::exo_user::abi::tables::StatisticsWord;
use libos_posix::exo_user::batch::Batch;
use libos_posix::exo_user::upcall::{self, Handlers, Interrupted};
use libos_posix::exo_user::{Call, Error, contract, environment, tables};

/// The benches of this group.
pub(crate) const BENCHES: &[Bench] = &[
    ("null_call", null_call),
    ("getpid_lib", getpid_lib),
    ("exception", exception),
    ("slice_switch", slice_switch),
    ("batch_call", batch_call),
    ("known_loop", known_loop),
];

/// How often [`known_loop`] goes round: for some slices, so that it is interrupted.
const ROUNDS: u64 = 2_000_000;

/// The vector of an invalid opcode, and the length of `ud2`.
const INVALID_OPCODE: (u64, u64) = (6, 2);
/// How many slices end in [`slice_switch`].
const SLICES: u64 = 64;

fn null_call(measurement: &mut Measurement) -> Result<(), Error> {
    measurement.repeat(20_000, || {
        black_box(environment::name());
    });
    Ok(())
}

/// The program's own name, which is in its contract page.
fn getpid_lib(measurement: &mut Measurement) -> Result<(), Error> {
    measurement.repeat(100_000, || {
        black_box(contract::name());
    });
    Ok(())
}

/// An invalid opcode, and a handler that goes on behind it.
fn exception(measurement: &mut Measurement) -> Result<(), Error> {
    static HANDLERS: Handlers = Handlers { exception: skip, ..Handlers::NONE };
    fn skip(interrupted: &mut Interrupted) {
        let frame = &mut interrupted.frame;
        if frame.cause != INVALID_OPCODE.0 {
            return upcall::end_with_report(interrupted);
        }
        frame.rip += INVALID_OPCODE.1;
    }
    handlers::install(&HANDLERS)?;
    // SAFETY: the handler goes on behind the instruction, with all registers as they were.
    measurement.repeat(20_000, || unsafe { asm!("ud2", options(nostack)) });
    Ok(())
}

/// Two programs compute, this and a peer; at the end of each slice, the one that runs is told,
/// saves its registers itself, and gives the CPU up. What both compute counts as waiting, and what
/// is left is the end of a slice: the interrupt, the upcall, the saving, the call that gives the
/// CPU up, the choice of the next, its registers, the way back to where it was.
fn slice_switch(measurement: &mut Measurement) -> Result<(), Error> {
    peer::save_at_slice_end()?;
    let peer = peer::find()?;
    let told = || tables::environment_named(peer).map_or(0, |entry| entry.upcalls);
    let switches = counter(StatisticsWord::Switches);
    let now = || switches.load(Ordering::Relaxed);
    // Both have been through it.
    mark::wait_until(switches, now() + 8);
    let before = told();
    measurement.marked(|| {
        let before = now();
        mark::begin();
        mark::wait_until(switches, before + SLICES);
        mark::end();
        now() - before
    });
    // Who gives the CPU up to itself changes slices too, and that is something else.
    if told() < before + SLICES / 2 { Err(Error::NoEnvironment) } else { Ok(()) }
}

/// Null calls in batches. What a batch itself costs is counted as part of its other calls.
fn batch_call(measurement: &mut Measurement) -> Result<(), Error> {
    const CALLS: usize = 64;
    const BATCHES: u64 = 500;
    let mut batch = Batch::of([Call::Null {}; CALLS]);
    let mut made = 0;
    // SAFETY: null calls do nothing.
    measurement.repeat(BATCHES, || made = unsafe { batch.run() }.unwrap_or(0));
    measurement.correct(BATCHES * (CALLS as u64 - 1));
    if made == CALLS { Ok(()) } else { Err(Error::NotInBatch) }
}

/// No figure: 1 + 2 × [`ROUNDS`] instructions, by which the counter itself is measured.
fn known_loop(measurement: &mut Measurement) -> Result<(), Error> {
    measurement.marked(|| {
        // SAFETY: it counts down, between marks that do nothing.
        unsafe {
            asm!(
                "nop dword ptr [rax + {begin}]",
                "mov {count}, {rounds}",
                "2:",
                "dec {count}",
                "jnz 2b",
                "nop dword ptr [rax + {end}]",
                count = out(reg) _,
                rounds = const ROUNDS,
                begin = const mark::BEGIN,
                end = const mark::END,
                options(nostack),
            );
        }
        1
    });
    Ok(())
}
