//! What a panic does: a message, a backtrace, an end.

use crate::{backtrace, control, environment, println};
use core::arch::asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a program that has panicked.
pub const EXIT_CODE: u64 = 101;

/// Reports a panic and ends the program. [`program!`](crate::program) makes it the panic handler.
pub fn end(info: &PanicInfo<'_>) -> ! {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    let _masked = control::Masked::hold();
    if !PANICKED.swap(true, Ordering::Relaxed) {
        let (here, frame): (u64, u64);
        // SAFETY: it only copies registers.
        unsafe {
            asm!("lea {}, [rip]", "mov {}, rbp", out(reg) here, out(reg) frame,
                options(nomem, nostack));
        }
        println!("{info}");
        backtrace::print(here, frame);
    }
    environment::exit(EXIT_CODE)
}

/// What the precompiled `alloc` refers to for unwinding. Programs are built to abort, so that
/// nothing unwinds and nobody calls these; the linker asks for them all the same.
#[cfg(target_env = "musl")]
mod unwinding {
    use core::arch::naked_asm;

    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {
        naked_asm!("ud2")
    }

    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Resume() -> ! {
        naked_asm!("ud2")
    }
}
