//! The other processors: from the signal that starts them to where they join the first.
//!
//! A processor starts in real mode in a page below 1 MiB. The trampoline that is copied there
//! takes it to the 64-bit mode of the boot tables, which are still where the first instructions
//! built them; it then loads the kernel's own tables, takes a number, and with the number a block
//! and stacks that nobody else has. So a processor that comes when nobody waits for it any more
//! takes nothing from those that came in time: it finds no number left, and halts.

use super::acpi::{PROCESSORS, Processors};
use super::pvh::BootInformation;
use crate::drivers::serial::Serial;
use crate::entry;
use crate::x86_64::apic::{ATTENTION, LocalApic};
use crate::x86_64::clock::Clock;
use crate::x86_64::cpu::{self, PerCpu};
use crate::x86_64::idt::Interrupts;
use crate::x86_64::layout::{KERNEL_BASE, physical};
use core::arch::global_asm;
use core::fmt::Write;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use exo_abi::FrameNumber;
use exo_abi::name::PAGE_SIZE;
use spin::Once;
use x86_64::instructions::interrupts;

global_asm!(
    r#"
    // Runs in a page of its own anywhere below 1 MiB, with the page's address in cs.
    .section .rodata
    .code16
    .global trampoline_start
trampoline_start:
    cli
    cld
    mov ax, cs
    mov ds, ax
    mov eax, 0x20               // PAE
    mov cr4, eax
    mov eax, offset boot_top - {base}
    mov cr3, eax
    mov ecx, 0xc0000080         // EFER: long mode, no-execute
    rdmsr
    or eax, 0x900
    wrmsr
    lgdtd [trampoline_gdt_offset]
    mov eax, 0x80010003         // paging, write protection, monitor coprocessor, protection:
    mov cr0, eax                // from real mode to long mode at once
    // Intel's syntax has no far jump with a 32-bit offset in 16-bit code.
    .byte 0x66, 0xea
    .long processor_long - {base}
    .word 8
trampoline_gdt:
    .word 15
    .long boot_gdt - {base}
    .set trampoline_gdt_offset, trampoline_gdt - trampoline_start
    .global trampoline_end
trampoline_end:

    .section .boot.text, "ax"
    .code64
processor_long:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    movabs rax, offset processor_high
    jmp rax
processor_high:
    mov rax, [rip + {root}]
    mov cr3, rax
    mov edi, 1
    lock xadd [rip + {next}], edi
    cmp edi, {processors}
    jae 2f
    lea rax, [rip + {stacks}]
    mov rsp, [rax + rdi * 8]
    xor ebp, ebp
    call {arrive}
2:  cli
    hlt
    jmp 2b
"#,
    base = const KERNEL_BASE,
    processors = const PROCESSORS,
    root = sym ROOT,
    next = sym NEXT,
    stacks = sym STACKS,
    arrive = sym arrive,
);

// SAFETY: the assembler above defines both. They are read as the bytes between them, and never run
// here.
unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
}

/// The physical address of the kernel's top-level table.
static ROOT: AtomicU64 = AtomicU64::new(0);
/// The number that the next processor takes.
static NEXT: AtomicU32 = AtomicU32::new(NO_MORE);
/// The end of each processor's stack, by number.
static STACKS: [AtomicU64; PROCESSORS] = [const { AtomicU64::new(0) }; PROCESSORS];
/// What the processors share.
static SHARED: Once<Shared> = Once::new();
/// Whether those that have come may go on.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// More than any processor's number, with room for all that may still come.
const NO_MORE: u32 = 1 << 30;
/// Real mode's memory ends here, but for the firmware.
const REAL_MODE_END: u64 = 0xa_0000;

/// How long a processor is left alone after it was reset, as Intel's manual asks.
const RESET: u64 = 10_000_000;
/// When the start signal is sent a second time, to hardware that has missed the first.
const REPEAT: u64 = 1_000_000;
/// How long a processor has to come before the next.
const TURN: u64 = 50_000_000;
/// How long the machine waits for all of its processors together.
const DEADLINE: u64 = 3_000_000_000;

/// What the processors share: made by the first, used by all.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    /// The block of each processor, by number.
    pub(crate) blocks: &'static [PerCpu],
    /// The gates of all vectors.
    pub(crate) interrupts: &'static Interrupts,
    /// The interrupt controller: each sees its own.
    pub(crate) apic: LocalApic,
}

/// The page for the trampoline: the last whole page of usable memory that real mode reaches.
fn trampoline_page(boot: &BootInformation) -> Option<u64> {
    let ends = boot.regions().iter().filter_map(|region| {
        let page = (region.end.min(REAL_MODE_END) / PAGE_SIZE).checked_sub(1)? * PAGE_SIZE;
        // Page 0 is left to firmware.
        (page >= region.start.max(PAGE_SIZE)).then_some(page)
    });
    ends.max()
}

