//! Classic BPF as eBPF (RFC 9669): what runs behind filters that match too much.
//!
//! The program gets the packet in register 1 and its length in register 2, as the profile
//! "residual" has it, and returns what the classic one returns, with zero where that would end.

use crate::classic::{
    Arithmetic, Comparison, Instruction, MEMORY, Operand, Operation, Program, Source,
};
use packet_filters::ebpf;

const A: u8 = 0;
const PACKET: u8 = 1;
const LENGTH: u8 = 2;
const SCRATCH: u8 = 3;
const PLACE: u8 = 4;
const X: u8 = 6;
const FRAME: u8 = 10;
/// The longest packet, of whose lengths all bits are set.
const LONGEST: u32 = 65_535;

/// An instruction before its jump is known.
struct Draft {
    instruction: ebpf::Instruction,
    /// The classic instruction to jump to; the program's length stands for "refuse".
    target: Option<usize>,
}

#[derive(Default)]
struct Writer {
    drafts: Vec<Draft>,
    /// Where each classic instruction begins.
    starts: Vec<usize>,
    end: usize,
}

/// Translates a program.
#[must_use]
pub fn translate(program: &Program) -> Vec<u8> {
    let mut writer = Writer { end: program.instructions().len(), ..Writer::default() };
    for register in [A, X] {
        writer.plain(0xb7, register, 0, 0); // mov register, 0
    }
    if program.instructions().iter().any(|i| i.code & 0xe7 == 0x60 || i.code & 0xe7 == 0x61) {
        for word in 0..MEMORY as u32 {
            writer.offset(0x62, FRAME, 0, memory(word), 0); // *(u32 *)(frame + word) = 0
        }
    }
    for (at, instruction) in program.instructions().iter().enumerate() {
        writer.starts.push(writer.drafts.len());
        if let Ok(operation) = instruction.operation() {
            writer.instruction(at, instruction, operation);
        }
    }
    writer.starts.push(writer.drafts.len());
    writer.plain(0xb4, A, 0, 0);
    writer.plain(0x95, 0, 0, 0); // exit
    writer.finish()
}

fn memory(word: u32) -> i16 {
    -4 * (word as i16 + 1)
}

impl Writer {
    fn plain(&mut self, code: u8, to: u8, from: u8, immediate: u32) {
        self.offset(code, to, from, 0, immediate.cast_signed());
    }

    /// An access, or a jump whose length is known.
    fn offset(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        let instruction = ebpf::Instruction { code, to, from, offset, immediate };
        self.drafts.push(Draft { instruction, target: None });
    }

    fn jump(&mut self, code: u8, [to, from]: [u8; 2], immediate: u32, target: usize) {
        self.plain(code, to, from, immediate);
        if let Some(draft) = self.drafts.last_mut() {
            draft.target = Some(target);
        }
    }

    fn instruction(&mut self, at: usize, instruction: &Instruction, operation: Operation) {
        let Instruction { jt, jf, k, .. } = *instruction;
        match operation {
            Operation::Load(source) => self.load(source, k, A),
            Operation::LoadIndex(source) => self.load(source, k, X),
            Operation::Store => self.offset(0x63, FRAME, A, memory(k), 0),
            Operation::StoreIndex => self.offset(0x63, FRAME, X, memory(k), 0),
            Operation::Compute(arithmetic, operand) => self.compute(arithmetic, operand, k),
            Operation::Jump => self.jump(0x05, [0, 0], 0, at + 1 + k as usize),
            Operation::Branch(comparison, operand) => {
                let code = match comparison {
                    Comparison::Equal => 0x16,
                    Comparison::Greater => 0x26,
                    Comparison::NotLess => 0x36,
                    Comparison::AnyBit => 0x46,
                };
                let (code, from, k) = sourced(code, operand, k);
                self.jump(code, [A, from], k, at + 1 + usize::from(jt));
                self.jump(0x05, [0, 0], 0, at + 1 + usize::from(jf));
            }
            Operation::Return => {
                self.plain(0xb4, A, 0, k);
                self.plain(0x95, 0, 0, 0);
            }
            Operation::ReturnAccumulator => self.plain(0x95, 0, 0, 0),
            Operation::ToIndex => self.plain(0xbc, X, A, 0),
            Operation::FromIndex => self.plain(0xbc, A, X, 0),
        }
    }

