//! Classic BPF: what libpcap compiles expressions to, and what `tcpdump -ddd` prints.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// One instruction. The code is taken apart by [`Instruction::operation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Class, size, mode, source.
    pub code: u16,
    /// How many instructions to skip if a condition holds.
    pub jt: u8,
    /// How many if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Where a load takes its value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operand.
    Immediate,
    /// The packet, so many bytes from its start, from the operand on.
    Absolute(u8),
    /// The packet, from the index register plus the operand on.
    Indirect(u8),
    /// A word of memory.
    Memory,
    /// The length of the packet.
    Length,
    /// Four times the low half of the byte at the operand: the length of an IPv4 header.
    Header,
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The instruction's own.
    K,
    /// The index register.
    X,
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Or,
    And,
    ShiftLeft,
    ShiftRight,
    Negate,
    Modulo,
    ExclusiveOr,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    Greater,
    NotLess,
    AnyBit,
}

/// An instruction, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To the accumulator.
    Load(Source),
    /// To the index register.
    LoadIndex(Source),
    /// From the accumulator to a word of memory.
    Store,
    /// From the index register to a word of memory.
    StoreIndex,
    /// The accumulator and an operand to the accumulator.
    Compute(Arithmetic, Operand),
    /// Always.
    Jump,
    /// If the accumulator compares so with an operand.
    Branch(Comparison, Operand),
    /// Ends with a constant.
    Return,
    /// Ends with the accumulator.
    ReturnAccumulator,
    /// The accumulator to the index register.
    ToIndex,
    /// The index register to the accumulator.
    FromIndex,
}

/// The words of memory.
pub const MEMORY: usize = 16;

impl Instruction {
    /// What it does.
    ///
    /// # Errors
    /// It is none that libpcap knows.
    pub fn operation(&self) -> Result<Operation> {
        let operand = if self.code & 0x08 == 0 { Operand::K } else { Operand::X };
        Ok(match self.code {
            0x02 => Operation::Store,
            0x03 => Operation::StoreIndex,
            0x05 => Operation::Jump,
            0x06 => Operation::Return,
            0x16 => Operation::ReturnAccumulator,
            0x07 => Operation::ToIndex,
            0x87 => Operation::FromIndex,
            0x8c | 0x100.. => bail!("unknown instruction {:#x}", self.code),
            code => match code & 0x07 {
                0 => Operation::Load(self.source()?),
                1 => Operation::LoadIndex(self.source()?),
                4 => Operation::Compute(self.arithmetic()?, operand),
                5 => Operation::Branch(self.comparison()?, operand),
                _ => bail!("unknown instruction {code:#x}"),
            },
        })
    }

    fn source(&self) -> Result<Source> {
        Ok(match self.code {
            0x00 | 0x01 => Source::Immediate,
            0x20 => Source::Absolute(4),
            0x28 => Source::Absolute(2),
            0x30 => Source::Absolute(1),
            0x40 => Source::Indirect(4),
            0x48 => Source::Indirect(2),
            0x50 => Source::Indirect(1),
            0x60 | 0x61 => Source::Memory,
            0x80 | 0x81 => Source::Length,
            0xb1 => Source::Header,
            code => bail!("unknown load {code:#x}"),
        })
    }

    fn comparison(&self) -> Result<Comparison> {
        Ok(match self.code & 0xf0 {
            0x10 => Comparison::Equal,
            0x20 => Comparison::Greater,
            0x30 => Comparison::NotLess,
            0x40 => Comparison::AnyBit,
            _ => bail!("unknown jump {:#x}", self.code),
        })
    }

    fn arithmetic(&self) -> Result<Arithmetic> {
        Ok(match self.code & 0xf0 {
            0x00 => Arithmetic::Add,
            0x10 => Arithmetic::Subtract,
            0x20 => Arithmetic::Multiply,
            0x30 => Arithmetic::Divide,
            0x40 => Arithmetic::Or,
            0x50 => Arithmetic::And,
            0x60 => Arithmetic::ShiftLeft,
            0x70 => Arithmetic::ShiftRight,
            0x80 => Arithmetic::Negate,
            0x90 => Arithmetic::Modulo,
            0xa0 => Arithmetic::ExclusiveOr,
            _ => bail!("unknown operation {:#x}", self.code),
        })
    }
}

impl Arithmetic {
    /// Whether zero is no second operand of it.
    #[must_use]
    pub fn divides(self) -> bool {
        matches!(self, Self::Divide | Self::Modulo)
    }

    /// Whether it shifts.
    #[must_use]
    pub fn shifts(self) -> bool {
        matches!(self, Self::ShiftLeft | Self::ShiftRight)
    }

    /// The result; `None` for a division by zero.
    #[must_use]
    pub fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Subtract => a.wrapping_sub(b),
            Self::Multiply => a.wrapping_mul(b),
            Self::Divide => a.checked_div(b)?,
            Self::Or => a | b,
            Self::And => a & b,
            Self::ShiftLeft => a.checked_shl(b).unwrap_or(0),
            Self::ShiftRight => a.checked_shr(b).unwrap_or(0),
            Self::Negate => a.wrapping_neg(),
            Self::Modulo => a.checked_rem(b)?,
            Self::ExclusiveOr => a ^ b,
        })
    }
}

