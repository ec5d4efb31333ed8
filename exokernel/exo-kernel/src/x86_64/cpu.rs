//! What the processor can do, and what the kernel keeps for each of them.

use super::gdt::{self, Segments};
use super::idt::Interrupts;
use super::segments;
use super::switch::Switch;
use super::trap;
use super::vectors::Vectors;
use crate::entry::Here;
use crate::shootdown::Mailbox;
use crate::upcall::Upcall;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc};
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use exo_core::{Context, CpuCell, EnvCell};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::random::RdRand;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags, GsBase, KernelGsBase};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// What a CPU has of its own. The entry code reaches it through GS and knows the first fields.
/// Aligned so that no two share a line of the cache.
#[repr(C, align(64))]
pub(crate) struct PerCpu {
    /// The end of the stack of this CPU's entries to the kernel.
    pub(crate) stack: u64,
    /// The number of the CPU.
    pub(crate) number: u64,
    /// Its own address.
    this: AtomicPtr<Self>,
    /// Its segments and task state.
    segments: Segments,
    /// The number of its interrupt controller; [`NOBODY`] until the CPU is there.
    identity: AtomicU32,
    /// What the entry code passes on, and where that is.
    here: Once<Here>,
    pub(crate) entry: AtomicPtr<Here>,
    /// Its own cell.
    pub(crate) cell: AtomicPtr<CpuCell<'static>>,
    /// The cell of the environment that runs.
    pub(crate) environment: AtomicPtr<EnvCell<'static>>,
    /// The address of `context`.
    pub(crate) registers: AtomicPtr<Context>,
    /// The registers of the program that has entered the kernel here. The CPU itself pushes its
    /// part, from the end on.
    pub(crate) context: UnsafeCell<Registers>,
    /// The physical address of the top-level table that is current.
    pub(crate) root: AtomicU64,
    /// Whether it holds the kernel's lock.
    pub(crate) has_kernel: AtomicBool,
    /// Interrupts that came while it was idle: a bit for each, from vector 32 on.
    pub(crate) while_idle: AtomicU32,
    /// For the short way of an upcall.
    pub(crate) upcall: Upcall,
    /// For the short ways to another environment.
    pub(crate) switch: Switch,
    /// Whose vector registers it has.
    pub(crate) vectors: Vectors,
    /// What other CPUs ask of it.
    pub(crate) mailbox: Mailbox,
    /// How often generated code was written when this CPU last looked at it anew.
    pub(crate) code: AtomicU64,
}

/// A context whose end is where the CPU can push: a multiple of 16.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Registers(Context);

const _: () = assert!(size_of::<Registers>() == size_of::<Context>());

// SAFETY: only the CPU itself uses its context, and every other field is an atomic or never changes
// once the CPU runs.
unsafe impl Sync for PerCpu {}

/// No interrupt controller has this number: by it, all are meant.
const NOBODY: u32 = u32::MAX;

impl PerCpu {
    /// A block, before [`PerCpu::prepare`].
    pub(crate) fn new() -> Self {
        Self {
            stack: 0,
            number: 0,
            this: AtomicPtr::new(core::ptr::null_mut()),
            segments: Segments::new(),
            identity: AtomicU32::new(NOBODY),
            here: Once::new(),
            entry: AtomicPtr::new(core::ptr::null_mut()),
            cell: AtomicPtr::new(core::ptr::null_mut()),
            environment: AtomicPtr::new(core::ptr::null_mut()),
            registers: AtomicPtr::new(core::ptr::null_mut()),
            context: UnsafeCell::new(Registers(Context::start(0, 0, 0))),
            root: AtomicU64::new(0),
            has_kernel: AtomicBool::new(false),
            while_idle: AtomicU32::new(0),
            upcall: Upcall::default(),
            switch: Switch::default(),
            vectors: Vectors::new(),
            mailbox: Mailbox::default(),
            code: AtomicU64::new(0),
        }
    }

