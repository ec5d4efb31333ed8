//! From verified eBPF to x86-64, one instruction after the other.
//!
//! | register | holds |
//! |---|---|
//! | rax, rdi, rsi, rdx, r8, r9, rbx, r13, r14, r15 | registers 0 to 9, those that are used |
//! | rsp | the stack of the function, 512 bytes; register 10 is always the offset of its end |
//! | rbp | the activation |
//! | r10 | the start of region 0; other regions' starts are loaded when they are used |
//! | r12 | the fuel |
//! | rcx, r11 | scratch |
//!
//! Registers of the program hold numbers and offsets, never addresses. An access adds the start of
//! its region, which the verifier knows; if it needs a guard, the offset is first compared with the
//! number of places in the region at which an access of its size may start. That is one unsigned
//! comparison, right for every offset.
//!
//! Helpers take registers 1 to 5 where they are, and the activation in rcx. A program that calls none
//! has its registers, then the activation, in the first of those above: most need to save nothing.

use core::mem;

use super::activation::Activation;
use super::instruction::{Instruction, class, operation::*};
use super::profile::Argument;
use super::state::{STACK, STACK_REGION};
use super::verifier::{Slot, Verified};
use crate::codegen::BufferTooSmall;
use crate::codegen::code::{Code, Condition, Label};
use crate::codegen::encoding::*;

/// Registers 0 to 9.
const REGISTERS: [u8; 10] = [RAX, RDI, RSI, RDX, R8, R9, RBX, R13, R14, R15];

/// What the caller of a compiled program wants to find unchanged. The second is the fuel, which only
/// a program that goes back burns.
const SAVED: [u8; 6] = [RBP, R12, RBX, R13, R14, R15];

impl Verified<'_> {
    /// Writes the program as machine code of the type [`Compiled`](super::Compiled) to the front of
    /// `buffer`; the length in bytes.
    ///
    /// The code can run at any address. It reaches the activation, the regions and its own stack,
    /// calls the activation's helpers, and keeps to the System V calling convention. After an error
    /// the contents of the buffer have no meaning.
    pub fn compile(&mut self, buffer: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let slots = &*self.slots;
        let loops = slots.iter().enumerate().any(|(at, slot)| slot.instruction.goes_back(at));
        let calls = slots.iter().any(|slot| slot.instruction.code == class::JUMP | CALL << 4);
        let used = |number: usize| {
            let names = |register: u8| usize::from(register) == number;
            slots.iter().any(|slot| names(slot.instruction.to) || names(slot.instruction.from))
        };
        let mut free = REGISTERS.into_iter();
        let registers = core::array::from_fn(|number| match REGISTERS.get(number) {
            Some(own) if calls => Some(*own).filter(|_| number < 6 || used(number)),
            Some(_) if used(number) => free.next(),
            _ => None,
        });
        let activation = free.next().filter(|_| !calls).unwrap_or(RBP);
        let changed = |register: &u8| {
            let held = registers.contains(&Some(*register)) || *register == activation;
            held || loops && *register == R12
        };
        let saved = SAVED.map(|register| Some(register).filter(changed));
        // Helpers want a multiple of 16, with what is saved and the return address.
        let odd = calls && saved.iter().flatten().count().is_multiple_of(2);
        let stack = if used(10) { STACK as i32 } else { 0 };
        let mut compiler = Compiler {
            code: Code::new(buffer),
            slots: self.slots,
            registers,
            activation,
            saved,
            frame: stack + if odd { 8 } else { 0 },
            done: Label::new(),
            trapped: Label::new(),
        };
        compiler.prologue(&self.profile.arguments);
        for at in 0..compiler.slots.len() {
            compiler.instruction(at);
        }
        compiler.epilogue();
        compiler.code.finish()
    }
}

struct Compiler<'c, 'b> {
    code: Code<'b>,
    slots: &'c mut [Slot],
    /// What holds registers 0 to 9, as far as they are used.
    registers: [Option<u8>; 10],
    activation: u8,
    /// Those of [`SAVED`] that are changed.
    saved: [Option<u8>; 6],
    /// What is taken of the stack.
    frame: i32,
    /// The program has exited.
    done: Label,
    /// The program has trapped, and edx says how.
    trapped: Label,
}

