//! The registers of an environment.

use core::ops::{Deref, DerefMut};
use exo_abi::layout::USER_END;

/// What every entry to the kernel saves: the registers that a function may change, and what the CPU
/// itself needs to go back. The last field is at the highest address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Frame {
    /// General register.
    pub r11: u64,
    /// General register.
    pub r10: u64,
    /// General register.
    pub r9: u64,
    /// General register.
    pub r8: u64,
    /// General register.
    pub rdi: u64,
    /// General register.
    pub rsi: u64,
    /// General register.
    pub rdx: u64,
    /// General register.
    pub rcx: u64,
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

/// All registers, in the order in which the entry code pushes them. While the kernel runs on behalf
/// of a program that does not lose the CPU, the first six are still where the program left them,
/// and their places here hold nothing.
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
    pub rbp: u64,
    /// General register.
    pub rbx: u64,
    /// The others.
    pub frame: Frame,
}

/// The words of a [`Context`].
pub(crate) const CONTEXT_WORDS: usize = 20;

impl Deref for Context {
    type Target = Frame;
    fn deref(&self) -> &Frame {
        &self.frame
    }
}

impl DerefMut for Context {
    fn deref_mut(&mut self) -> &mut Frame {
        &mut self.frame
    }
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
/// The flags of a program that has set none.
const USER_FLAGS: u64 = INTERRUPTS | ALWAYS_ONE;

impl Context {
    /// Makes all registers zero, but for what is always the same. One by one, which takes fewer
    /// instructions than a copy.
    #[inline]
    pub(crate) fn clear(&mut self) {
        (self.r15, self.r14, self.r13) = (0, 0, 0);
        (self.r12, self.rbp, self.rbx) = (0, 0, 0);
        let frame = &mut self.frame;
        (frame.r11, frame.r10, frame.r9, frame.r8) = (0, 0, 0, 0);
        (frame.rdi, frame.rsi, frame.rdx, frame.rcx) = (0, 0, 0, 0);
        (frame.cs, frame.ss) = (USER_CODE, USER_DATA);
    }

    /// A program about to start: one argument, everything else zero.
    pub const fn start(entry: u64, stack: u64, argument: u64) -> Self {
        let mut context = Self::from_words([0; CONTEXT_WORDS]);
        context.frame.rip = entry;
        context.frame.rsp = stack;
        context.frame.rdi = argument;
        context.frame.confine();
        context
    }
}

/// The conversions between all registers and words, from the fields' names in their order.
macro_rules! words {
    ($($saved:ident)*; $($name:ident)*) => {
        impl Context {
            /// The registers as words.
            pub(crate) fn to_words(self) -> [u64; CONTEXT_WORDS] {
                [$(self.$saved,)* $(self.frame.$name),*]
            }

            /// The registers from their words.
            pub(crate) const fn from_words(words: [u64; CONTEXT_WORDS]) -> Self {
                let [$($saved,)* $($name),*] = words;
                Self { $($saved,)* frame: Frame { $($name),* } }
            }
        }
    };
}

words!(r15 r14 r13 r12 rbp rbx; r11 r10 r9 r8 rdi rsi rdx rcx rax rip cs rflags rsp ss);

impl Frame {
    /// Makes sure that the registers can only be a program's: its segments, no privileged flag,
    /// an instruction pointer in its half of the address space.
    pub const fn confine(&mut self) {
        self.cs = USER_CODE;
        self.ss = USER_DATA;
        self.rflags = self.rflags & FREE_FLAGS | USER_FLAGS;
        if self.rip >= USER_END {
            self.rip = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn words_are_the_fields() {
        let mut words = [0; CONTEXT_WORDS];
        (0..).zip(&mut words).for_each(|(number, word)| *word = number);
        let context = Context::from_words(words);
        assert_eq!(context.to_words(), words);
        assert_eq!(offset_of!(Context, frame.rip), context.rip as usize * 8);
        assert_eq!(offset_of!(Context, rbx), context.rbx as usize * 8);
        assert_eq!(offset_of!(Context, frame.rax), context.rax as usize * 8);
    }

    #[test]
    fn forged_registers_are_confined() {
        let mut context = Frame {
            rip: 0xffff_8000_0000_0000,
            cs: 8,
            ss: 0x10,
            rflags: u64::MAX,
            ..Frame::default()
        };
        context.confine();
        assert_eq!((context.cs, context.ss, context.rip), (USER_CODE, USER_DATA, 0));
        assert_eq!(context.rflags & 0x3000, 0, "I/O privilege");
        assert_eq!(context.rflags & (1 << 14 | 1 << 17 | 3 << 19), 0, "nested task, VM, VIF, VIP");
        assert_ne!(context.rflags & 0x200, 0, "interrupts on");
    }
}
