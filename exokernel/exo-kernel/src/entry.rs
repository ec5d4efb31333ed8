//! What the entry code calls: first the processor, which needs no lock, then what needs one.

use crate::drivers::network::NetworkDevice;
use crate::hardware::Hardware;
use crate::panic::fatal;
use crate::x86_64::apic::{ATTENTION, NETWORK, SERIAL, TIMER};
use crate::x86_64::cpu::PerCpu;
use crate::x86_64::trap;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::calls::Number;
use exo_abi::upcall::PAGE_FAULT;
use exo_core::{Context, CpuCell, EnvCell, Exception, Kernel, Machine, Next, Processor};
use secure_bindings::Refill;
use spin::{Mutex, MutexGuard, Once};
use x86_64::VirtAddr;
use x86_64::instructions::{interrupts, tlb};
use x86_64::registers::control::Cr2;

/// What the entry code reads itself of a CPU.
pub(crate) type Cpu = CpuCell<'static>;
/// As the entry code passes it.
pub(crate) type Environment = EnvCell<'static>;

/// The kernel and the machine that it runs on.
pub(crate) struct System {
    pub(crate) hardware: Hardware,
    pub(crate) kernel: Once<Mutex<Kernel<'static, Hardware>>>,
    /// A bit for each CPU whose tick has found the kernel's lock taken, and left to whoever holds it what
    /// is due there.
    deferred: AtomicU64,
}

static SYSTEM: Once<System> = Once::new();

/// The first vector that is not an exception.
const INTERRUPTS: u64 = 32;
/// The most packets taken from the device at one interrupt.
const BATCH: usize = 64;

impl System {
    /// Puts the machine in its place. To be called once.
    pub(crate) fn install(hardware: Hardware) -> &'static Self {
        let system = SYSTEM.call_once(|| Self {
            hardware,
            kernel: Once::new(),
            deferred: AtomicU64::new(0),
        });
        let hardware = &system.hardware;
        for (block, cpu) in hardware.cpus.iter().zip(hardware.board.cpus) {
            let processor = Processor { machine: hardware, board: hardware.board, cpu };
            block.set_here(Here { system, processor });
        }
        system
    }

    /// Puts the kernel of this machine in its place. To be called once, before any program runs.
    pub(crate) fn start(&self, kernel: Kernel<'static, Hardware>) {
        self.kernel.call_once(|| Mutex::new(kernel));
    }

    /// Changes what environments own, when no other CPU does. Interrupts are off in the kernel, so that
    /// nobody takes its lock twice.
    #[inline]
    fn with_kernel(&self, change: impl FnOnce(&mut Kernel<'static, Hardware>)) {
        let Some(kernel) = self.kernel.get() else { return };
        assert!(!PerCpu::here().has_kernel.load(Relaxed), "the kernel's lock is taken twice");
        let guard = kernel.try_lock().unwrap_or_else(|| self.wait_for(kernel));
        self.work(guard, |kernel| {
            change(kernel);
            if self.deferred.load(Relaxed) != 0 {
                kernel.collect(self.deferred.swap(0, Relaxed));
            }
        });
    }

    #[inline]
    fn work<K>(&self, mut guard: MutexGuard<'_, K>, work: impl FnOnce(&mut K)) {
        let has_kernel = &PerCpu::here().has_kernel;
        has_kernel.store(true, Relaxed);
        work(&mut guard);
        drop(guard);
        has_kernel.store(false, Relaxed);
    }

    /// Waits for the lock, serving the other CPUs meanwhile: who holds it may be waiting for this CPU's
    /// translations to be gone.
    #[cold]
    #[inline(never)]
    fn wait_for<'a, T>(&self, lock: &'a Mutex<T>) -> MutexGuard<'a, T> {
        loop {
            self.hardware.pause();
            if let Some(guard) = lock.try_lock() {
                return guard;
            }
        }
    }

    /// Takes what is due from everybody. Whoever runs here has no part in it and does not wait for the
    /// lock, which others may hold for long.
    fn collect(&self) {
        let here = 1 << PerCpu::here().number;
        match self.kernel.get().and_then(Mutex::try_lock) {
            Some(guard) => self.work(guard, |kernel| kernel.collect(here)),
            None => drop(self.deferred.fetch_or(here, Relaxed)),
        }
    }

    #[inline(never)]
    fn console_input(&self) {
        self.with_kernel(|kernel| kernel.console_input());
        self.hardware.apic.acknowledge();
    }

    /// Hands the packets that have arrived to the kernel, and tells the device once of all that was
    /// sent meanwhile.
    #[inline(never)]
    fn receive(&self) {
        self.with_kernel(|kernel| {
            kernel.devices.see_code();
            let device = kernel.devices.network.as_mut();
            let Some(receiver) = device.and_then(NetworkDevice::interrupted) else { return };
            let mut taken = 0;
            while taken < BATCH
                && let Some(packet) = receiver.next()
            {
                kernel.received(packet);
                taken += 1;
            }
            kernel.doorbell(taken as u64);
            if let Some(device) = &mut kernel.devices.network {
                device.replenish(receiver);
            }
            if taken == BATCH {
                // The device has been acknowledged: for what is left it does not interrupt again.
                self.hardware.apic.raise(NETWORK);
            }
        });
        self.hardware.apic.acknowledge();
    }
}