impl Compiler<'_, '_> {
    fn prologue(&mut self, arguments: &[Argument; 5]) {
        let (code, activation) = (&mut self.code, self.activation);
        self.saved.iter().flatten().for_each(|register| code.push(*register));
        code.registers(WIDE, LOAD, R10, RSI);
        code.registers(WIDE, LOAD, activation, RDI);
        if self.saved.contains(&Some(R12)) {
            code.memory(WIDE, LOAD, R12, Memory::at(activation, Activation::FUEL));
        }
        if self.frame != 0 {
            code.immediate(WIDE, group::SUB, RSP, self.frame);
        }
        let registers = self.registers.iter().skip(1);
        for ((argument, register), index) in arguments.iter().zip(registers).zip(0..) {
            let Some(register) = *register else { continue };
            let mut load = |held| code.memory(WIDE, LOAD, register, Memory::at(activation, held));
            match *argument {
                Argument::Nothing => (),
                Argument::Pointer(_) => code.constant(register, 0),
                Argument::Number => load(Activation::ARGUMENTS + 8 * index),
                Argument::Length(region) => load(Activation::places_of(region, 1)),
            }
        }
    }

    /// Behind the last instruction: the way out, and the ways that lead there from what trapped.
    fn epilogue(&mut self) {
        let code = &mut self.code;
        code.bind(mem::take(&mut self.done));
        code.constant(RDX, 0);
        let finish = code.position();
        if self.frame != 0 {
            code.immediate(WIDE, group::ADD, RSP, self.frame);
        }
        self.saved.iter().rev().flatten().for_each(|register| code.pop(*register));
        code.emit(&[0xc3]); // ret
        for (slot, status) in self.slots.iter_mut().zip(1..) {
            if slot.trap.is_used() {
                code.bind(mem::take(&mut slot.trap));
                code.constant(RDX, status);
                code.jump(None, &mut self.trapped);
            }
        }
        code.bind(mem::take(&mut self.trapped));
        code.constant(RAX, 0);
        code.jump_back(None, finish);
    }

    fn instruction(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.position = self.code.position();
        self.code.bind(mem::take(&mut slot.jumps));
        if !slot.reached {
            return;
        }
        let instruction = &slot.instruction.clone();
        let Instruction { code, to, from, immediate, .. } = *instruction;
        if instruction.goes_back(at) {
            let target = instruction.target(at).and_then(|target| self.slots.get(target));
            let cost = target.map_or(0, |slot| slot.cost);
            self.code.immediate(WIDE, group::SUB, R12, cost.cast_signed());
            self.trap_if(Condition::Below, at);
        }
        match (instruction.class(), instruction.operation()) {
            (class::CONSTANT, _) if code == Instruction::CONSTANT => {
                let next = self.slots.get(at + 1).map(|next| next.instruction);
                self.code
                    .constant(self.register(to), instruction.constant(&next.unwrap_or_default()));
            }
            (class::CONSTANT, _) => (),
            (class::LOAD, _) => {
                let memory = self.operand(at, from);
                let (wide, opcode) = match (instruction.size(), instruction.is_signed()) {
                    (1, signed) => (signed, if signed { 0x0fbe } else { 0x0fb6 }), // movsx, movzx
                    (2, signed) => (signed, if signed { 0x0fbf } else { 0x0fb7 }),
                    (4, true) => (WIDE, 0x63), // movsxd
                    (size, _) => (size == 8, LOAD),
                };
                self.code.memory(wide, opcode, self.register(to), memory);
            }
            (class::STORE | class::STORE_CONSTANT, _) => {
                let memory = self.operand(at, to);
                self.store(instruction, memory);
            }
            (class::NARROW | class::WIDE, _) => self.arithmetic(instruction),
            (_, JA) => self.jump(at, instruction, None),
            (class::JUMP, CALL) => {
                self.code.registers(WIDE, LOAD, RCX, self.activation);
                self.code.memory(WIDE, LOAD, R11, Memory::at(self.activation, Activation::HELPERS));
                self.code.memory(NARROW, 0xff, 2, Memory::at(R11, 8 * immediate)); // call
                self.code.memory(
                    WIDE,
                    LOAD,
                    R10,
                    Memory::at(self.activation, Activation::start_of(0)),
                );
            }
            (class::JUMP, EXIT) if at + 1 == self.slots.len() => (),
            (class::JUMP, EXIT) => self.code.jump(None, &mut self.done),
            (_, test) => {
                self.compare(instruction);
                self.jump(at, instruction, Some(CONDITIONS[usize::from(test & 15)]));
            }
        }
    }

