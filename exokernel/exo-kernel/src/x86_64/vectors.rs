//! Vector registers: x87, SSE and AVX state, switched only when somebody uses it.
//!
//! The kernel is compiled without vector instructions. `owner` is the area whose state is in the
//! registers; the task-switched flag is clear only while the owner runs, so that anybody else's
//! first use traps.

use super::cpu::Features;
use crate::x86_64::layout::physical;
use core::arch::asm;
use exo_abi::FrameNumber;
use x86_64::registers::control::{Cr0, Cr0Flags};

/// Where MXCSR is in the area, in words of 32 bits, and its value at reset.
const MXCSR: (usize, u32) = (6, 0x1f80);
/// Where the x87 control word is in the area, in words of 16 bits, and its value at reset.
const CONTROL_WORD: (usize, u16) = (0, 0x37f);
/// Where XSAVE says which parts are in use, in words of 64 bits.
const IN_USE: usize = 64;

/// Who has the vector registers, and who wants them.
#[derive(Debug)]
pub(crate) struct Vectors {
    owner: Option<FrameNumber>,
    wanted: Option<FrameNumber>,
    xsave: bool,
}

impl Vectors {
    /// Nobody has them.
    pub(crate) fn new(features: &Features) -> Self {
        assert!(features.xsave.is_none_or(|size| size <= 4096), "vector state fits in a page");
        Self { owner: None, wanted: None, xsave: features.xsave.is_some() }
    }

    /// The environment with this area runs from now on.
    pub(crate) fn switch(&mut self, area: FrameNumber) {
        self.wanted = Some(area);
        set_trap(self.owner != Some(area));
    }

    /// The area is gone, and the state with it.
    pub(crate) fn forget(&mut self, area: FrameNumber) {
        if self.owner == Some(area) {
            self.owner = None;
            set_trap(true);
        }
    }

    /// Somebody has used the registers who does not own them.
    pub(crate) fn claim(&mut self) {
        set_trap(false);
        if self.owner == self.wanted {
            return;
        }
        if let Some(area) = self.owner.take() {
            self.save(area);
        }
        if let Some(area) = self.wanted {
            self.load(area);
        }
        self.owner = self.wanted;
    }

    fn save(&self, area: FrameNumber) {
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

    fn load(&self, area: FrameNumber) {
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

fn set_trap(on: bool) {
    let mut flags = Cr0::read();
    if flags.contains(Cr0Flags::TASK_SWITCHED) != on {
        flags.set(Cr0Flags::TASK_SWITCHED, on);
        // SAFETY: the flag only makes vector instructions trap, and the kernel has none.
        unsafe { Cr0::write(flags) };
    }
}