impl Comparison {
    /// Whether it holds.
    #[must_use]
    pub fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Greater => a > b,
            Self::NotLess => a >= b,
            Self::AnyBit => a & b != 0,
        }
    }
}

/// A program that ends: every jump goes forward and stays inside, and the last instruction returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    /// Takes instructions that make a program.
    ///
    /// # Errors
    /// They do not; the message says where.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self> {
        ensure!(!instructions.is_empty(), "a program without instructions");
        let count = instructions.len();
        for (at, instruction) in instructions.iter().enumerate() {
            let operation = instruction.operation();
            let operation = operation.with_context(|| format!("instruction {at}"))?;
            let farthest = match operation {
                Operation::Jump => instruction.k as usize,
                Operation::Branch(..) => instruction.jt.max(instruction.jf).into(),
                Operation::Return | Operation::ReturnAccumulator => continue,
                _ => 0,
            };
            // What libpcap, or Linux, would not run either.
            if let Operation::Compute(arithmetic, Operand::K) = operation {
                let zero = arithmetic.divides() && instruction.k == 0;
                ensure!(!zero, "instruction {at}: divides by zero");
                let far = arithmetic.shifts() && instruction.k > 31;
                ensure!(!far, "instruction {at}: shifts by more than 31 bits");
            }
            let inside = farthest < count && at + 1 + farthest < count;
            ensure!(inside, "instruction {at}: leaves the program, or goes back in it");
            let memory = matches!(
                operation,
                Operation::Store
                    | Operation::StoreIndex
                    | Operation::Load(Source::Memory)
                    | Operation::LoadIndex(Source::Memory)
            );
            ensure!(!memory || (instruction.k as usize) < MEMORY, "instruction {at}: no such word");
        }
        Ok(Self { instructions })
    }

    /// Reads what `tcpdump -ddd` prints: how many instructions there are, then a line for each.
    ///
    /// # Errors
    /// The text is not that; the message says where.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let count: usize = lines.next().context("nothing")?.parse().context("no count")?;
        let instruction = |line: &str| -> Result<Instruction> {
            let numbers: Vec<&str> = line.split_whitespace().collect();
            let [code, jt, jf, k] = numbers[..] else { bail!("`{line}` is not four numbers") };
            Ok(Instruction { code: code.parse()?, jt: jt.parse()?, jf: jf.parse()?, k: k.parse()? })
        };
        let instructions: Vec<Instruction> = lines.map(instruction).collect::<Result<_>>()?;
        ensure!(instructions.len() == count, "{count} instructions announced, not there");
        Self::new(instructions)
    }

    /// The instructions.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Whether it accepts a packet: the reference reading.
    #[must_use]
    pub fn accepts(&self, packet: &[u8]) -> bool {
        self.run(packet).unwrap_or(0) != 0
    }

    /// What it returns; `None` if a load is outside the packet, or a divisor zero.
    fn run(&self, packet: &[u8]) -> Option<u32> {
        let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; MEMORY]);
        let mut at = 0;
        loop {
            let instruction = self.instructions.get(at)?;
            let k = instruction.k;
            at += 1;
            let source = |source, x: u32, memory: &[u32; MEMORY]| match source {
                Source::Immediate => Some(k),
                Source::Absolute(width) => load(packet, k, width),
                Source::Indirect(width) => load(packet, x.checked_add(k)?, width),
                Source::Memory => memory.get(k as usize).copied(),
                Source::Length => u32::try_from(packet.len()).ok(),
                Source::Header => Some(4 * (load(packet, k, 1)? & 0xf)),
            };
            let operand = |operand| if operand == Operand::K { k } else { x };
            match instruction.operation().ok()? {
                Operation::Load(from) => a = source(from, x, &memory)?,
                Operation::LoadIndex(from) => x = source(from, x, &memory)?,
                Operation::Store => *memory.get_mut(k as usize)? = a,
                Operation::StoreIndex => *memory.get_mut(k as usize)? = x,
                Operation::Compute(arithmetic, with) => a = arithmetic.apply(a, operand(with))?,
                Operation::Jump => at += k as usize,
                Operation::Branch(comparison, with) => {
                    let holds = comparison.holds(a, operand(with));
                    at += usize::from(if holds { instruction.jt } else { instruction.jf });
                }
                Operation::Return => return Some(k),
                Operation::ReturnAccumulator => return Some(a),
                Operation::ToIndex => x = a,
                Operation::FromIndex => a = x,
            }
        }
    }
}

fn load(packet: &[u8], at: u32, width: u8) -> Option<u32> {
    let bytes = packet.get(at as usize..)?.get(..width.into())?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.instructions.len())?;
        for Instruction { code, jt, jf, k } in &self.instructions {
            writeln!(f, "{code} {jt} {jf} {k}")?;
        }
        Ok(())
    }
}
