//! What the entry code calls: gives each entry to the kernel's mechanism.

use crate::drivers::network::BUFFER;
use crate::hardware::Hardware;
use crate::panic::fatal;
use crate::x86_64::apic::{NETWORK, SERIAL, TIMER};
use crate::x86_64::cpu::PerCpu;
use core::sync::atomic::{AtomicU32, Ordering};
use exo_core::{Context, Kernel};
use spin::{Mutex, MutexGuard, Once};
use x86_64::instructions::{hlt, interrupts};
use x86_64::registers::control::Cr2;

/// The kernel and the machine that it runs on.
pub(crate) struct System {
    pub(crate) kernel: Kernel<'static>,
    pub(crate) hardware: Hardware,
}

static SYSTEM: Once<Mutex<System>> = Once::new();

/// Interrupts that came while the CPU was idle: a bit for each, from vector 32 on.
static WHILE_IDLE: AtomicU32 = AtomicU32::new(0);

const DEVICE_NOT_AVAILABLE: u64 = 7;
const PAGE_FAULT: u64 = 14;
/// The first vector that is not an exception.
const INTERRUPTS: u64 = 32;
/// Exceptions that nobody but the machine is to blame for: not maskable, double fault, machine
/// check.
const FATAL: [u64; 3] = [2, 8, 18];
/// The most packets taken from the device at one interrupt.
const BATCH: usize = 64;

/// Puts the system in its place. To be called once.
pub(crate) fn install(system: System) {
    SYSTEM.call_once(|| Mutex::new(system));
}

/// The system, for one entry.
pub(crate) fn system() -> MutexGuard<'static, System> {
    match SYSTEM.get() {
        Some(system) => system.lock(),
        None => panic!("an entry before the kernel was there"),
    }
}

/// Where the other CPUs end up: they have nothing to run yet.
pub(crate) fn join(_block: &'static PerCpu) -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}

/// A program has executed `syscall`.
pub(crate) extern "sysv64" fn call(context: &mut Context) {
    let mut system = system();
    let System { kernel, hardware } = &mut *system;
    kernel.call(hardware, context);
    leave(system, context);
}

/// An exception or interrupt.
pub(crate) extern "sysv64" fn trap(context: &mut Context, vector: u64, error: u64) {
    let from_program = context.cs & 3 != 0;
    if FATAL.contains(&vector) || !from_program && vector < INTERRUPTS {
        fatal(context, vector, error);
    }
    if !from_program {
        // The kernel has interrupts on only while it is idle, and looks at this afterwards.
        WHILE_IDLE.fetch_or(1 << (vector - INTERRUPTS).min(31), Ordering::Relaxed);
        return;
    }
    let mut system = system();
    let System { kernel, hardware } = &mut *system;
    match vector {
        DEVICE_NOT_AVAILABLE => return hardware.vectors.claim(),
        vector if vector < INTERRUPTS => {
            let address = if vector == PAGE_FAULT { Cr2::read_raw() } else { 0 };
            kernel.exception(hardware, context, vector as u8, error, address);
        }
        vector => system.interrupt(context, vector as u8),
    }
    leave(system, context);
}

/// Waits until somebody can run, if nobody can.
fn leave(mut system: MutexGuard<'_, System>, context: &mut Context) {
    while system.kernel.idle() {
        drop(system);
        interrupts::enable_and_hlt();
        interrupts::disable();
        system = self::system();
        let came = WHILE_IDLE.swap(0, Ordering::Relaxed);
        for vector in (0..31).filter(|bit| came >> bit & 1 != 0) {
            system.interrupt(context, INTERRUPTS as u8 + vector);
        }
    }
    context.confine();
}

impl System {
    /// Handles an interrupt. Afterwards `context` is what is to run.
    fn interrupt(&mut self, context: &mut Context, vector: u8) {
        let Self { kernel, hardware } = self;
        match vector {
            TIMER => {
                hardware.apic.acknowledge();
                kernel.tick(hardware, context);
            }
            SERIAL => {
                kernel.console_input(hardware);
                hardware.apic.acknowledge();
                kernel.after_interrupt(hardware, context);
            }
            NETWORK => {
                self.receive();
                self.hardware.apic.acknowledge();
                self.kernel.after_interrupt(&mut self.hardware, context);
            }
            // Raised by nobody; it must not be acknowledged.
            _ => {}
        }
    }

    /// Hands the packets that have arrived to the kernel.
    fn receive(&mut self) {
        let Self { kernel, hardware } = self;
        let mut packet = [0; BUFFER];
        if let Some(network) = &mut hardware.network {
            network.acknowledge();
        }
        let mut taken = 0;
        while taken < BATCH {
            let Some(network) = &mut hardware.network else { return };
            let Some(length) = network.receive(&mut packet) else { break };
            kernel.received(hardware, &packet[..length]);
            taken += 1;
        }
        if let Some(network) = &mut hardware.network {
            network.replenish();
        }
        if taken == BATCH {
            // The device has been acknowledged: for what is left it does not interrupt again.
            hardware.apic.raise(NETWORK);
        }
    }
}
