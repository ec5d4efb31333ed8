//! The end: says what happened and where, and ends the machine.

use crate::drivers::serial::Serial;
use crate::hardware::end_machine;
use crate::x86_64::layout::{KERNEL_BASE, STACKS};
use core::arch::asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use exo_abi::boot::VERDICT_PANIC;
use exo_core::Context;
use x86_64::registers::control::Cr2;

/// The most callers that a backtrace names.
const DEPTH: usize = 24;

/// Whether a panic is under way: a second one in it ends the machine at once.
static ENDING: AtomicBool = AtomicBool::new(false);

fn console() -> Serial {
    if ENDING.swap(true, Ordering::Relaxed) {
        end_machine(VERDICT_PANIC);
    }
    // SAFETY: the kernel does not go on.
    unsafe { Serial::steal() }
}

/// Ends the machine because of an exception that no program is to blame for.
pub(crate) fn fatal(context: &Context, vector: u64, error: u64) -> ! {
    let mut console = console();
    let address = Cr2::read_raw();
    let _ = writeln!(
        console,
        "\n[kernel] exception {vector} error {error:#x} address {address:#x}\n[kernel] {context:x?}"
    );
    let _ = write!(console, "[kernel] @backtrace kernel {:#x}", context.rip);
    backtrace(&mut console, context.rbp);
    end_machine(VERDICT_PANIC);
}

/// Writes the return addresses on the stack, by the chain of frame pointers.
fn backtrace(console: &mut Serial, mut frame: u64) {
    for _ in 0..DEPTH {
        // Stacks are in the kernel's half; anything else is the end of the chain.
        if !frame.is_multiple_of(8) || !(STACKS..=u64::MAX - 16).contains(&frame) {
            break;
        }
        // SAFETY: the kernel is compiled with frame pointers, so that this is a frame on its stack;
        // if the stack is spoilt, the fault ends the machine, which is about to end anyway.
        let [next, caller] = unsafe { *(frame as *const [u64; 2]) };
        if caller < KERNEL_BASE {
            break;
        }
        let _ = write!(console, " {caller:#x}");
        frame = next;
    }
    let _ = writeln!(console);
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    let mut console = console();
    let _ = writeln!(console, "\n[kernel] {information}");
    let _ = write!(console, "[kernel] @backtrace kernel {:#x}", panic as *const () as u64);
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    backtrace(&mut console, frame);
    end_machine(VERDICT_PANIC)
}