    /// The block of the CPU that asks.
    #[inline]
    pub(crate) fn here() -> &'static Self {
        let block: *const Self;
        // SAFETY: GS leads to the CPU's block while the kernel runs, and the block stays for ever.
        unsafe {
            asm!(
                "mov {}, gs:[{}]",
                out(reg) block,
                const offset_of!(Self, this),
                options(nostack, readonly, pure, preserves_flags)
            );
            &*block
        }
    }

    /// Says what system it is a part of, and as what.
    pub(crate) fn set_here(&self, here: Here) {
        let here = self.here.call_once(|| here);
        let cell = here.processor.cpu;
        self.upcall.set_statistics(cell);
        self.switch.open(here.system, self.number as usize);
        self.cell.store(core::ptr::from_ref(cell).cast_mut(), Ordering::Release);
        self.entry.store(core::ptr::from_ref(here).cast_mut(), Ordering::Release);
    }

    /// What [`set_here`](Self::set_here) has said.
    pub(crate) fn found(&self) -> Option<&Here> {
        self.here.get()
    }

    /// The registers of the program that has entered the kernel here.
    pub(crate) fn context(&self) -> *mut Context {
        self.context.get().cast()
    }

    /// Makes it the block of the CPU with this number, whose entries use the stack that ends at
    /// `stack`, and whose other stacks are those of [`OwnStack`](gdt::OwnStack) in their order.
    ///
    /// # Safety
    /// The block must stay where it is for ever.
    pub(crate) unsafe fn prepare(&mut self, number: u64, stack: u64, own: [u64; 3]) {
        self.stack = stack;
        self.number = number;
        self.this = AtomicPtr::new(self);
        self.registers = AtomicPtr::new(self.context());
        let end = self.context().wrapping_add(1).addr() as u64;
        // SAFETY: the caller's promise, since the segments are a part of the block.
        unsafe { self.segments.fill(end, own) };
    }

    /// The number of its interrupt controller, once the CPU is there.
    pub(crate) fn identity(&self) -> Option<u32> {
        Some(self.identity.load(Ordering::Acquire)).filter(|&identity| identity != NOBODY)
    }

    /// Says that the CPU is there.
    pub(crate) fn set_identity(&self, identity: u32) {
        self.identity.store(identity, Ordering::Release);
    }
}

/// A word that no program can guess, if the processor has random ones; if not, one that is hard to
/// guess: the time since it was started.
pub(crate) fn random() -> u64 {
    let drawn = RdRand::new().and_then(|source| (0..16).find_map(|_| source.get_u64()));
    drawn.unwrap_or_else(|| {
        // SAFETY: every processor with a 64-bit mode counts its cycles.
        unsafe { _rdtsc() }.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// Turns on the processor's fences and features. To be called once on each CPU. Returns the size of the
/// vector state in bytes, with everything in XCR0 used, if the CPU has XSAVE.
pub(crate) fn initialise() -> Option<usize> {
    let leaf7 = __cpuid_count(7, 0);
    let leaf1 = __cpuid(1);
    let bit = |word: u32, bit: u32| word >> bit & 1 != 0;
    let xsave = bit(leaf1.ecx, 26);
    let mut flags = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::PAGE_GLOBAL
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE;
    for (there, flag) in [
        (bit(leaf7.ebx, 7), Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
        (bit(leaf7.ebx, 20), Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
        (bit(leaf7.ecx, 2), Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
        (bit(leaf7.ebx, 0), Cr4Flags::FSGSBASE),
        (xsave, Cr4Flags::OSXSAVE),
    ] {
        flags.set(flag, there);
    }
    // SAFETY: the flags turn on what CPUID says is there; none changes how memory is mapped.
    unsafe {
        Cr4::write(flags);
        let cr0 = (Cr0::read() - Cr0Flags::EMULATE_COPROCESSOR)
            | Cr0Flags::MONITOR_COPROCESSOR
            | Cr0Flags::NUMERIC_ERROR
            | Cr0Flags::WRITE_PROTECT
            | Cr0Flags::ALIGNMENT_MASK
            | Cr0Flags::TASK_SWITCHED;
        Cr0::write(cr0);
        Efer::update(|efer| {
            *efer |= EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS;
        });
    }
    segments::use_instructions(bit(leaf7.ebx, 0));
    xsave.then(vector_state)
}

/// Enables all vector state up to AVX and says how large it is.
fn vector_state() -> usize {
    let mut state = XCr0Flags::X87 | XCr0Flags::SSE;
    state.set(XCr0Flags::AVX, __cpuid(1).ecx >> 28 & 1 != 0);
    // SAFETY: OSXSAVE is on, and CPUID says that the state is there.
    unsafe { XCr0::write(state) };
    __cpuid_count(0xd, 0).ebx as usize
}

/// Makes a block the current CPU's, with its segments, the gates of all vectors and the entry for
/// calls.
///
/// # Safety
/// The block must be prepared, and no other CPU's.
pub(crate) unsafe fn settle(block: &'static PerCpu, interrupts: &'static Interrupts) {
    block.segments.load();
    // Entries from programs swap the two, so that GS leads to the block in the kernel only.
    GsBase::write(VirtAddr::from_ptr(block));
    KernelGsBase::write(VirtAddr::zero());
    interrupts.load();
    gdt::set_call_entry(trap::call_address());
}