/// What an entry on a CPU is given: the CPU, and the system that it is a part of.
pub(crate) struct Here {
    pub(crate) system: &'static System,
    pub(crate) processor: Processor<'static, Hardware>,
}

impl Here {
    /// Finishes an entry.
    #[inline]
    fn leave(&self, context: &mut Context) -> Exit {
        if self.processor.leave(context) != Next::Run {
            self.leave_slowly(context);
        }
        if self.processor.cpu.take_loaded() { Exit::All } else { Exit::Frame }
    }

    /// Does what keeps an entry from ending, and what comes of that.
    #[cold]
    #[inline(never)]
    fn leave_slowly(&self, context: &mut Context) {
        loop {
            match self.processor.leave(context) {
                Next::Run => return,
                Next::Resolve => self.system.with_kernel(|kernel| kernel.resolve(context)),
                Next::Idle => self.idle(context),
            }
        }
    }

    /// Halts until something happens.
    fn idle(&self, context: &mut Context) {
        interrupts::enable_and_hlt();
        interrupts::disable();
        self.processor.stir();
        let came = PerCpu::here().while_idle.swap(0, Relaxed);
        for vector in (0..32).filter(|bit| came >> bit & 1 != 0) {
            self.interrupt(context, INTERRUPTS as u8 + vector);
        }
    }

    /// Handles an interrupt.
    #[inline]
    fn interrupt(&self, context: &mut Context, vector: u8) {
        match vector {
            TIMER => self.tick(context),
            SERIAL => self.system.console_input(),
            NETWORK => self.system.receive(),
            // Raised by nobody; it must not be acknowledged.
            _ => {}
        }
    }

    #[inline(never)]
    fn tick(&self, context: &mut Context) {
        self.system.hardware.apic.acknowledge();
        if self.processor.tick(context) {
            self.system.collect();
        }
    }
}

/// How the entry code goes back to a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// From a call, by `sysret`: where to, the flags and the stack pointer are in the frame.
    Sysret = 0,
    /// With the frame, and the other registers as they are in the CPU.
    Frame = 1,
    /// With all registers of the context.
    All = 2,
    /// Not yet: there is an upcall to be made for a page fault.
    Tell = 3,
    /// Not yet: the page fault takes longer.
    Further = 4,
}

/// A program has executed `syscall`.
pub(crate) extern "sysv64" fn call(context: &mut Context, here: &Here, cell: &Environment) -> Exit {
    if here.processor.null(cell, context) {
        return Exit::Sysret;
    }
    if context.rax == Number::Protect as u64 {
        return protect(context, here, cell);
    }
    call_further(context, here, cell)
}

/// A program gives pages other rights.
#[inline(never)]
extern "sysv64" fn protect(context: &mut Context, here: &Here, cell: &Environment) -> Exit {
    if !here.processor.protect(cell, context) {
        return call_further(context, here, cell);
    }
    if here.processor.goes_on(cell) {
        return Exit::Sysret;
    }
    (context.rcx, context.r11) = (context.rip, context.rflags);
    finish_call(context, here)
}

#[inline(never)]
extern "sysv64" fn call_further(context: &mut Context, here: &Here, cell: &Environment) -> Exit {
    // As the instruction has left them; the entry code has not saved them twice.
    (context.rcx, context.r11) = (context.rip, context.rflags);
    let mut bound = false;
    if context.rax == Number::Bind as u64 {
        here.system.with_kernel(|kernel| bound = kernel.bind_one(here.processor.cpu, context));
    }
    if bound {
        here.processor.count_call(cell);
        if here.processor.goes_on(cell) {
            return Exit::Sysret;
        }
    } else if !here.processor.call(cell, context) {
        here.system.with_kernel(|kernel| kernel.call(context));
    }
    finish_call(context, here)
}

fn finish_call(context: &mut Context, here: &Here) -> Exit {
    let frame = (context.rip, context.rsp);
    match here.leave(context) {
        Exit::Frame if frame == (context.rip, context.rsp) => Exit::Sysret,
        exit => exit,
    }
}