    /// To the trap of the instruction at this slot.
    fn trap_if(&mut self, condition: Condition, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            self.code.jump(condition, &mut slot.trap);
        }
    }

    /// To the target of the instruction at this slot.
    fn jump(&mut self, at: usize, instruction: &Instruction, condition: Option<Condition>) {
        let slot = instruction.target(at).and_then(|target| self.slots.get_mut(target));
        let Some(slot) = slot else { return };
        if instruction.goes_back(at) {
            self.code.jump_back(condition, slot.position);
        } else {
            self.code.jump(condition, &mut slot.jumps);
        }
    }

    /// The register that holds a register of the program; r11 for the stack's end.
    fn register(&self, number: u8) -> u8 {
        self.registers.get(usize::from(number)).copied().flatten().unwrap_or(R11)
    }

    /// The register that holds a register of the program; the offset of the stack's end is put
    /// into r11.
    fn read(&mut self, number: u8) -> u8 {
        if number == 10 {
            self.code.constant(R11, STACK);
        }
        self.register(number)
    }

    /// A register that holds the second operand; an immediate is put into r11.
    fn source(&mut self, instruction: &Instruction) -> u8 {
        match instruction.source() {
            Some(source) => self.read(source),
            None => {
                self.code.constant(R11, i64::from(instruction.immediate).cast_unsigned());
                R11
            }
        }
    }

    fn compare(&mut self, instruction: &Instruction) {
        let (wide, left) = (instruction.is_wide(), self.read(instruction.to));
        if instruction.operation() == JSET {
            let right = self.source(instruction);
            self.code.registers(wide, 0x85, right, left); // test
        } else {
            self.group(instruction, group::CMP, left);
        }
    }

    /// An instruction of group 1.
    fn group(&mut self, instruction: &Instruction, group: u8, to: u8) {
        let wide = instruction.is_wide();
        match instruction.source() {
            Some(source) => {
                let source = self.read(source);
                self.code.registers(wide, u16::from(group) * 8 + 1, source, to);
            }
            None => self.code.immediate(wide, group, to, instruction.immediate),
        }
    }

    fn arithmetic(&mut self, instruction: &Instruction) {
        let (wide, to) = (instruction.is_wide(), self.register(instruction.to));
        match instruction.operation() {
            ADD => self.group(instruction, group::ADD, to),
            SUB => self.group(instruction, group::SUB, to),
            OR => self.group(instruction, group::OR, to),
            AND => self.group(instruction, group::AND, to),
            XOR => self.group(instruction, group::XOR, to),
            LSH => self.shift(instruction, shift::LEFT, to),
            RSH => self.shift(instruction, shift::RIGHT, to),
            ARSH => self.shift(instruction, shift::SIGNED, to),
            NEG => self.code.registers(wide, 0xf7, 3, to),
            END => self.convert(instruction, to),
            MOV if instruction.source().is_none() && wide => {
                self.code.constant(to, i64::from(instruction.immediate).cast_unsigned());
            }
            MOV => {
                let source = self.source(instruction);
                let opcode = match instruction.offset {
                    8 => 0x0fbe, // movsx
                    16 => 0x0fbf,
                    32 => 0x63, // movsxd
                    _ => LOAD,
                };
                self.code.registers(wide, opcode, to, source);
            }
            MUL => {
                let source = self.source(instruction);
                self.code.registers(wide, MULTIPLY, to, source);
            }
            _ => self.divide(instruction, to),
        }
    }

    /// Changes of byte order: little-endian ones only cut off the upper bits.
    fn convert(&mut self, instruction: &Instruction, to: u8) {
        let little = instruction.class() == class::NARROW && instruction.code & 8 == 0;
        match (little, instruction.immediate) {
            (true, 16) => self.code.registers(NARROW, 0x0fb7, to, to), // movzx
            (true, 32) => self.code.registers(NARROW, LOAD, to, to),
            (true, _) => (),
            (false, bits) => {
                self.code.numbered(bits == 64, 0x0fc8, to); // bswap
                if bits == 16 {
                    self.code.shift(NARROW, shift::RIGHT, to, 16);
                }
            }
        }
    }

    /// The processor looks at as many bits of the count as the RFC says.
    fn shift(&mut self, instruction: &Instruction, field: u8, to: u8) {
        let wide = instruction.is_wide();
        match instruction.source() {
            Some(source) => {
                self.code.registers(NARROW, LOAD, RCX, self.register(source));
                self.code.registers(wide, 0xd3, field, to);
            }
            None => self.code.shift(wide, field, to, instruction.immediate as u8),
        }
    }

    /// Division, whose operands the processor wants in rdx and rax. By zero, and, where one quotient
    /// overflows, by -1, it faults: those are computed without it. With `d` the divisor, the quotient
    /// is then `-to & d`, and the remainder `to & !d`.
    fn divide(&mut self, instruction: &Instruction, to: u8) {
        let (wide, signed) = (instruction.is_wide(), instruction.offset == 1);
        let remainder = instruction.operation() == MOD;
        let (mut without, mut end) = (Label::new(), Label::new());
        let source = self.source(instruction);
        let code = &mut self.code;
        code.registers(wide, LOAD, RCX, source);
        code.memory(wide, ADDRESS, R11, Memory::at(RCX, i32::from(signed))); // lea
        code.immediate(wide, group::CMP, R11, i32::from(signed));
        code.jump(Condition::NotAbove, &mut without);
        code.registers(WIDE, LOAD, R11, RDX);
        code.push(RAX);
        code.registers(wide, LOAD, RAX, to);
        if signed {
            code.emit(&[0x40 | u8::from(wide) << 3, 0x99]); // cdq, cqo
        } else {
            code.constant(RDX, 0);
        }
        code.registers(wide, 0xf7, if signed { 7 } else { 6 }, RCX); // idiv, div
        code.registers(wide, LOAD, RCX, if remainder { RDX } else { RAX });
        code.pop(RAX);
        code.registers(WIDE, LOAD, RDX, R11);
        code.registers(WIDE, LOAD, to, RCX);
        code.jump(None, &mut end);
        code.bind(without);
        let (operation, operand) = if remainder { (2, RCX) } else { (3, to) };
        code.registers(wide, 0xf7, operation, operand); // not, neg
        code.registers(wide, 0x23, to, RCX); // and
        code.bind(end);
    }

    /// The operand of an access, behind its guard if it needs one.
    fn operand(&mut self, at: usize, base: u8) -> Memory {
        let Some(slot) = self.slots.get(at) else { return Memory::at(R10, 0) };
        let Slot { region, fixed, guarded, wanted, ref instruction, .. } = *slot;
        let (size, displacement) = (instruction.size(), instruction.offset.into());
        let start = match region {
            STACK_REGION => RSP,
            0 => R10,
            _ => {
                let held = Memory::at(self.activation, Activation::start_of(region));
                self.code.memory(WIDE, LOAD, R11, held);
                R11
            }
        };
        match fixed {
            Some(place) => {
                if guarded {
                    let length = Memory::at(self.activation, Activation::places_of(region, 1));
                    self.code.memory(WIDE, 0x81, group::CMP, length);
                    self.code.emit(&wanted.to_le_bytes());
                    self.trap_if(Condition::Below, at);
                }
                Memory::at(start, place.cast_signed())
            }
            None if guarded => {
                let mut place = self.register(base);
                if displacement != 0 {
                    self.code.memory(WIDE, ADDRESS, RCX, Memory::at(place, displacement));
                    place = RCX;
                }
                if region == STACK_REGION {
                    let places = STACK as i32 - size.cast_signed() + 1;
                    self.code.immediate(WIDE, group::CMP, place, places);
                } else {
                    let places = Memory::at(self.activation, Activation::places_of(region, size));
                    self.code.memory(WIDE, 0x3b, place, places); // cmp
                }
                self.trap_if(Condition::NotBelow, at);
                Memory { base: start, index: Some((place, 0)), displacement: 0 }
            }
            None => Memory { base: start, index: Some((self.register(base), 0)), displacement },
        }
    }

    fn store(&mut self, instruction: &Instruction, memory: Memory) {
        let (size, source) = (instruction.size(), instruction.source());
        let source = source.map(|source| self.read(source));
        if size == 2 {
            self.code.emit(&[0x66]);
        }
        if let Some(source) = source {
            let opcode = if size == 1 { 0x88 } else { STORE };
            return self.code.memory(size == 8, opcode, source, memory);
        }
        let bytes = instruction.immediate.to_le_bytes();
        self.code.memory(size == 8, if size == 1 { 0xc6 } else { 0xc7 }, 0, memory);
        self.code.emit(bytes.get(..size as usize).unwrap_or(&bytes));
    }
}

/// For each test when it holds; those that are none never stand here.
const CONDITIONS: [Condition; 16] = {
    use Condition::*;
    [
        Equal, Equal, Above, NotBelow, NotEqual, NotEqual, Greater, NotLess, Equal, Equal, Below,
        NotAbove, Less, NotGreater, Equal, Equal,
    ]
};
