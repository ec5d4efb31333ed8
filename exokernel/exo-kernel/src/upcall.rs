//! What the entry code needs to make an upcall by itself.
//!
//! An exception or a page fault without an answer, in a program that is not in a handler already, needs
//! nothing but the control page and the page at the top of the upcall stack. The last upcall that went the
//! long way has checked both, and left here what it found; the entry code compares it with what the
//! control page says now, and then writes the frame. It is forgotten when another environment runs
//! on the CPU, or when any translation may have gone.

use crate::hardware::Hardware;
use crate::x86_64::cpu::PerCpu;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::control::ControlWord;
use exo_abi::layout::USER_END;
use exo_abi::name::PAGE_SIZE;
use exo_abi::upcall::FRAME_WORDS;
use exo_core::{CpuCell, EnvCell};
use secure_bindings::FrameMemory;

/// The words that the entry code knows, for one CPU. Addresses are the kernel's own.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Upcall {
    /// Where the frame is written; 0: nothing here holds.
    pub(crate) frame: AtomicU64,
    /// Where the program sees the frame.
    pub(crate) place: AtomicU64,
    /// The handler.
    pub(crate) entry: AtomicU64,
    /// The upcall stack's ends.
    pub(crate) base: AtomicU64,
    pub(crate) top: AtomicU64,
    /// A stack pointer is in the upcall stack, or just below, if it is less than `span` above this.
    pub(crate) low: AtomicU64,
    pub(crate) span: AtomicU64,
    /// The control page of who runs.
    pub(crate) control: AtomicU64,
    /// The exposed entry of who runs.
    pub(crate) environment: AtomicU64,
    /// The CPU's own counters.
    pub(crate) statistics: AtomicU64,
}

fn address<T>(words: &[T]) -> u64 {
    words.as_ptr().addr() as u64
}

impl Upcall {
    /// Leaves the next upcall to the long way.
    pub(crate) fn forget(&self) {
        self.frame.store(0, Relaxed);
    }

    /// As [`forget`](Self::forget), if the frame would be written to this page, or to any if there is
    /// none.
    pub(crate) fn forget_in(&self, page: Option<u64>) {
        if page.map_or(0, |page| self.place.load(Relaxed).wrapping_sub(page)) < PAGE_SIZE {
            self.forget();
        }
    }

    /// The CPU's counters are those of this cell, for ever.
    pub(crate) fn set_statistics(&self, cell: &CpuCell<'_>) {
        self.statistics.store(address(cell.statistics), Relaxed);
    }

    /// Another environment runs here.
    pub(crate) fn switch(&self, hardware: &Hardware, cell: &EnvCell<'_>) {
        self.forget();
        self.control.store(address(cell.control(hardware)), Relaxed);
        self.environment.store(address(cell.entry), Relaxed);
    }
}

impl Hardware {
    /// Takes note of where the upcall went that has just been made the long way.
    pub(crate) fn note_upcall(&self, cell: &EnvCell<'_>) {
        let cpu = PerCpu::here();
        let control = cell.control(self);
        let [entry, base, top] =
            [ControlWord::Entry, ControlWord::StackBase, ControlWord::StackTop]
                .map(|word| control[word as usize].load(Relaxed));
        let size = FRAME_WORDS as u64 * 8;
        let place = (top & !15).wrapping_sub(size);
        let (page, offset) = (place & !(PAGE_SIZE - 1), place % PAGE_SIZE);
        let known = cell.remembered(page, self.board.breaks());
        // Checked as for the upcall itself, because the page is the program's to write to.
        let fits = place.wrapping_sub(base) < top.wrapping_sub(base) && offset + size <= PAGE_SIZE;
        let Some(frame) = known.filter(|_| entry < USER_END && fits) else { return };
        let upcall = &cpu.upcall;
        let frame = address(self.page(frame)) + offset;
        for (word, value) in [
            (&upcall.place, place),
            (&upcall.entry, entry),
            (&upcall.base, base),
            (&upcall.top, top),
            (&upcall.low, base.wrapping_sub(PAGE_SIZE - 1)),
            (&upcall.span, top.wrapping_sub(base).wrapping_add(PAGE_SIZE)),
            (&upcall.frame, frame),
        ] {
            word.store(value, Relaxed);
        }
    }
}
