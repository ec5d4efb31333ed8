//! The few instructions that filters need, encoded by hand (Intel SDM, volume 2).
//!
//! | register | holds |
//! |---|---|
//! | rdi, rsi | address and length of the packet, never changed |
//! | rax | the best rank so far, zero for none |
//! | edx | the value under test |
//! | rcx | scratch |
//! | r8 to r11 | the base behind the first to the fourth shift, in bytes from rdi |

use super::CompileError;
use super::code::{Code, Condition, Label};
use crate::atom::Width;

/// The instructions of filters, one method each.
pub(crate) struct Assembler<'b> {
    code: Code<'b>,
}

/// What goes into the `reg` field of a load.
const EDX: u8 = 2;

impl<'b> Assembler<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Assembler { code: Code::new(buffer) }
    }

    /// The length of the code, if all of it found room.
    pub(crate) fn finish(self) -> Result<usize, CompileError> {
        self.code.finish()
    }

    /// Nothing matched yet.
    pub(crate) fn prologue(&mut self) {
        self.emit(&[0x31, 0xc0]); // xor eax, eax
    }

    /// Turns the best rank into id + 1 and returns. The low half of a rank is the complement of the
    /// id; `not eax` clears the upper half.
    pub(crate) fn epilogue(&mut self) {
        let mut none = Label::default();
        self.emit(&[0x48, 0x85, 0xc0]); // test rax, rax
        self.jump_if(Condition::Equal, &mut none);
        self.emit(&[0xf7, 0xd0]); // not eax
        self.emit(&[0x48, 0x83, 0xc0, 0x01]); // add rax, 1
        self.bind(none);
        self.emit(&[0xc3]); // ret
    }

    /// `rax = max(rax, rank)`
    pub(crate) fn keep_higher(&mut self, rank: u64) {
        self.emit(&[0x48, 0xb9]); // mov rcx, rank
        self.emit(&rank.to_le_bytes());
        self.emit(&[0x48, 0x39, 0xc8]); // cmp rax, rcx
        self.emit(&[0x48, 0x0f, 0x42, 0xc1]); // cmovb rax, rcx
    }

    /// Jumps to `short` unless `base + reach <= length`. The sum cannot wrap: a base is at most
    /// four shifts of 15 bits.
    pub(crate) fn check_length(&mut self, level: u8, reach: u32, short: &mut Label) {
        if level == 0 {
            self.emit(&[0x48]); // cmp rsi, reach
            self.immediate(7, 6, reach);
            self.jump_if(Condition::Below, short);
        } else {
            let base = base_register(level);
            self.emit(&[0x49, 0x8d, 0x88 | base & 7]); // lea rcx, [base + reach]
            self.emit(&reach.to_le_bytes());
            self.emit(&[0x48, 0x39, 0xf1]); // cmp rcx, rsi
            self.jump_if(Condition::Above, short);
        }
    }

    /// `edx = load(base + offset)`, zero-extended, bytes in memory order.
    pub(crate) fn load(&mut self, level: u8, offset: u16, width: Width) {
        self.load_to(EDX, level, offset, width);
    }

    /// `edx &= mask`
    pub(crate) fn mask(&mut self, mask: u32) {
        self.immediate(4, EDX, mask);
    }

    /// Compares edx with a value.
    pub(crate) fn compare(&mut self, value: u32) {
        self.immediate(7, EDX, value);
    }

    /// Computes the base of the next level.
    pub(crate) fn shift_base(&mut self, level: u8, offset: u16, mask: u8, shift: u8) {
        let next = base_register(level + 1);
        self.load_to(next, level, offset, Width::One);
        if mask != 0xff {
            self.emit(&[0x41]); // and next, mask
            self.immediate(4, next, u32::from(mask));
        }
        if shift != 0 {
            self.emit(&[0x41, 0xc1, 0xe0 | next & 7, shift]); // shl next, shift
        }
        if level != 0 {
            let base = base_register(level);
            self.emit(&[0x4d, 0x01, 0xc0 | (base & 7) << 3 | next & 7]); // add next, base
        }
    }

    pub(crate) fn jump(&mut self, to: &mut Label) {
        self.code.jump(to);
    }

    pub(crate) fn jump_if(&mut self, condition: Condition, to: &mut Label) {
        self.code.jump_if(condition, to);
    }

    /// The label is here: completes all jumps to it.
    pub(crate) fn bind(&mut self, label: Label) {
        self.code.bind(label);
    }

    /// A zero-extending load from `[rdi + base + offset]`.
    fn load_to(&mut self, register: u8, level: u8, offset: u16, width: Width) {
        let index = if level == 0 { 0 } else { base_register(level) };
        let rex = 0x40 | (register >> 3) << 2 | (index >> 3) << 1;
        if rex != 0x40 {
            self.emit(&[rex]);
        }
        match width {
            Width::One => self.emit(&[0x0f, 0xb6]), // movzx r32, byte
            Width::Two => self.emit(&[0x0f, 0xb7]), // movzx r32, word
            Width::Four => self.emit(&[0x8b]),      // mov r32, dword
        }
        let short = i8::try_from(offset).ok();
        let modrm = if short.is_some() { 0x40 } else { 0x80 } | (register & 7) << 3;
        if level == 0 {
            self.emit(&[modrm | 7]); // rdi
        } else {
            self.emit(&[modrm | 4, (index & 7) << 3 | 7]); // rdi + index
        }
        match short {
            Some(short) => self.emit(&short.to_le_bytes()),
            None => self.emit(&u32::from(offset).to_le_bytes()),
        }
    }

    /// An arithmetic instruction of opcode group 1 on a register and an immediate, in its short
    /// form where sign extension gives the same operand. A REX prefix comes before, from the caller.
    fn immediate(&mut self, operation: u8, register: u8, value: u32) {
        let modrm = 0xc0 | operation << 3 | register & 7;
        match i8::try_from(value.cast_signed()) {
            Ok(short) => {
                self.emit(&[0x83, modrm]);
                self.emit(&short.to_le_bytes());
            }
            Err(_) => {
                self.emit(&[0x81, modrm]);
                self.emit(&value.to_le_bytes());
            }
        }
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.code.emit(bytes);
    }
}

/// The number of the register that holds the base at a level from 1 to 4: r8 to r11.
fn base_register(level: u8) -> u8 {
    7 + level
}
