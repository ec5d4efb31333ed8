//! The interpreter: what a verified program means, and what compiled code is held against.
//!
//! It checks every access, also those that the verifier has shown to be in bounds, and panics where
//! the verifier was wrong.

use packet_filters::ebpf::{
    Argument, Instruction, STACK_REGION, Slot, Trap, Verified, class, operation::*,
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

/// The program can't go on where it is.
struct Stopped;

struct Interpreter<'a, W> {
    world: &'a mut W,
    registers: [u64; 11],
    stack: [u8; STACK],
    fuel: u64,
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
    let mut interpreter = Interpreter { world, registers, stack: [0xa5; STACK], fuel };
    let (slots, helpers) = (program.slots(), program.profile.helpers);
    let (mut at, mut steps) = (0, 0);
    let outcome = loop {
        let slot = &slots[at];
        assert!(slot.reached, "slot {at}: no way leads here");
        let instruction = &slot.instruction;
        steps += u64::from(instruction.code != 0);
        if instruction.class() == class::JUMP && instruction.operation() == CALL {
            let helper = helpers[instruction.immediate as usize].expect("verified");
            steps += u64::from(helper.cost);
        }
        let target = instruction.target(at).filter(|_| instruction.goes_back(at));
        let burnt = target.map_or(0, |target| slots[target].cost.into());
        let next = slots.get(at + 1).map(|slot| slot.instruction).unwrap_or_default();
        match interpreter.burn(burnt).and_then(|()| interpreter.step(at, slot, &next)) {
            Ok(Some(next)) => at = next,
            Ok(None) => break Ok(interpreter.registers[0]),
            Err(Stopped) => break Err(Trap(at as u16)),
        }
    };
    Run { outcome, steps }
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

    fn burn(&mut self, amount: u64) -> Result<(), Stopped> {
        self.fuel = self.fuel.checked_sub(amount).ok_or(Stopped)?;
        Ok(())
    }

    /// Executes one instruction; where to go on, nowhere at the end.
    fn step(
        &mut self,
        at: usize,
        slot: &Slot,
        next: &Instruction,
    ) -> Result<Option<usize>, Stopped> {
        let instruction = &slot.instruction;
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
                let value = self.load(slot, from)?;
                let unused = 64 - 8 * instruction.size();
                let extended = ((value << unused).cast_signed() >> unused).cast_unsigned();
                *self.register(to) = if instruction.is_signed() { extended } else { value };
            }
            (class::STORE | class::STORE_CONSTANT, _) => {
                let value = self.operand(instruction).to_le_bytes();
                let bytes = self.bytes(slot, to)?;
                let length = bytes.len();
                bytes.copy_from_slice(&value[..length]);
            }
            (_, JA) => return Ok(instruction.target(at)),
            (class::JUMP, CALL) => {
                let [_, r1, r2, r3, r4, r5, ..] = self.registers;
                let helper = instruction.immediate.cast_unsigned();
                self.registers[0] = self.world.help(helper, [r1, r2, r3, r4, r5]);
            }
            (class::JUMP, EXIT) => return Ok(None),
            _ => {
                let right = self.operand(instruction);
                if holds(instruction, *self.register(to), right) {
                    return Ok(instruction.target(at));
                }
            }
        }
        Ok(Some(at + 1))
    }

    /// The bytes of an access.
    fn bytes(&mut self, slot: &Slot, base: u8) -> Result<&mut [u8], Stopped> {
        let instruction = &slot.instruction;
        let place = self.register(base).wrapping_add_signed(instruction.offset.into());
        assert!(slot.fixed.is_none_or(|fixed| u64::from(fixed) == place), "not the same place");
        let region = match slot.region {
            STACK_REGION => self.stack.as_mut_slice(),
            region => self.world.region(region),
        };
        let start = usize::try_from(place).unwrap_or(usize::MAX);
        if slot.guarded && slot.fixed.is_some() && region.len() < slot.wanted as usize {
            return Err(Stopped);
        }
        let bytes = region.get_mut(start..start.saturating_add(instruction.size() as usize));
        assert!(bytes.is_some() || slot.guarded, "out of bounds without a guard");
        bytes.ok_or(Stopped)
    }

    fn load(&mut self, slot: &Slot, base: u8) -> Result<u64, Stopped> {
        let bytes = self.bytes(slot, base)?;
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(value))
    }
}
