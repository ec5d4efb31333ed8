//! Instructions, and the decoder that refuses everything it does not know (RFC 9669, sections 3 to
//! 5).
//!
//! The conformance groups base32, base64, divmul32 and divmul64 are read, without calls of functions
//! of the program. A field that an encoding does not use must be zero, as the RFC says.

use super::refusal::{Reason, Refusal};
use super::verifier::Slot;

/// The longest program, in slots of 8 bytes.
pub const MAX_SLOTS: usize = 1024;

/// The fields of a slot. A decoded one is an instruction of the RFC, or, with all fields zero but the
/// immediate, the second slot of a 64-bit constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// The opcode; its lowest 3 bits are the class.
    pub code: u8,
    /// The destination register, 0 to 10.
    pub to: u8,
    /// The source register, 0 to 10.
    pub from: u8,
    /// Of an address or a jump; which operation, of some.
    pub offset: i16,
    /// The constant operand.
    pub immediate: i32,
}

/// Classes, the lowest 3 bits of an opcode.
#[expect(missing_docs, reason = "the RFC has them in a table")]
#[rustfmt::skip]
pub mod class {
    pub const CONSTANT: u8 = 0; pub const LOAD: u8 = 1;
    pub const STORE_CONSTANT: u8 = 2; pub const STORE: u8 = 3;
    pub const NARROW: u8 = 4; pub const WIDE: u8 = 7;
    pub const JUMP: u8 = 5; pub const NARROW_JUMP: u8 = 6;
}

/// Operations, the upper 4 bits of an opcode: of arithmetic, then of jumps.
#[expect(missing_docs, reason = "the RFC has them in a table")]
#[rustfmt::skip]
pub mod operation {
    pub const ADD: u8 = 0x0; pub const SUB: u8 = 0x1; pub const MUL: u8 = 0x2;
    pub const DIV: u8 = 0x3; pub const OR:  u8 = 0x4; pub const AND: u8 = 0x5;
    pub const LSH: u8 = 0x6; pub const RSH: u8 = 0x7; pub const NEG: u8 = 0x8;
    pub const MOD: u8 = 0x9; pub const XOR: u8 = 0xa; pub const MOV: u8 = 0xb;
    pub const ARSH: u8 = 0xc; pub const END: u8 = 0xd;

    pub const JA: u8 = 0x0; pub const CALL: u8 = 0x8; pub const EXIT: u8 = 0x9;
    pub const JEQ: u8 = 0x1; pub const JNE: u8 = 0x5; pub const JSET: u8 = 0x4;
    pub const JGT: u8 = 0x2; pub const JGE: u8 = 0x3; pub const JLT: u8 = 0xa;
    pub const JLE: u8 = 0xb; pub const JSGT: u8 = 0x6; pub const JSGE: u8 = 0x7;
    pub const JSLT: u8 = 0xc; pub const JSLE: u8 = 0xd;
}
use operation::*;

/// Decodes the program into the front of `slots` and checks where jumps go.
pub(super) fn decode<'s>(
    program: &[u8],
    slots: &'s mut [Slot; MAX_SLOTS],
) -> Result<&'s mut [Slot], Refusal> {
    let (chunks, rest) = program.as_chunks::<8>();
    let slots = slots.get_mut(..chunks.len()).filter(|slots| !slots.is_empty() && rest.is_empty());
    let slots = slots.ok_or(Refusal { at: chunks.len(), reason: Reason::Length })?;
    let mut wide = false;
    for (at, (chunk, slot)) in chunks.iter().zip(slots.iter_mut()).enumerate() {
        *slot = Slot::new(Instruction::read(chunk));
        if !wide {
            let next = chunks.get(at + 1).map(Instruction::read);
            slot.instruction.check(next).map_err(|reason| Refusal { at, reason })?;
        }
        wide = !wide && slot.instruction.code == Instruction::CONSTANT;
    }
    for at in 0..slots.len() {
        let target = slots.get(at).and_then(|slot| slot.instruction.target(at));
        match target.map(|target| slots.get(target)) {
            Some(None) => return Err(Refusal { at, reason: Reason::JumpOutside }),
            Some(Some(target)) if target.instruction.code == 0 => {
                return Err(Refusal { at, reason: Reason::JumpIntoWide });
            }
            _ => (),
        }
    }
    Ok(slots)
}

impl Instruction {
    /// The first slot of a 64-bit constant.
    pub const CONSTANT: u8 = 0x18;

    pub(super) const fn read(&[code, registers, o0, o1, i0, i1, i2, i3]: &[u8; 8]) -> Self {
        let (to, from) = (registers & 0x0f, registers >> 4);
        let immediate = i32::from_le_bytes([i0, i1, i2, i3]);
        Instruction { code, to, from, offset: i16::from_le_bytes([o0, o1]), immediate }
    }

    /// The value of a 64-bit constant, whose second slot comes next.
    pub fn constant(&self, next: &Self) -> u64 {
        let (low, high) = (self.immediate.cast_unsigned(), next.immediate.cast_unsigned());
        u64::from(high) << 32 | u64::from(low)
    }

    /// The class.
    pub const fn class(&self) -> u8 {
        self.code & 7
    }

    /// The operation of arithmetic and jumps.
    pub const fn operation(&self) -> u8 {
        self.code >> 4
    }

