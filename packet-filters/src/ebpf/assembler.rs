//! The instruction forms that eBPF needs, encoded by hand (Intel SDM, volume 2).
//!
//! Opcodes of two bytes are written as one number, `0x0fb6`.

use crate::codegen::code::Code;

#[rustfmt::skip]
mod register {
    pub(in super::super) const RAX: u8 = 0; pub(in super::super) const RCX: u8 = 1;
    pub(in super::super) const RDX: u8 = 2; pub(in super::super) const RBX: u8 = 3;
    pub(in super::super) const RSP: u8 = 4; pub(in super::super) const RBP: u8 = 5;
    pub(in super::super) const RSI: u8 = 6; pub(in super::super) const RDI: u8 = 7;
    pub(in super::super) const R8: u8 = 8; pub(in super::super) const R9: u8 = 9;
    pub(in super::super) const R10: u8 = 10; pub(in super::super) const R11: u8 = 11;
    pub(in super::super) const R12: u8 = 12; pub(in super::super) const R13: u8 = 13;
    pub(in super::super) const R14: u8 = 14; pub(in super::super) const R15: u8 = 15;
}
pub(super) use register::*;

/// Operations of opcode group 1: the register field with an immediate; with two registers they are
/// the opcode `8 * n + 1`.
#[rustfmt::skip]
pub(super) mod group {
    pub(in super::super) const ADD: u8 = 0; pub(in super::super) const OR: u8 = 1;
    pub(in super::super) const AND: u8 = 4; pub(in super::super) const SUB: u8 = 5;
    pub(in super::super) const XOR: u8 = 6; pub(in super::super) const CMP: u8 = 7;
}

/// `mov r, r/m`
pub(super) const LOAD: u16 = 0x8b;
/// `mov r/m, r`
pub(super) const STORE: u16 = 0x89;

/// An operand in memory: `[base + index + displacement]`.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    pub(super) base: u8,
    pub(super) index: Option<u8>,
    pub(super) displacement: i32,
}

impl Memory {
    pub(super) const fn at(base: u8, displacement: i32) -> Self {
        Memory { base, index: None, displacement }
    }
}

impl Code<'_> {
    /// An instruction on two registers, of 64 bits if `wide`. A REX prefix stands before every one,
    /// so that the lower bytes of rsi and rdi can be named.
    pub(super) fn registers(&mut self, wide: bool, opcode: u16, register: u8, other: u8) {
        self.opcode(wide, opcode, register, 0, other);
        self.emit(&[0xc0 | (register & 7) << 3 | other & 7]);
    }

    /// An instruction on a register and memory.
    pub(super) fn memory(&mut self, wide: bool, opcode: u16, register: u8, memory: Memory) {
        let Memory { base, index, displacement } = memory;
        self.opcode(wide, opcode, register, index.unwrap_or(0), base);
        let short = i8::try_from(displacement).ok();
        let mode = if short.is_some() { 0x40 } else { 0x80 } | (register & 7) << 3;
        if index.is_some() || base & 7 == RSP {
            self.emit(&[mode | 4, (index.unwrap_or(RSP) & 7) << 3 | base & 7]);
        } else {
            self.emit(&[mode | base & 7]);
        }
        self.displacement_of(short, displacement);
    }

    /// An instruction of group 1 on a register and an immediate.
    pub(super) fn immediate(&mut self, wide: bool, group: u8, register: u8, value: i32) {
        let short = i8::try_from(value).ok();
        self.registers(wide, if short.is_some() { 0x83 } else { 0x81 }, group, register);
        self.displacement_of(short, value);
    }

    /// Loads a constant, in the shortest form that does.
    pub(super) fn constant(&mut self, register: u8, value: u64) {
        if let Ok(value) = u32::try_from(value) {
            self.emit(&[0x40 | register >> 3, 0xb8 | register & 7]);
            self.emit(&value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value.cast_signed()) {
            self.registers(true, 0xc7, 0, register);
            self.emit(&value.to_le_bytes());
        } else {
            self.emit(&[0x48 | register >> 3, 0xb8 | register & 7]);
            self.emit(&value.to_le_bytes());
        }
    }

    pub(super) fn push(&mut self, register: u8) {
        self.emit(&[0x40 | register >> 3, 0x50 | register & 7]);
    }

    pub(super) fn pop(&mut self, register: u8) {
        self.emit(&[0x40 | register >> 3, 0x58 | register & 7]);
    }

    fn displacement_of(&mut self, short: Option<i8>, value: i32) {
        match short {
            Some(short) => self.emit(&short.to_le_bytes()),
            None => self.emit(&value.to_le_bytes()),
        }
    }

    fn opcode(&mut self, wide: bool, opcode: u16, register: u8, index: u8, base: u8) {
        let wide = u8::from(wide) << 3;
        self.emit(&[0x40 | wide | register >> 3 << 2 | index >> 3 << 1 | base >> 3]);
        let bytes = opcode.to_be_bytes();
        self.emit(if opcode < 0x100 { &bytes[1..] } else { &bytes });
    }
}