fn wait(clock: &Clock, until: u64, done: impl Fn() -> bool) -> bool {
    while !done() {
        if clock.now() >= until {
            return false;
        }
        spin_loop();
    }
    true
}

/// Starts the processors that were found, one after the other, so that their numbers are in this
/// order. Returns how many run, the first included; the others wait until [`release`]. What must
/// be said is written to `serial`.
pub(crate) fn start(
    boot: &BootInformation,
    found: &Processors,
    root: FrameNumber,
    clock: &Clock,
    shared: Shared,
    serial: &mut Serial,
) -> usize {
    if found.beyond > 0 {
        let _ = writeln!(
            serial,
            "[kernel] {} processors are not used: the kernel runs on {PROCESSORS}",
            found.beyond
        );
    }
    let apic = shared.apic;
    let first = apic.identity();
    let others = || found.identities().iter().filter(|&&identity| identity != first);
    let reached = || others().filter(|identity| apic.reaches(**identity));
    let reached = || reached().take(shared.blocks.len() - 1).copied();
    if others().next().is_none() {
        return 1;
    }
    let Some(page) = trampoline_page(boot) else {
        let _ = writeln!(serial, "[kernel] no memory below 1 MiB: one processor is used");
        return 1;
    };
    prepare(page, root, shared);
    signal(&apic, clock, page, reached);
    let count = NEXT.swap(NO_MORE, Ordering::Acquire) as usize;
    let blocks = &shared.blocks[..count.min(shared.blocks.len())];
    let here = || blocks.iter().all(|block| block.identity().is_some());
    // Who has a number is on its way through a few hundred instructions.
    assert!(wait(clock, clock.now() + DEADLINE, here), "a processor stopped while it started");
    for identity in others() {
        if !blocks.iter().any(|block| block.identity() == Some(*identity)) {
            let _ = writeln!(serial, "[kernel] processor {identity} did not start");
        }
    }
    blocks.len()
}

/// Lays everything out that a processor needs once it has the signal.
fn prepare(page: u64, root: FrameNumber, shared: Shared) {
    let code = &raw const trampoline_start;
    let length = (&raw const trampoline_end).addr() - code.addr();
    // SAFETY: the page is usable memory below what is ever handed out, so that it is in the direct
    // map and nothing of the kernel's; what the boot loader put there has been copied or read. The
    // trampoline is the bytes between its two symbols, far less than a page.
    unsafe { physical::<u8>(page).copy_from_nonoverlapping(code, length) };
    ROOT.store(root.address(), Ordering::Relaxed);
    for (stack, block) in STACKS.iter().zip(shared.blocks) {
        stack.store(block.stack, Ordering::Relaxed);
    }
    SHARED.call_once(|| shared);
    NEXT.store(1, Ordering::Release);
}

/// Sends the signals, and waits for each processor to take its number.
fn signal<I: Iterator<Item = u32>>(
    apic: &LocalApic,
    clock: &Clock,
    page: u64,
    identities: impl Fn() -> I,
) {
    let begin = clock.now();
    identities().for_each(|identity| apic.reset(identity));
    wait(clock, begin + RESET, || false);
    for identity in identities() {
        let before = NEXT.load(Ordering::Relaxed);
        let come = || NEXT.load(Ordering::Relaxed) > before;
        apic.start(identity, page);
        if !wait(clock, clock.now() + REPEAT, come) {
            apic.start(identity, page);
            wait(clock, clock.now() + TURN, come);
        }
    }
    // One that was late has taken the number of another, which does not matter.
    let all = identities().count();
    wait(clock, begin + DEADLINE, || NEXT.load(Ordering::Relaxed) as usize > all);
}

/// Lets the processors that have come go on.
pub(crate) fn release() {
    RELEASED.store(true, Ordering::Release);
    let Some(Shared { blocks, apic, .. }) = SHARED.get() else { return };
    for identity in blocks.iter().skip(1).filter_map(PerCpu::identity) {
        apic.send(identity, ATTENTION);
    }
}

/// The first function of each other processor, on its own stack.
extern "sysv64" fn arrive(number: u32) -> ! {
    let block = SHARED.get().and_then(|shared| Some((shared, shared.blocks.get(number as usize)?)));
    let Some((shared, block)) = block else { panic!("processor {number} has no block") };
    cpu::initialise();
    // SAFETY: each number is taken once, and the first processor has number 0.
    unsafe { cpu::settle(block, shared.interrupts) };
    shared.apic.initialise();
    block.set_identity(shared.apic.identity());
    // Halted, because under an emulator a processor that spins takes time from the first. An
    // interrupt that comes before the halt ends it at once.
    while !RELEASED.load(Ordering::Acquire) {
        interrupts::enable_and_hlt();
        interrupts::disable();
    }
    entry::join(block)
}
