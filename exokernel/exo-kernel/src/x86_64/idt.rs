//! The interrupt descriptor table.

use super::gdt::OwnStack;
use super::trap;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

/// A present 64-bit interrupt gate that only the kernel can raise.
const GATE: u128 = 0x8e << 40;
/// The gate's privilege level that lets programs raise it by an instruction.
const FROM_PROGRAMS: u128 = 3 << 45;
/// The vectors that instructions of their own raise: breakpoint and overflow.
const INSTRUCTIONS: [usize; 2] = [3, 4];

/// The table: a gate for each vector.
#[repr(C, align(16))]
pub(crate) struct Interrupts {
    gates: [u128; 256],
}

impl Interrupts {
    /// No gates.
    pub(crate) const fn new() -> Self {
        Self { gates: [0; 256] }
    }

    /// Fills the table.
    pub(crate) fn fill(&mut self) {
        for (vector, gate) in self.gates.iter_mut().enumerate() {
            let entry = u128::from(trap::entry(vector));
            let own_stack = match vector {
                2 => OwnStack::NonMaskable as u8,
                8 => OwnStack::DoubleFault as u8,
                18 => OwnStack::MachineCheck as u8,
                _ => 0,
            };
            *gate = GATE
                | entry & 0xffff
                | 8 << 16
                | u128::from(own_stack) << 32
                | (entry >> 16 & 0xffff) << 48
                | (entry >> 32) << 64;
            if INSTRUCTIONS.contains(&vector) {
                *gate |= FROM_PROGRAMS;
            }
        }
    }

    /// Loads the table, which is filled, on the current CPU.
    pub(crate) fn load(&'static self) {
        let pointer = DescriptorTablePointer {
            limit: (size_of::<Self>() - 1) as u16,
            base: VirtAddr::from_ptr(self),
        };
        // SAFETY: the table is filled with gates to the entry code and stays for ever.
        unsafe { lidt(&pointer) };
    }
}