    /// Whether arithmetic and comparisons are on 64 bits. Changes of byte order are on the whole
    /// register in both classes.
    pub const fn is_wide(&self) -> bool {
        matches!(self.class(), class::WIDE | class::JUMP) || self.is_conversion()
    }

    /// Whether it changes the byte order.
    pub const fn is_conversion(&self) -> bool {
        matches!(self.class(), class::NARROW | class::WIDE) && self.operation() == END
    }

    /// The register that is the second operand; without one it is the immediate.
    pub const fn source(&self) -> Option<u8> {
        let register = match self.class() {
            class::STORE => true,
            class::STORE_CONSTANT => false,
            _ => self.code & 8 != 0 && !self.is_conversion(),
        };
        if register { Some(self.from) } else { None }
    }

    /// How many bytes an access touches: 1, 2, 4 or 8.
    pub const fn size(&self) -> u32 {
        match self.code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    /// Whether a load extends the sign.
    pub const fn is_signed(&self) -> bool {
        self.code & 0xe0 == 0x80
    }

    /// Where an instruction at slot `at` may go other than to the next.
    pub fn target(&self, at: usize) -> Option<usize> {
        let by = match (self.class(), self.operation()) {
            (class::JUMP, EXIT | CALL) => return None,
            (class::NARROW_JUMP, JA) => i64::from(self.immediate),
            (class::JUMP | class::NARROW_JUMP, _) => self.offset.into(),
            _ => return None,
        };
        Some(usize::try_from(at as i64 + 1 + by).unwrap_or(usize::MAX))
    }

    /// Whether it may go back, and burns fuel.
    pub fn goes_back(&self, at: usize) -> bool {
        self.target(at).is_some_and(|target| target <= at)
    }

    /// Whether this is an instruction of the RFC, and all that it does not use is zero.
    fn check(&self, next: Option<Self>) -> Result<(), Reason> {
        let Self { code, to, from, offset, immediate } = *self;
        let form = self.form();
        let ([uses_to, uses_from, uses_immediate], offsets) = form.unwrap_or(([true; 3], None));
        let rest = next.map(|next| Self { immediate: 0, ..next } == Self::default());
        let fits = (uses_to || to == 0)
            && (uses_from || from == 0)
            && (uses_immediate || immediate == 0)
            && offsets.is_none_or(|offsets| offsets.contains(&offset))
            && (!self.is_conversion() || [16, 32, 64].contains(&immediate))
            && (code != Self::CONSTANT || rest == Some(true));
        Err(match self.class() {
            _ if matches!(code, 0xc3 | 0xdb) => Reason::Atomic,
            _ if code == 0x8d || code == 0x85 && from != 0 => Reason::FunctionCall,
            class::CONSTANT if code != Self::CONSTANT => Reason::LegacyPacket,
            class::CONSTANT if from != 0 => Reason::MapReference,
            class::CONSTANT if rest.is_none() => Reason::WideCut,
            _ if form.is_none() => Reason::UnknownOpcode,
            _ if !fits => Reason::ReservedField,
            _ if to > 10 || from > 10 => Reason::NoRegister,
            class::CONSTANT | class::LOAD if to == 10 => Reason::FrameWritten,
            class::NARROW | class::WIDE if to == 10 => Reason::FrameWritten,
            _ => return Ok(()),
        })
    }

    /// Whether the destination, the source and the immediate are used, and which offsets there are
    /// if not any; nothing if the RFC has no such opcode.
    const fn form(&self) -> Option<([bool; 3], Option<&'static [i16]>)> {
        const ZERO: Option<&[i16]> = Some(&[0]);
        let register = self.code & 8 != 0;
        let operands = [true, register, !register];
        let (memory, wide) = (self.code & 0xe0 == 0x60, self.class() & 1 == 1);
        let signed = self.is_signed() && self.size() != 8;
        Some(match (self.class(), self.operation()) {
            (class::CONSTANT, _) => ([true, false, true], ZERO),
            (class::STORE_CONSTANT, _) if memory => ([true, false, true], None),
            (class::LOAD, _) if memory || signed => ([true, true, false], None),
            (class::STORE, _) if memory => ([true, true, false], None),
            (class::LOAD | class::STORE | class::STORE_CONSTANT, _) => return None,
            (class::JUMP, JA) if !register => ([false; 3], None),
            (class::NARROW_JUMP, JA) if !register => ([false, false, true], ZERO),
            (class::JUMP, CALL) if !register => ([false, false, true], ZERO),
            (class::JUMP, EXIT) if !register => ([false; 3], ZERO),
            (class::JUMP | class::NARROW_JUMP, JA | CALL | EXIT | 0xe..) => return None,
            (class::JUMP | class::NARROW_JUMP, _) => (operands, None),
            (_, NEG) if !register => ([true, false, false], ZERO),
            (_, END) if !(wide && register) => ([true, false, true], ZERO),
            (_, NEG | END | 0xe..) => return None,
            (_, DIV | MOD) => (operands, Some(&[0, 1])),
            (class::NARROW, MOV) if register => (operands, Some(&[0, 8, 16])),
            (class::WIDE, MOV) if register => (operands, Some(&[0, 8, 16, 32])),
            _ => (operands, ZERO),
        })
    }
}
