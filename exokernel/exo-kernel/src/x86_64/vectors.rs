//! Vector registers: x87, SSE and AVX state, switched only when somebody uses it.
//!
//! The kernel is compiled without vector instructions. On each CPU, `owner` is the environment
//! whose state is in the registers; the task-switched flag is clear only while the owner runs, so
//! that anybody else's first use traps. When the owner comes back by a transfer, the flag stays unless
//! it has used them in this slice: who passes control to and fro without them does not pay for the
//! flag. An environment's cell says on which CPU its state is. When
//! it uses the registers of another CPU, that one puts them away first.

use super::cpu::PerCpu;
use crate::hardware::Hardware;
use crate::x86_64::layout::physical;
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use exo_abi::FrameNumber;
use x86_64::registers::control::{Cr0, Cr0Flags};

/// Where MXCSR is in the area, in words of 32 bits, and its value at reset.
const MXCSR: (usize, u32) = (6, 0x1f80);
/// Where the x87 control word is in the area, in words of 16 bits, and its value at reset.
const CONTROL_WORD: (usize, u16) = (0, 0x37f);
/// Where XSAVE says which parts are in use, in words of 64 bits.
const IN_USE: usize = 64;
/// In place of a slot: nobody.
const NOBODY: u64 = u64::MAX;

/// Who has the vector registers of a CPU.
#[derive(Debug)]
pub(crate) struct Vectors {
    pub(crate) owner: AtomicU64,
    /// Whether using the registers traps.
    pub(crate) trap: AtomicU64,
    /// Whether they have been used in this slice.
    pub(crate) used: AtomicU64,
}

impl Vectors {
    /// Nobody has them, as after [`cpu::initialise`](super::cpu::initialise).
    pub(crate) const fn new() -> Self {
        Self { owner: AtomicU64::new(NOBODY), trap: AtomicU64::new(1), used: AtomicU64::new(0) }
    }

    fn set_trap(&self, on: bool) {
        if self.trap.load(Relaxed) == u64::from(on) {
            return;
        }
        self.trap.store(on.into(), Relaxed);
        let mut flags = Cr0::read();
        flags.set(Cr0Flags::TASK_SWITCHED, on);
        // SAFETY: the flag only makes vector instructions trap, and the kernel has none.
        unsafe { Cr0::write(flags) };
    }
}

/// How vector state is saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    xsave: bool,
}

impl Format {
    /// By XSAVE where the CPU has it, for a state of this size in bytes.
    pub(crate) fn new(state: Option<usize>) -> Self {
        assert!(state.is_none_or(|size| size <= 4096), "vector state fits in a page");
        Self { xsave: state.is_some() }
    }

    fn save(self, area: FrameNumber) {
        let area = physical::<u8>(area.address());
        // SAFETY: the area is a page of an environment's donated memory that nothing else uses, it
        // is aligned to 64 bytes, and the state fits in a page. The masks ask for everything.
        unsafe {
            if self.xsave {
                asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX);
            } else {
                asm!("fxsave64 [{}]", in(reg) area);
            }
        }
    }

    fn load(self, area: FrameNumber) {
        let area = physical::<u64>(area.address());
        // SAFETY: as in `save`. What is loaded was saved here, or is the page as it was created:
        // all zero, which stands for the state at reset, but for two control words that are then
        // set. Only the kernel can write to the page.
        unsafe {
            let controls = area.cast::<u32>().add(MXCSR.0);
            if *area.add(IN_USE) == 0 && *controls == 0 {
                *controls = MXCSR.1;
                *area.cast::<u16>().add(CONTROL_WORD.0) = CONTROL_WORD.1;
            }
            if self.xsave {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX);
            } else {
                asm!("fxrstor64 [{}]", in(reg) area);
            }
        }
    }
}

impl Hardware {
    /// The environment in a slot runs here from now on. What the entry code passes on follows.
    pub(crate) fn want_vectors(&self, slot: u16) {
        let cpu = PerCpu::here();
        let cell = self.board.cell(slot);
        cpu.environment.store(core::ptr::from_ref(cell).cast_mut(), Relaxed);
        cpu.switch.name.store(cell.name().0, Relaxed);
        cpu.upcall.switch(self, cell);
        let vectors = &cpu.vectors;
        vectors.used.store(0, Relaxed);
        vectors.set_trap(vectors.owner.load(Relaxed) != u64::from(slot));
    }

    /// Who runs here has used the registers, and they trap: it does not own them, or has not used
    /// them in this slice.
    pub(crate) fn claim_vectors(&self) {
        let cpu = PerCpu::here();
        let Some(slot) = self.board.cpus[cpu.number as usize].current() else { return };
        cpu.vectors.used.store(1, Relaxed);
        if cpu.vectors.owner.load(Relaxed) == u64::from(slot) {
            return cpu.vectors.set_trap(false);
        }
        self.put_away(cpu);
        cpu.vectors.set_trap(false);
        let cell = self.board.cell(slot);
        match cell.vectors_on.load(SeqCst) {
            0 => {}
            on if on == cpu.number + 1 => {}
            on => self.recall_vectors(on as usize - 1, slot),
        }
        self.format.load(cell.vectors());
        cell.vectors_on.store(cpu.number + 1, SeqCst);
        cpu.vectors.owner.store(slot.into(), Relaxed);
    }

    /// Saves what is in the registers of this CPU, whoever's it is.
    fn put_away(&self, cpu: &PerCpu) {
        let owner = cpu.vectors.owner.swap(NOBODY, Relaxed);
        if owner == NOBODY {
            return;
        }
        let cell = self.board.cell(owner as u16);
        cpu.vectors.set_trap(false);
        self.format.save(cell.vectors());
        cpu.vectors.set_trap(true);
        cell.vectors_on.store(0, SeqCst);
    }

    /// Another CPU wants the state of the environment in a slot.
    pub(crate) fn put_vectors_away(&self, slot: u16) {
        let cpu = PerCpu::here();
        if cpu.vectors.owner.load(Relaxed) == u64::from(slot) {
            self.put_away(cpu);
        }
    }

    /// The environment in a slot has ended, and its state with it.
    pub(crate) fn forget_vectors(&self, slot: u16) {
        let cell = self.board.cell(slot);
        match cell.vectors_on.load(SeqCst) {
            0 => {}
            on if on == PerCpu::here().number + 1 => self.put_vectors_away(slot),
            on => self.recall_vectors(on as usize - 1, slot),
        }
    }
}
