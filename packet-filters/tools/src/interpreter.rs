//! The interpreter: what a verified program means, and what compiled code is held against.
//!
//! It checks every access, also those that the verifier has shown to be in bounds, and panics where
//! the verifier was wrong.

use packet_filters::ebpf::{
    Argument, Fault, Instruction, MAX_DEPTH, Note, STACK_REGION, Trap, Verified, class,
    operation::*,
};

use crate::arithmetic::{compute, holds};

const STACK: usize = 512;

/// The regions and helpers of a run.
pub trait World {
    /// A region, as long as it is now.
    fn region(&mut self, region: u8) -> &mut [u8];
    /// Calls a helper.
    fn help(&mut self, helper: u32, arguments: [u64; 5]) -> u64;
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The value of register 0 at the exit, or why there was none.
    pub outcome: Result<u64, Trap>,
    /// How many instructions were executed; helpers count as what they cost.
    pub steps: u64,
}

/// A function that has called another: where it goes on, and registers 6 to 9.
type Caller = (usize, [u64; 4]);

struct Interpreter<'a, W> {
    world: &'a mut W,
    registers: [u64; 11],
    /// The stack of each function that runs.
    frames: Vec<[u8; STACK]>,
    callers: Vec<Caller>,
    fuel: u64,
    steps: u64,
}

/// Runs the program. `arguments` are used where the profile says that a register is a number.
/// Whatever the program has not written is `0xa5` in each byte.
///
/// # Panics
///
/// If the verifier was wrong: an access without a guard is out of bounds, control goes where no way
/// leads, a place that is always the same is not.
pub fn interpret<W: World>(
    program: &Verified<'_>,
    world: &mut W,
    arguments: [u64; 5],
    fuel: u64,
) -> Run {
    let mut registers = [u64::from_ne_bytes([0xa5; 8]); 11];
    for ((argument, value), register) in
        program.profile.arguments.iter().zip(arguments).zip(&mut registers[1..])
    {
        match *argument {
            Argument::Nothing => (),
            Argument::Pointer(_) => *register = 0,
            Argument::Number => *register = value,
            Argument::Length(region) => *register = world.region(region).len() as u64,
        }
    }
    registers[10] = STACK as u64;
    let (frames, callers) = (vec![[0xa5; STACK]], Vec::new());
    let mut interpreter = Interpreter { world, registers, frames, callers, fuel, steps: 0 };
    let code: Vec<(Instruction, Note)> = program.notes().map(|(i, note)| (*i, *note)).collect();
    let helpers = program.profile.helpers;
    let mut at = 0;
    let outcome = loop {
        let (instruction, note) = &code[at];
        assert!(note.reached, "slot {at}: no way leads here");
        if instruction.class() == class::JUMP
            && instruction.operation() == CALL
            && instruction.from == 0
        {
            let helper = helpers[instruction.immediate as usize].expect("verified");
            interpreter.steps += u64::from(helper.cost);
        }
        interpreter.steps += u64::from(instruction.code != 0);
        let target = instruction.target(at).filter(|_| instruction.goes_back(at));
        let burnt = target.map_or(0, |target| code[target].1.cost.into());
        let next = interpreter
            .burn(burnt)
            .and_then(|()| interpreter.step(at, instruction, note, code.get(at + 1).map(|c| &c.0)));
        match next {
            Ok(Some(next)) => at = next,
            Ok(None) => break Ok(interpreter.registers[0]),
            Err(fault) => break Err(Trap { fault, at: at as u16 }),
        }
    };
    Run { outcome, steps: interpreter.steps }
}

