//! Instructions, and the decoder that refuses everything it does not know (RFC 9669, sections 3 to
//! 5).
//!
//! All conformance groups but `packet` are read: base32, base64, divmul32, divmul64, atomic32 and
//! atomic64. A field that an encoding does not use must be zero, as the RFC says.

use super::refusal::Reason;

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

/// Decodes the program into the front of `instructions` and checks where jumps go; the number of
/// slots.
pub(super) fn decode(
    program: &[u8],
    instructions: &mut [Instruction; MAX_SLOTS],
) -> Result<usize, (usize, Reason)> {
    let (slots, rest) = program.as_chunks::<8>();
    if slots.is_empty() || !rest.is_empty() || slots.len() > MAX_SLOTS {
        return Err((slots.len(), Reason::Length));
    }
    let mut wide = false;
    for (at, (slot, place)) in slots.iter().zip(instructions.iter_mut()).enumerate() {
        *place = Instruction::read(slot);
        if !wide {
            place.check(slots.get(at + 1)).map_err(|reason| (at, reason))?;
        }
        wide = !wide && place.code == Instruction::CONSTANT;
    }
    let decoded = instructions.get(..slots.len()).unwrap_or_default();
    for (at, instruction) in decoded.iter().enumerate() {
        match instruction.target(at).map(|target| decoded.get(target)) {
            Some(None) => return Err((at, Reason::JumpOutside)),
            Some(Some(target)) if target.code == 0 => return Err((at, Reason::JumpIntoWide)),
            _ => (),
        }
    }
    Ok(slots.len())
}

impl Instruction {
    /// The first slot of a 64-bit constant.
    pub const CONSTANT: u8 = 0x18;

    fn read(&[code, registers, o0, o1, i0, i1, i2, i3]: &[u8; 8]) -> Self {
        let (to, from) = (registers & 0x0f, registers >> 4);
        let immediate = i32::from_le_bytes([i0, i1, i2, i3]);
        Instruction { code, to, from, offset: i16::from_le_bytes([o0, o1]), immediate }
    }

    /// The value of a 64-bit constant, whose second slot comes next.
    pub fn constant(&self, next: Option<&Self>) -> u64 {
        let high = next.map_or(0, |next| next.immediate.cast_unsigned());
        u64::from(high) << 32 | u64::from(self.immediate.cast_unsigned())
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

    /// Whether it is an atomic operation, which the immediate names.
    pub const fn is_atomic(&self) -> bool {
        self.class() == class::STORE && self.code & 0xe0 == 0xc0
    }

    /// Where an instruction at slot `at` may go other than to the next.
    pub fn target(&self, at: usize) -> Option<usize> {
        let by = match (self.class(), self.operation()) {
            (class::JUMP, EXIT) => return None,
            (class::JUMP, CALL) if self.from == 0 => return None,
            (class::JUMP, CALL) | (class::NARROW_JUMP, JA) => i64::from(self.immediate),
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
    fn check(&self, next: Option<&[u8; 8]>) -> Result<(), Reason> {
        let Self { code, to, from, offset, immediate } = *self;
        let writes = matches!(self.class(), class::LOAD | class::NARROW | class::WIDE);
        if to > 10 || from > 10 {
            return Err(Reason::NoRegister);
        }
        if to == 10 && (writes || code == Self::CONSTANT) {
            return Err(Reason::FrameWritten);
        }
        let memory = code & 0xe0 == 0x60;
        let unused = match self.class() {
            class::CONSTANT if code != Self::CONSTANT => return Err(Reason::LegacyPacket),
            class::CONSTANT if from != 0 => return Err(Reason::MapReference),
            class::CONSTANT => {
                let next = next.ok_or(Reason::WideCut)?;
                offset == 0 && *next.first_chunk().unwrap_or(&[1; 4]) == [0; 4]
            }
            class::LOAD if memory || self.is_signed() && self.size() != 8 => immediate == 0,
            class::STORE_CONSTANT if memory => from == 0,
            class::STORE if memory => immediate == 0,
            class::STORE if self.is_atomic() && self.size() >= 4 => {
                let known = [0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1];
                known.contains(&immediate)
            }
            class::NARROW | class::WIDE => self.check_arithmetic()?,
            class::JUMP | class::NARROW_JUMP => self.check_jump()?,
            _ => return Err(Reason::UnknownOpcode),
        };
        if unused { Ok(()) } else { Err(Reason::ReservedField) }
    }

    fn check_arithmetic(&self) -> Result<bool, Reason> {
        let Self { from, offset, immediate, .. } = *self;
        let (register, wide) = (self.code & 8 != 0, self.class() == class::WIDE);
        let operand = if register { immediate == 0 } else { from == 0 };
        match self.operation() {
            END if wide && register => Err(Reason::UnknownOpcode),
            END => Ok(from == 0 && offset == 0 && [16, 32, 64].contains(&immediate)),
            NEG if !register => Ok(from == 0 && offset == 0 && immediate == 0),
            DIV | MOD => Ok(operand && matches!(offset, 0 | 1)),
            MOV if register => {
                Ok(operand && (matches!(offset, 0 | 8 | 16) || wide && offset == 32))
            }
            NEG | 0xe.. => Err(Reason::UnknownOpcode),
            _ => Ok(operand && offset == 0),
        }
    }

    fn check_jump(&self) -> Result<bool, Reason> {
        let Self { to, from, offset, immediate, .. } = *self;
        let (register, wide) = (self.code & 8 != 0, self.class() == class::JUMP);
        match self.operation() {
            CALL if wide && (register || from > 1) => Err(Reason::UnknownCall),
            CALL if wide => Ok(to == 0 && offset == 0),
            JA | EXIT if register => Err(Reason::UnknownOpcode),
            JA if wide => Ok(to == 0 && from == 0 && immediate == 0),
            JA => Ok(to == 0 && from == 0 && offset == 0),
            EXIT if wide => Ok(to == 0 && from == 0 && offset == 0 && immediate == 0),
            CALL | EXIT | 0xe.. => Err(Reason::UnknownOpcode),
            _ => Ok(if register { immediate == 0 } else { from == 0 }),
        }
    }
}
