//! The registers of an environment.

use exo_abi::layout::USER_END;

/// The registers that the kernel saves at every entry, in the order in which the entry code pushes
/// them: the last field is at the highest address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Context {
    /// General register.
    pub r15: u64,
    /// General register.
    pub r14: u64,
    /// General register.
    pub r13: u64,
    /// General register.
    pub r12: u64,
    /// General register.
    pub r11: u64,
    /// General register.
    pub r10: u64,
    /// General register.
    pub r9: u64,
    /// General register.
    pub r8: u64,
    /// General register.
    pub rbp: u64,
    /// General register.
    pub rdi: u64,
    /// General register.
    pub rsi: u64,
    /// General register.
    pub rdx: u64,
    /// General register.
    pub rcx: u64,
    /// General register.
    pub rbx: u64,
    /// General register.
    pub rax: u64,
    /// The instruction pointer.
    pub rip: u64,
    /// The code segment.
    pub cs: u64,
    /// The flags.
    pub rflags: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The stack segment.
    pub ss: u64,
}

/// The code segment of programs.
pub const USER_CODE: u64 = 0x23;
/// The stack segment of programs.
pub const USER_DATA: u64 = 0x1b;

/// The flags that a program may have as it likes: arithmetic flags, trap, direction, alignment
/// check and identification. The interrupt flag is always on, everything else off.
const FREE_FLAGS: u64 = 0x0024_0dd5;
const INTERRUPTS: u64 = 0x200;
const ALWAYS_ONE: u64 = 0x2;

impl Context {
    /// All registers zero.
    pub(crate) const ZERO: Self = Self {
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rbp: 0,
        rdi: 0,
        rsi: 0,
        rdx: 0,
        rcx: 0,
        rbx: 0,
        rax: 0,
        rip: 0,
        cs: 0,
        rflags: 0,
        rsp: 0,
        ss: 0,
    };

    /// A program about to start: one argument, everything else zero.
    pub fn start(entry: u64, stack: u64, argument: u64) -> Self {
        let mut context = Self { rip: entry, rsp: stack, rdi: argument, ..Self::default() };
        context.confine();
        context
    }

    /// Makes sure that the registers can only be a program's: its segments, no privileged flag,
    /// an instruction pointer in its half of the address space.
    pub fn confine(&mut self) {
        self.cs = USER_CODE;
        self.ss = USER_DATA;
        self.rflags = self.rflags & FREE_FLAGS | INTERRUPTS | ALWAYS_ONE;
        if self.rip >= USER_END {
            self.rip = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_registers_are_confined() {
        let mut context = Context {
            rip: 0xffff_8000_0000_0000,
            cs: 8,
            ss: 0x10,
            rflags: u64::MAX,
            ..Context::default()
        };
        context.confine();
        assert_eq!((context.cs, context.ss, context.rip), (USER_CODE, USER_DATA, 0));
        assert_eq!(context.rflags & 0x3000, 0, "I/O privilege");
        assert_eq!(context.rflags & (1 << 14 | 1 << 17 | 3 << 19), 0, "nested task, VM, VIF, VIP");
        assert_ne!(context.rflags & 0x200, 0, "interrupts on");
    }
}
