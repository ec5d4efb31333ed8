//! The machine, as the kernel's mechanism sees it.

use crate::devices::Devices;
use crate::x86_64::apic::LocalApic;
use crate::x86_64::clock::Clock;
use crate::x86_64::cpu::PerCpu;
use crate::x86_64::layout::physical;
use crate::x86_64::segments;
use crate::x86_64::vectors::Format;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use exo_abi::FrameNumber;
use exo_abi::boot::{VERDICT_BASE, VERDICT_MAX, VERDICT_PANIC, VERDICT_PORT};
use exo_abi::name::PAGE_SIZE;
use exo_core::{Board, Machine, Processor};
use secure_bindings::{FrameMemory, Page, TranslationCache};
use x86_64::PhysAddr;
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Everything that is not one CPU's state alone.
pub(crate) struct Hardware {
    pub(crate) board: &'static Board<'static>,
    pub(crate) clock: Clock,
    pub(crate) apic: LocalApic,
    /// The CPUs that run, by number.
    pub(crate) cpus: &'static [PerCpu],
    pub(crate) format: Format,
    /// The kernel's own top-level table.
    pub(crate) root: FrameNumber,
    /// The number of frames in the frame table: all are in the direct map or never asked for.
    pub(crate) frames: usize,
}

impl Hardware {
    /// A frame's memory.
    pub(crate) fn bytes(&self, frame: FrameNumber) -> *mut u8 {
        assert!((frame.0 as usize) < self.frames, "a frame beyond the frame table");
        physical(frame.address())
    }
}

impl FrameMemory for Hardware {
    fn page(&self, frame: FrameNumber) -> &Page {
        let pointer = self.bytes(frame).cast::<Page>();
        // SAFETY: the kernel's mechanism only asks for frames that are memory and not the kernel's
        // image, and all of those are in the direct map for ever. Every access is atomic.
        unsafe { &*pointer }
    }

    fn read(&self, frame: FrameNumber, offset: usize, into: &mut [u8]) {
        let length = into.len().min((PAGE_SIZE as usize).saturating_sub(offset));
        // SAFETY: as in `page`, and the range stays in the frame. A program that writes at the
        // same time only spoils what it passes itself.
        unsafe { self.bytes(frame).add(offset).copy_to(into.as_mut_ptr(), length) };
    }

    fn write(&self, frame: FrameNumber, offset: usize, from: &[u8]) {
        let length = from.len().min((PAGE_SIZE as usize).saturating_sub(offset));
        // SAFETY: as in `read`.
        unsafe { self.bytes(frame).add(offset).copy_from(from.as_ptr(), length) };
    }

    fn clear(&self, frame: FrameNumber) {
        // SAFETY: as in `page`.
        unsafe { self.bytes(frame).write_bytes(0, PAGE_SIZE as usize) };
    }
}

impl TranslationCache for Hardware {
    fn flush(&self, root: FrameNumber, address: u64) {
        self.shoot_down(root, Some(address));
    }

    fn flush_space(&self, root: FrameNumber) {
        self.shoot_down(root, None);
    }
}

impl Machine for Hardware {
    type Devices = Devices;

    fn cpu(&self) -> usize {
        PerCpu::here().number as usize
    }

    fn kick(&self, cpu: usize) {
        if let Some(cpu) = self.cpus.get(cpu) {
            self.interrupt(cpu);
        }
    }

    fn pause(&self) {
        // Who holds the lock may be waiting for this CPU to let go of an environment, and takes an
        // answer as a sign that it is not in the tables of one that it does not run.
        Processor::here(self, self.board).drop_doomed();
        self.serve();
        core::hint::spin_loop();
    }

    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn activate(&self, root: FrameNumber) {
        let cpu = PerCpu::here();
        if cpu.root.load(Relaxed) == root.address() {
            return;
        }
        // Who takes a translation away changes the table, then looks here. So either it sees that
        // this CPU uses the table, or this CPU sees the change.
        cpu.root.swap(root.address(), SeqCst);
        let frame = PhysFrame::containing_address(PhysAddr::new_truncate(root.address()));
        // SAFETY: every top-level table has the kernel's half, so that code and stack stay mapped.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    }

    fn forget(&self, root: FrameNumber, page: Option<u64>) {
        PerCpu::here().upcall.forget_in(page);
        self.forget_translations(root, page);
    }

    fn deactivate(&self) {
        self.activate(self.root);
    }

    fn quiesce(&self) {
        self.others().for_each(|cpu| self.ask(cpu));
    }

    fn common_entry(&self, index: usize) -> u64 {
        self.page(self.root)[index & 511].load(Relaxed)
    }

    fn set_alarm(&self, now: u64, at: u64) {
        self.apic.interrupt_in(at.saturating_sub(now));
    }

    fn switch_vectors(&self, slot: u16) {
        self.want_vectors(slot);
    }

    fn forget_vectors(&self, slot: u16) {
        Self::forget_vectors(self, slot);
    }

    fn segment_bases(&self) -> [u64; 2] {
        segments::bases()
    }

    fn set_segment_bases(&self, bases: [u64; 2]) {
        segments::set_bases(bases);
    }

    fn exit(&self, code: u64) {
        end_machine(code.min(VERDICT_MAX))
    }
}

/// Ends the machine by the emulator's verdict port, or, without an emulator, for ever.
pub(crate) fn end_machine(code: u64) -> ! {
    const { assert!(VERDICT_PANIC + (VERDICT_BASE as u64) < 128) };
    // SAFETY: writing to the port ends the emulator; elsewhere nobody listens.
    unsafe { Port::new(VERDICT_PORT).write(code as u8 + VERDICT_BASE) };
    loop {
        interrupts::disable();
        hlt();
    }
}