    fn load(&mut self, source: Source, k: u32, to: u8) {
        match source {
            Source::Immediate => self.plain(0xb4, to, 0, k),
            Source::Memory => self.offset(0x61, to, FRAME, memory(k), 0),
            Source::Length => self.plain(0xbc, to, LENGTH, 0),
            Source::Absolute(width) => self.packet(None, k, width, to),
            Source::Indirect(width) => self.packet(Some(X), k, width, to),
            Source::Header => {
                self.packet(None, k, 1, to);
                self.plain(0x54, to, 0, 0x0f); // and
                self.plain(0x64, to, 0, 2); // lsh
            }
        }
    }

    /// Loads from the packet in network order, or refuses.
    fn packet(&mut self, index: Option<u8>, k: u32, width: u8, to: u8) {
        // No packet is so long, and the verifier refuses what is sure to be outside.
        if k.saturating_add(width.into()) > LONGEST {
            return self.jump(0x05, [0, 0], 0, self.end);
        }
        match index {
            Some(index) => self.plain(0xbc, PLACE, index, 0), // mov32 place, index
            None => self.plain(0xb4, PLACE, 0, 0),
        }
        self.plain(0xb4, SCRATCH, 0, k); // mov32 scratch, k
        self.plain(0x0f, PLACE, SCRATCH, 0); // place += k, in 64 bits
        self.plain(0xbf, SCRATCH, PLACE, 0);
        self.plain(0x07, SCRATCH, 0, width.into()); // where the load ends
        self.jump(0x2d, [SCRATCH, LENGTH], 0, self.end); // if it is behind the packet
        if index.is_some() {
            // It is inside, and so this changes nothing; but the verifier need not know where.
            self.plain(0x57, PLACE, 0, LONGEST);
        }
        self.plain(0xbf, SCRATCH, PACKET, 0);
        self.plain(0x0f, SCRATCH, PLACE, 0);
        let code = match width {
            1 => 0x71,
            2 => 0x69,
            _ => 0x61,
        };
        self.plain(code, to, SCRATCH, 0);
        if width > 1 {
            self.plain(0xdc, to, 0, 8 * u32::from(width)); // from network order
        }
    }

    fn compute(&mut self, arithmetic: Arithmetic, operand: Operand, k: u32) {
        let code = match arithmetic {
            Arithmetic::Add => 0x04,
            Arithmetic::Subtract => 0x14,
            Arithmetic::Multiply => 0x24,
            Arithmetic::Divide => 0x34,
            Arithmetic::Or => 0x44,
            Arithmetic::And => 0x54,
            Arithmetic::ShiftLeft => 0x64,
            Arithmetic::ShiftRight => 0x74,
            Arithmetic::Negate => return self.plain(0x84, A, 0, 0),
            Arithmetic::Modulo => 0x94,
            Arithmetic::ExclusiveOr => 0xa4,
        };
        if arithmetic.divides() && operand == Operand::X {
            self.jump(0x16, [X, 0], 0, self.end); // refuse if x is zero
        }
        // A shift by a register takes the lower bits of it only; classic shifts everything out.
        if arithmetic.shifts() && operand == Operand::X {
            self.offset(0xa6, X, 0, 2, 32); // if x < 32, skip two
            self.plain(0xb4, A, 0, 0);
            self.offset(0x05, 0, 0, 1, 0);
        }
        let (code, from, k) = sourced(code, operand, k);
        self.plain(code, A, from, k);
    }

    fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, draft) in self.drafts.iter().enumerate() {
            let to = draft.target.map(|target| self.starts[target.min(self.end)]);
            let ebpf::Instruction { code, to: register, from, offset, immediate } =
                draft.instruction;
            bytes.extend([code, from << 4 | register]);
            bytes.extend(to.map_or(offset, |to| (to - at - 1) as i16).to_le_bytes());
            bytes.extend(immediate.to_le_bytes());
        }
        bytes
    }
}

/// The code with the bit for its operand, the register, the immediate.
fn sourced(code: u8, operand: Operand, k: u32) -> (u8, u8, u32) {
    match operand {
        Operand::K => (code, 0, k),
        Operand::X => (code | 0x08, X, 0),
    }
}