impl<W: World> Interpreter<'_, W> {
    fn register(&mut self, register: u8) -> &mut u64 {
        &mut self.registers[usize::from(register)]
    }

    /// The second operand.
    fn operand(&mut self, instruction: &Instruction) -> u64 {
        let immediate = i64::from(instruction.immediate).cast_unsigned();
        instruction.source().map_or(immediate, |register| *self.register(register))
    }

    fn burn(&mut self, amount: u64) -> Result<(), Fault> {
        self.fuel = self.fuel.checked_sub(amount).ok_or(Fault::Spent)?;
        Ok(())
    }

    /// Executes one instruction; where to go on, nowhere at the end.
    fn step(
        &mut self,
        at: usize,
        instruction: &Instruction,
        note: &Note,
        next: Option<&Instruction>,
    ) -> Result<Option<usize>, Fault> {
        let Instruction { to, from, .. } = *instruction;
        match (instruction.class(), instruction.operation()) {
            (class::CONSTANT, _) if instruction.code == Instruction::CONSTANT => {
                *self.register(to) = instruction.constant(next);
            }
            (class::CONSTANT, _) => (),
            (class::NARROW | class::WIDE, _) => {
                let right = self.operand(instruction);
                *self.register(to) = compute(instruction, *self.register(to), right);
            }
            (class::LOAD, _) => {
                let value = self.load(instruction, from, note)?;
                let unused = 64 - 8 * instruction.size();
                let extended = ((value << unused).cast_signed() >> unused).cast_unsigned();
                *self.register(to) = if instruction.is_signed() { extended } else { value };
            }
            (class::STORE | class::STORE_CONSTANT, _) => {
                if instruction.is_atomic() {
                    self.atomic(instruction, note)?;
                } else {
                    let value = self.operand(instruction);
                    self.store(instruction, note, value)?;
                }
            }
            (_, JA) => return Ok(instruction.target(at)),
            (class::JUMP, CALL) => return self.call(at, instruction),
            (class::JUMP, EXIT) => return Ok(self.exit()),
            _ => {
                let right = self.operand(instruction);
                if holds(instruction, *self.register(to), right) {
                    return Ok(instruction.target(at));
                }
            }
        }
        Ok(Some(at + 1))
    }

    fn call(&mut self, at: usize, instruction: &Instruction) -> Result<Option<usize>, Fault> {
        let [_, r1, r2, r3, r4, r5, r6, r7, r8, r9, _] = self.registers;
        if instruction.target(at).is_none() {
            let helper = instruction.immediate.cast_unsigned();
            self.registers[0] = self.world.help(helper, [r1, r2, r3, r4, r5]);
            return Ok(Some(at + 1));
        }
        if self.frames.len() == MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.callers.push((at + 1, [r6, r7, r8, r9]));
        self.frames.push([0xa5; STACK]);
        Ok(instruction.target(at))
    }

    /// Goes back to the caller, if there is one.
    fn exit(&mut self) -> Option<usize> {
        let (at, saved) = self.callers.pop()?;
        self.frames.pop();
        self.registers[6..10].copy_from_slice(&saved);
        Some(at)
    }

    /// The bytes of an access.
    fn bytes(
        &mut self,
        instruction: &Instruction,
        base: u8,
        note: &Note,
    ) -> Result<&mut [u8], Fault> {
        let place = self.register(base).wrapping_add_signed(instruction.offset.into());
        assert!(note.fixed.is_none_or(|fixed| u64::from(fixed) == place), "not the same place");
        let region = if note.region == STACK_REGION {
            self.frames.last_mut().expect("a function runs").as_mut_slice()
        } else {
            self.world.region(note.region)
        };
        let start = usize::try_from(place).unwrap_or(usize::MAX);
        let bytes = region.get_mut(start..start.saturating_add(instruction.size() as usize));
        assert!(bytes.is_some() || note.guarded, "out of bounds without a guard");
        let aligned = !instruction.is_atomic() || place.is_multiple_of(instruction.size().into());
        bytes.filter(|_| aligned).ok_or(Fault::OutOfBounds)
    }

    fn load(&mut self, instruction: &Instruction, base: u8, note: &Note) -> Result<u64, Fault> {
        let bytes = self.bytes(instruction, base, note)?;
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(value))
    }

    fn store(&mut self, instruction: &Instruction, note: &Note, value: u64) -> Result<(), Fault> {
        let bytes = self.bytes(instruction, instruction.to, note)?;
        let length = bytes.len();
        bytes.copy_from_slice(&value.to_le_bytes()[..length]);
        Ok(())
    }

    fn atomic(&mut self, instruction: &Instruction, note: &Note) -> Result<(), Fault> {
        let old = self.load(instruction, instruction.to, note)?;
        let value = *self.register(instruction.from);
        let expected = self.registers[0] & (u64::MAX >> (64 - 8 * instruction.size()));
        let new = match instruction.immediate {
            0x00 | 0x01 => old.wrapping_add(value),
            0x40 | 0x41 => old | value,
            0x50 | 0x51 => old & value,
            0xa0 | 0xa1 => old ^ value,
            0xf1 if old != expected => old,
            _ => value,
        };
        self.store(instruction, note, new)?;
        match instruction.immediate {
            0xf1 => self.registers[0] = old,
            fetch if fetch & 1 != 0 => *self.register(instruction.from) = old,
            _ => (),
        }
        Ok(())
    }
}
