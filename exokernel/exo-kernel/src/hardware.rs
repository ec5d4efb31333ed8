//! The machine, as the kernel's mechanism sees it.

use crate::drivers::network::NetworkDevice;
use crate::drivers::serial::Serial;
use crate::jit::Jit;
use crate::x86_64::apic::LocalApic;
use crate::x86_64::clock::Clock;
use crate::x86_64::layout::physical;
use crate::x86_64::vectors::Vectors;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::FrameNumber;
use exo_abi::boot::{VERDICT_BASE, VERDICT_MAX, VERDICT_PANIC, VERDICT_PORT};
use exo_abi::name::PAGE_SIZE;
use exo_core::{FILTERS, Machine, SendError};
use packet_filters::FilterSet;
use secure_bindings::{FrameMemory, Page, TranslationCache};
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts, tlb};
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::registers::model_specific::{FsBase, KernelGsBase};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

/// Everything that is not the processor's state alone.
pub(crate) struct Hardware {
    pub(crate) clock: Clock,
    pub(crate) apic: LocalApic,
    pub(crate) serial: Serial,
    pub(crate) network: Option<NetworkDevice>,
    pub(crate) vectors: Vectors,
    pub(crate) jit: Jit,
    /// The kernel's own top-level table.
    pub(crate) root: FrameNumber,
    /// The number of frames in the frame table: all are in the direct map or never asked for.
    pub(crate) frames: usize,
}

fn load_root(root: FrameNumber) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root.address()));
    if Cr3::read().0 != frame {
        // SAFETY: every top-level table has the kernel's half, so that code and stack stay mapped.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    }
}

impl Hardware {
    fn bytes(&self, frame: FrameNumber) -> *mut u8 {
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
        if Cr3::read().0.start_address().as_u64() == root.address() {
            tlb::flush(VirtAddr::new_truncate(address));
        }
    }

    fn flush_space(&self, root: FrameNumber) {
        if Cr3::read().0.start_address().as_u64() == root.address() {
            tlb::flush_all();
        }
    }
}

impl Machine for Hardware {
    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn activate(&mut self, root: FrameNumber) {
        load_root(root);
    }

    fn deactivate(&mut self) {
        load_root(self.root);
    }

    fn common_entry(&self, index: usize) -> u64 {
        let word: &AtomicU64 = &self.page(self.root)[index & 511];
        word.load(Ordering::Relaxed)
    }

    fn set_alarm(&mut self, at: u64) {
        let now = self.clock.now();
        self.apic.interrupt_in(at.saturating_sub(now));
    }

    fn console_write(&mut self, bytes: &[u8]) {
        self.serial.write(bytes);
    }

    fn console_read(&mut self) -> Option<u8> {
        self.serial.read()
    }

    fn link_address(&self) -> Option<[u8; 6]> {
        self.network.as_ref().map(NetworkDevice::address)
    }

    fn transmit(&mut self, packet: &[u8]) -> Result<(), SendError> {
        self.network.as_mut().ok_or(SendError::NoDevice)?.transmit(packet)
    }

    fn doorbell(&mut self) {
        if let Some(network) = &mut self.network {
            network.doorbell();
        }
    }

    fn load_classifier(&mut self, filters: &FilterSet<FILTERS>) -> bool {
        self.jit.load(filters)
    }

    fn classify(&self, packet: &[u8]) -> Option<u32> {
        self.jit.classify(packet)
    }

    fn switch_vectors(&mut self, area: FrameNumber) {
        self.vectors.switch(area);
    }

    fn forget_vectors(&mut self, area: FrameNumber) {
        self.vectors.forget(area);
    }

    fn segment_bases(&self) -> [u64; 2] {
        // As numbers: QEMU lets a program set a base that is no address.
        // SAFETY: both registers exist on every 64-bit CPU, and reading them changes nothing.
        unsafe { [FsBase::MSR.read(), KernelGsBase::MSR.read()] }
    }

    fn set_segment_bases(&mut self, [fs, gs]: [u64; 2]) {
        FsBase::write(VirtAddr::new_truncate(fs));
        KernelGsBase::write(VirtAddr::new_truncate(gs));
    }

    fn exit(&mut self, code: u64) {
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
