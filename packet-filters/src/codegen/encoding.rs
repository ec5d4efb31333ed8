//! The forms of instructions that the crate emits, encoded by hand (Intel SDM, volume 2).
//!
//! Opcodes of two bytes are written as one number, `0x0fb6`.

use super::code::Code;

#[rustfmt::skip]
mod register {
    pub(crate) const RAX: u8 = 0; pub(crate) const RCX: u8 = 1;
    pub(crate) const RDX: u8 = 2; pub(crate) const RBX: u8 = 3;
    pub(crate) const RSP: u8 = 4; pub(crate) const RBP: u8 = 5;
    pub(crate) const RSI: u8 = 6; pub(crate) const RDI: u8 = 7;
    pub(crate) const R8: u8 = 8; pub(crate) const R9: u8 = 9;
    pub(crate) const R10: u8 = 10; pub(crate) const R11: u8 = 11;
    pub(crate) const R12: u8 = 12; pub(crate) const R13: u8 = 13;
    pub(crate) const R14: u8 = 14; pub(crate) const R15: u8 = 15;
}
pub(crate) use register::*;

/// Operations of opcode group 1: the register field with an immediate; with two registers they are
/// the opcode `8 * n + 1`.
#[rustfmt::skip]
pub(crate) mod group {
    pub(crate) const ADD: u8 = 0; pub(crate) const OR: u8 = 1; pub(crate) const ADC: u8 = 2;
    pub(crate) const AND: u8 = 4; pub(crate) const SUB: u8 = 5;
    pub(crate) const XOR: u8 = 6; pub(crate) const CMP: u8 = 7;
}

/// Operations of opcode group 2, in the register field.
#[rustfmt::skip]
pub(crate) mod shift {
    pub(crate) const LEFT: u8 = 4; pub(crate) const RIGHT: u8 = 5; pub(crate) const SIGNED: u8 = 7;
}

/// `mov r, r/m`
pub(crate) const LOAD: u16 = 0x8b;
/// `mov r/m, r`
pub(crate) const STORE: u16 = 0x89;
/// `lea r, m`
pub(crate) const ADDRESS: u16 = 0x8d;
/// `imul r, r/m`
pub(crate) const MULTIPLY: u16 = 0x0faf;

/// Whether an instruction works on 64 bits.
pub(crate) const WIDE: bool = true;
pub(crate) const NARROW: bool = false;

/// An operand in memory: `[base + (index << scale) + displacement]`.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) base: u8,
    /// The register and the scale.
    pub(crate) index: Option<(u8, u8)>,
    pub(crate) displacement: i32,
}

impl Memory {
    pub(crate) const fn at(base: u8, displacement: i32) -> Self {
        Memory { base, index: None, displacement }
    }
}

impl Code<'_> {
    /// An instruction on two registers, or on a part of its opcode and one.
    pub(crate) fn registers(&mut self, wide: bool, opcode: u16, register: u8, other: u8) {
        self.opcode(wide, opcode, register, 0, other);
        self.emit(&[0xc0 | (register & 7) << 3 | other & 7]);
    }

    /// An instruction on a register, or a part of its opcode, and memory.
    pub(crate) fn memory(&mut self, wide: bool, opcode: u16, register: u8, memory: Memory) {
        let Memory { base, index, displacement } = memory;
        let (index, scale) = index.unwrap_or((RSP, 0));
        self.opcode(wide, opcode, register, index, base);
        let short = i8::try_from(displacement).ok();
        let mode = if short.is_some() { 0x40 } else { 0x80 } | (register & 7) << 3;
        if index == RSP && base & 7 != RSP {
            self.emit(&[mode | base & 7]);
        } else {
            self.emit(&[mode | 4, scale << 6 | (index & 7) << 3 | base & 7]);
        }
        self.number(short, displacement);
    }

    /// An instruction of group 1 on a register and an immediate.
    pub(crate) fn immediate(&mut self, wide: bool, group: u8, register: u8, value: i32) {
        let short = i8::try_from(value).ok();
        self.registers(wide, if short.is_some() { 0x83 } else { 0x81 }, group, register);
        self.number(short, value);
    }

    /// Shifts a register by a constant number of bits.
    pub(crate) fn shift(&mut self, wide: bool, shift: u8, register: u8, by: u8) {
        self.registers(wide, 0xc1, shift, register);
        self.emit(&[by]);
    }

    /// Loads a constant, in the shortest form that does. Changes the flags.
    pub(crate) fn constant(&mut self, register: u8, value: u64) {
        if value == 0 {
            self.registers(NARROW, 0x33, register, register); // xor
        } else if let Ok(value) = u32::try_from(value) {
            self.numbered(NARROW, 0xb8, register);
            self.emit(&value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value.cast_signed()) {
            self.registers(WIDE, 0xc7, 0, register);
            self.emit(&value.to_le_bytes());
        } else {
            self.numbered(WIDE, 0xb8, register);
            self.emit(&value.to_le_bytes());
        }
    }

    pub(crate) fn push(&mut self, register: u8) {
        self.numbered(NARROW, 0x50, register);
    }

    pub(crate) fn pop(&mut self, register: u8) {
        self.numbered(NARROW, 0x58, register);
    }

    /// An opcode that has a register's number in its lowest bits.
    pub(crate) fn numbered(&mut self, wide: bool, opcode: u16, register: u8) {
        self.opcode(wide, opcode | u16::from(register & 7), 0, 0, register);
    }

    fn number(&mut self, short: Option<i8>, value: i32) {
        match short {
            Some(short) => self.emit(&short.to_le_bytes()),
            None => self.emit(&value.to_le_bytes()),
        }
    }

    /// The prefix that widens operands and the numbers of registers, where there is a need for it,
    /// and the opcode. Without it the bytes of rsi and rdi can't be named: those two opcodes want it.
    fn opcode(&mut self, wide: bool, opcode: u16, register: u8, index: u8, base: u8) {
        let bits = u8::from(wide) << 3 | register >> 3 << 2 | index >> 3 << 1 | base >> 3;
        if bits != 0 || matches!(opcode, 0x88 | 0x0fbe) {
            self.emit(&[0x40 | bits]);
        }
        let bytes = opcode.to_be_bytes();
        self.emit(if opcode < 0x100 { &bytes[1..] } else { &bytes });
    }
}