/// A slice has begun by the short way, and something else is to happen before it ends.
pub(crate) extern "sysv64" fn set_alarm(here: &Here) {
    here.processor.set_slice_alarm();
}

/// The slice that ends by the short way has been too long.
pub(crate) extern "sysv64" fn bill(here: &Here) {
    here.processor.bill_slice();
}

/// Who is to run next by the short way has an event pending.
pub(crate) extern "sysv64" fn resume(context: &mut Context, here: &Here, cell: &Environment) {
    here.processor.resume(cell, context);
    here.leave(context);
}

/// A short way has come to where it cannot do the rest.
pub(crate) extern "sysv64" fn settle(here: &Here, cell: &Environment, until: u64, mode: u64) {
    here.processor.settle(cell, mode, until);
}

/// A short way has given a claim back that was of no use.
pub(crate) extern "sysv64" fn reconsider(here: &Here, cell: &Environment) {
    here.processor.reconsider(cell);
}

/// A program has caused an exception that is none of those below, or a page fault that is not
/// answered, and the short way of an upcall cannot be gone.
pub(crate) extern "sysv64" fn exception(
    context: &mut Context,
    here: &Here,
    cell: &Environment,
    vector: u64,
    error: u64,
) -> Exit {
    let address = if vector == PAGE_FAULT { Cr2::read_raw() } else { 0 };
    let exception = Exception { vector, error, address };
    if here.processor.exception(cell, context, exception) {
        here.system.hardware.note_upcall(cell);
        return Exit::Frame;
    }
    exception_further(context, here, exception)
}

/// A program has caused a page fault. What is over the [`Exit`] is the code for whatever goes on. If
/// it is to be answered soon, or left, the function calls nothing.
pub(crate) extern "sysv64" fn page_fault<const SOON: bool>(
    context: &mut Context,
    here: &Here,
    cell: &Environment,
    vector: u64,
    error: u64,
) -> u64 {
    let fault = Exception { vector, error, address: Cr2::read_raw() };
    let done = here.processor.page_fault(cell, fault, SOON);
    if !SOON {
        // An entry that had to go again may be remembered here: nobody else knows of it.
        tlb::flush(VirtAddr::new_truncate(fault.address));
    }
    match done {
        Refill::Done => Exit::Frame as u64,
        Refill::Refused(refused) => Exit::Tell as u64 | refused.bits() << 8,
        Refill::Locked if SOON => Exit::Further as u64 | error << 8,
        Refill::Locked => exception_further(context, here, fault) as u64,
    }
}

/// A program has used vector registers, and they trap.
pub(crate) extern "sysv64" fn vector_use(_: &mut Context, here: &Here) -> Exit {
    here.system.hardware.claim_vectors();
    Exit::Frame
}

#[inline(never)]
fn exception_further(context: &mut Context, here: &Here, exception: Exception) -> Exit {
    here.system.with_kernel(|kernel| kernel.exception(context, exception));
    here.leave(context)
}

/// An interrupt while a program ran. All its registers are in the context, and in the end those of
/// who is to run.
pub(crate) extern "sysv64" fn interrupt(context: &mut Context, here: &Here, vector: u64) {
    if vector == u64::from(ATTENTION) {
        attend(here.system);
    } else {
        here.processor.cpu.count_interrupt();
        here.interrupt(context, vector as u8);
    }
    here.leave(context);
}

/// An exception or interrupt while the kernel ran.
/// Some exceptions have a stack of their own and come here from programs too.
pub(crate) extern "sysv64" fn inside(context: &mut Context, vector: u64, error: u64) {
    if vector < INTERRUPTS {
        fatal(context, vector, error);
    }
    // The kernel has interrupts on only while it is idle, and looks at this afterwards.
    if vector != u64::from(ATTENTION) {
        let bit = (vector - INTERRUPTS).min(31);
        PerCpu::here().while_idle.fetch_or(1 << bit, Relaxed);
    } else if let Some(system) = SYSTEM.get() {
        attend(system);
    }
}

/// Another CPU wants something, or has something to run for this one.
fn attend(system: &System) {
    let hardware = &system.hardware;
    hardware.apic.acknowledge();
    hardware.pause();
}

/// The life of a CPU from its start on: runs whoever can run.
pub(crate) fn join(cpu: &'static PerCpu) -> ! {
    let Some(here) = cpu.found() else { panic!("a CPU joins before there is a system") };
    // SAFETY: nothing else uses the CPU's context before it has gone to a program.
    let context = unsafe { &mut *cpu.context() };
    here.leave(context);
    // SAFETY: the environment in the context has just been loaded.
    unsafe { trap::go() }
}
