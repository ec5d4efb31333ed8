//! From verified eBPF to x86-64, one instruction after the other.
//!
//! | register | holds |
//! |---|---|
//! | rax, rdi, rsi, rdx, r8, r9, rbx, r13, r14, r15 | registers 0 to 9 |
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
//! Helpers take registers 1 to 5 where they are, and the activation in rcx.

use core::mem;

use super::activation::{Activation, Fault, MAX_DEPTH, status};
use super::assembler::*;
use super::instruction::{Instruction, class, operation::*};
use super::profile::Argument;
use super::state::{STACK, STACK_REGION};
use super::verifier::{Note, Verified};
use crate::codegen::CompileError;
use crate::codegen::code::{Code, Condition, Label};

/// What the compiler remembers of a slot.
#[derive(Debug)]
pub(super) struct Place {
    /// Where its code begins.
    position: usize,
    /// Jumps to it from before.
    jumps: Label,
    /// Where it goes if it can't be executed.
    trap: Label,
}

impl Place {
    pub(super) const fn new() -> Self {
        Place { position: 0, jumps: Label::new(), trap: Label::new() }
    }
}

/// Registers 0 to 9.
const REGISTERS: [u8; 10] = [RAX, RDI, RSI, RDX, R8, R9, RBX, R13, R14, R15];

/// What the caller of a compiled program wants to find unchanged, and which register of the program
/// it is; 10 stands for the fuel.
const SAVED: [(u8, u8); 5] = [(RBX, 6), (R13, 7), (R14, 8), (R15, 9), (R12, 10)];

/// What a function keeps for its caller.
const KEPT: [u8; 4] = [RBX, R13, R14, R15];

/// A function's stack, and 8 bytes so that the stack pointer stays a multiple of 16.
const FRAME: i32 = STACK as i32 + 8;

/// What one call takes of the stack: the kept registers, the return address, the frame.
const CALL_FRAME: i32 = 8 * KEPT.len() as i32 + 8 + FRAME;

/// The opcode of calls, of helpers and of functions.
const CALL_CODE: u8 = CALL << 4 | class::JUMP;

/// The start of region 0, in the activation.
const FIRST: Memory = Memory::at(RBP, 0);

impl Verified<'_> {
    /// Writes the program as machine code of the type [`Compiled`](super::Compiled) to the front of
    /// `buffer`; the length in bytes.
    ///
    /// The code can run at any address. It reaches the activation, the regions and its own stack,
    /// calls the activation's helpers, and keeps to the System V calling convention. After an error
    /// the contents of the buffer have no meaning.
    pub fn compile(&mut self, buffer: &mut [u8]) -> Result<usize, CompileError> {
        self.places.fill_with(Place::new);
        let mut compiler = Compiler {
            code: Code::new(buffer),
            instructions: self.instructions,
            notes: self.notes,
            places: self.places,
            calls: self.instructions.iter().any(|i| i.code == CALL_CODE && i.from == 1),
            saved: 0,
            outer: 0,
            done: Label::new(),
            trapped: Label::new(),
        };
        compiler.choose_registers();
        compiler.prologue(&self.profile.arguments);
        for (at, (instruction, note)) in self.instructions.iter().zip(self.notes).enumerate() {
            if let Some(place) = compiler.places.get_mut(at) {
                place.position = compiler.code.position();
                compiler.code.bind(mem::take(&mut place.jumps));
            }
            if note.reached {
                compiler.instruction(at, instruction, note);
            }
        }
        compiler.epilogue();
        compiler.code.finish()
    }
}

struct Compiler<'c, 'b> {
    code: Code<'b>,
    instructions: &'c [Instruction],
    notes: &'c [Note],
    places: &'c mut [Place],
    /// Whether functions call others.
    calls: bool,
    /// Which of [`SAVED`] the program changes, as bits.
    saved: u8,
    /// What is taken of the stack before the first function starts.
    outer: i32,
    /// The program has exited.
    done: Label,
    /// The program has trapped, and edx says how.
    trapped: Label,
}

impl Compiler<'_, '_> {
    /// Which registers have to be saved, and how much of the stack keeps it aligned to 16 bytes.
    fn choose_registers(&mut self) {
        for (at, instruction) in self.instructions.iter().enumerate() {
            let burns = instruction.goes_back(at) || instruction.is_atomic();
            for (bit, (_, register)) in SAVED.iter().enumerate() {
                let used = instruction.to == *register || instruction.from == *register;
                let used = if *register == 10 { burns } else { used || self.calls };
                self.saved |= u8::from(used) << bit;
            }
        }
        let odd = (self.saved.count_ones() + 1) % 2 == 1;
        self.outer = if odd { 0 } else { 8 } + if self.calls { 0 } else { STACK as i32 };
    }

    /// The registers to be saved.
    fn saved(&self) -> impl DoubleEndedIterator<Item = u8> + use<> {
        let saved = self.saved;
        let chosen = move |(bit, _): &(usize, (u8, u8))| saved >> bit & 1 != 0;
        SAVED.into_iter().enumerate().filter(chosen).map(|(_, (register, _))| register)
    }

    fn prologue(&mut self, arguments: &[Argument; 5]) {
        let saved = self.saved();
        let code = &mut self.code;
        code.push(RBP);
        saved.for_each(|register| code.push(register));
        code.registers(true, LOAD, RBP, RDI);
        if self.saved >> 4 != 0 {
            code.memory(true, LOAD, R12, Memory::at(RBP, Activation::FUEL));
        }
        code.registers(true, LOAD, R10, RSI);
        code.immediate(true, group::SUB, RSP, self.outer);
        for ((argument, register), index) in arguments.iter().zip([RDI, RSI, RDX, R8, R9]).zip(0..)
        {
            let held = match *argument {
                Argument::Nothing => continue,
                Argument::Pointer(_) => {
                    code.constant(register, 0);
                    continue;
                }
                Argument::Number => Activation::ARGUMENTS + 8 * index,
                Argument::Length(region) => Activation::places_of(region, 1),
            };
            code.memory(true, LOAD, register, Memory::at(RBP, held));
        }
        if self.calls {
            code.memory(true, STORE, RSP, Memory::at(RBP, Activation::STACK));
            let deepest = -8 - FRAME - CALL_FRAME * (MAX_DEPTH as i32 - 2);
            code.memory(true, 0x8d, RCX, Memory::at(RSP, deepest)); // lea
            code.memory(true, STORE, RCX, Memory::at(RBP, Activation::DEEPEST));
            let mut start = Label::new();
            code.call(&mut start);
            code.jump(&mut self.done);
            code.bind(start);
            code.immediate(true, group::SUB, RSP, FRAME);
        }
    }

    /// Behind the last instruction: the way out, and the ways that lead there from what trapped.
    fn epilogue(&mut self) {
        let saved = self.saved();
        let code = &mut self.code;
        code.bind(mem::take(&mut self.done));
        code.constant(RDX, 0);
        let finish = code.position();
        code.immediate(true, group::ADD, RSP, self.outer);
        saved.rev().for_each(|register| code.pop(register));
        code.pop(RBP);
        code.ret();
        for (at, (place, instruction)) in self.places.iter_mut().zip(self.instructions).enumerate()
        {
            if place.trap.is_used() {
                let spent = instruction.target(at).is_some();
                let fault = if spent { Fault::Spent } else { Fault::OutOfBounds };
                code.bind(mem::take(&mut place.trap));
                code.constant(RDX, status(at, fault));
                code.jump(&mut self.trapped);
            }
        }
        code.bind(mem::take(&mut self.trapped));
        code.constant(RAX, 0);
        if self.calls {
            code.memory(true, LOAD, RSP, Memory::at(RBP, Activation::STACK));
        }
        code.jump_back(finish);
    }

    fn instruction(&mut self, at: usize, instruction: &Instruction, note: &Note) {
        let Instruction { code, to, from, immediate, .. } = *instruction;
        if instruction.goes_back(at) {
            let target = instruction.target(at).and_then(|target| self.notes.get(target));
            let cost = target.map_or(0, |note| note.cost);
            self.code.immediate(true, group::SUB, R12, cost.cast_signed());
            self.trap_if(Condition::Below, at);
        }
        match (instruction.class(), instruction.operation()) {
            (class::CONSTANT, _) if code == Instruction::CONSTANT => {
                let value = instruction.constant(self.instructions.get(at + 1));
                self.code.constant(register(to), value);
            }
            (class::CONSTANT, _) => (),
            (class::LOAD, _) => {
                let memory = self.operand(at, instruction, from, note);
                let (wide, opcode) = match (instruction.size(), instruction.is_signed()) {
                    (1, signed) => (signed, if signed { 0x0fbe } else { 0x0fb6 }), // movsx, movzx
                    (2, signed) => (signed, if signed { 0x0fbf } else { 0x0fb7 }),
                    (4, true) => (true, 0x63), // movsxd
                    (size, _) => (size == 8, LOAD),
                };
                self.code.memory(wide, opcode, register(to), memory);
            }
            (class::STORE | class::STORE_CONSTANT, _) => {
                let memory = self.operand(at, instruction, to, note);
                if instruction.is_atomic() {
                    self.atomic(at, instruction, memory);
                } else {
                    self.store(instruction, memory);
                }
            }
            (class::NARROW | class::WIDE, _) => self.arithmetic(instruction),
            (_, JA) => self.jump(at, instruction, None),
            (class::JUMP, CALL) if instruction.target(at).is_some() => self.call(at, instruction),
            (class::JUMP, CALL) => {
                self.code.registers(true, LOAD, RCX, RBP);
                self.code.memory(true, LOAD, R11, Memory::at(RBP, Activation::HELPERS));
                self.code.memory(false, 0xff, 2, Memory::at(R11, 8 * immediate)); // call
                self.code.memory(true, LOAD, R10, FIRST);
            }
            (class::JUMP, EXIT) if self.calls => {
                self.code.immediate(true, group::ADD, RSP, FRAME);
                self.code.ret();
            }
            (class::JUMP, EXIT) if at + 1 == self.instructions.len() => (),
            (class::JUMP, EXIT) => self.code.jump(&mut self.done),
            (_, test) => {
                self.compare(instruction);
                self.jump(at, instruction, Some(condition(test)));
            }
        }
    }

    /// To the trap of the instruction at this slot.
    fn trap_if(&mut self, condition: Condition, at: usize) {
        if let Some(place) = self.places.get_mut(at) {
            self.code.jump_if(condition, &mut place.trap);
        }
    }

    /// To the target of the instruction at this slot.
    fn jump(&mut self, at: usize, instruction: &Instruction, condition: Option<Condition>) {
        let place = instruction.target(at).and_then(|target| self.places.get_mut(target));
        let Some(place) = place else { return };
        match (instruction.goes_back(at), condition) {
            (true, None) => self.code.jump_back(place.position),
            (false, None) => self.code.jump(&mut place.jumps),
            (true, Some(condition)) => self.code.jump_back_if(condition, place.position),
            (false, Some(condition)) => self.code.jump_if(condition, &mut place.jumps),
        }
    }

    /// The register that holds a register of the program; the offset of the stack's end is put
    /// into r11.
    fn read(&mut self, number: u8) -> u8 {
        if number == 10 {
            self.code.constant(R11, STACK);
        }
        register(number)
    }

    fn compare(&mut self, instruction: &Instruction) {
        let (wide, left) = (instruction.is_wide(), self.read(instruction.to));
        let right = instruction.source().map(|source| self.read(source));
        match (instruction.operation(), right) {
            (JSET, Some(right)) => self.code.registers(wide, 0x85, right, left), // test
            (JSET, None) => {
                self.code.registers(wide, 0xf7, 0, left); // test
                self.code.emit(&instruction.immediate.to_le_bytes());
            }
            (_, Some(right)) => self.code.registers(wide, 0x39, right, left), // cmp
            (_, None) => self.code.immediate(wide, group::CMP, left, instruction.immediate),
        }
    }

    fn arithmetic(&mut self, instruction: &Instruction) {
        let (wide, to) = (instruction.is_wide(), register(instruction.to));
        let group = match instruction.operation() {
            MUL => return self.multiply(instruction, to),
            LSH => return self.shift(instruction, 4, to),
            RSH => return self.shift(instruction, 5, to),
            ARSH => return self.shift(instruction, 7, to),
            DIV | MOD => return self.divide(instruction, to),
            NEG => return self.code.registers(wide, 0xf7, 3, to),
            MOV => return self.copy(instruction, to),
            END => return self.convert(instruction, to),
            operation => group_of(operation),
        };
        match instruction.source() {
            Some(source) => {
                let source = self.read(source);
                self.code.registers(wide, u16::from(group) * 8 + 1, source, to);
            }
            None => self.code.immediate(wide, group, to, instruction.immediate),
        }
    }

    fn copy(&mut self, instruction: &Instruction, to: u8) {
        let (wide, immediate) = (instruction.is_wide(), i64::from(instruction.immediate));
        let opcode = match instruction.offset {
            8 => 0x0fbe, // movsx
            16 => 0x0fbf,
            32 => 0x63, // movsxd
            _ => LOAD,
        };
        match instruction.source() {
            Some(10) => self.code.constant(to, STACK),
            Some(source) => self.code.registers(wide, opcode, to, register(source)),
            None if wide => self.code.constant(to, immediate.cast_unsigned()),
            None => self.code.constant(to, immediate.cast_unsigned() & u64::from(u32::MAX)),
        }
    }

    /// Changes of byte order: little-endian ones only cut off the upper bits.
    fn convert(&mut self, instruction: &Instruction, to: u8) {
        let little = instruction.class() == class::NARROW && instruction.code & 8 == 0;
        match (instruction.immediate, little) {
            (16, little) => {
                if !little {
                    self.code.emit(&[0x66]);
                    self.code.registers(false, 0xc1, 0, to); // rol
                    self.code.emit(&[8]);
                }
                self.code.registers(false, 0x0fb7, to, to); // movzx
            }
            (32, true) => self.code.registers(false, LOAD, to, to),
            (_, true) => (),
            (bits, false) => {
                let wide = u8::from(bits == 64) << 3;
                self.code.emit(&[0x40 | wide | to >> 3, 0x0f, 0xc8 | to & 7]); // bswap
            }
        }
    }

    fn multiply(&mut self, instruction: &Instruction, to: u8) {
        let wide = instruction.is_wide();
        match instruction.source() {
            Some(source) => self.code.registers(wide, 0x0faf, to, register(source)), // imul
            None => {
                self.code.registers(wide, 0x69, to, to); // imul
                self.code.emit(&instruction.immediate.to_le_bytes());
            }
        }
    }

    /// The processor looks at as many bits of the count as the RFC says.
    fn shift(&mut self, instruction: &Instruction, field: u8, to: u8) {
        let wide = instruction.is_wide();
        match instruction.source() {
            Some(source) => {
                self.code.registers(false, LOAD, RCX, register(source));
                self.code.registers(wide, 0xd3, field, to);
            }
            None => {
                self.code.registers(wide, 0xc1, field, to);
                self.code.emit(&[instruction.immediate as u8]);
            }
        }
    }

    /// Division, whose operands the processor wants in rdx and rax. What makes the processor fault is
    /// done without it: division by zero, and the one quotient that overflows.
    fn divide(&mut self, instruction: &Instruction, to: u8) {
        let (wide, signed) = (instruction.is_wide(), instruction.offset == 1);
        let remainder = instruction.operation() == MOD;
        let (mut zero, mut minus, mut end) = (Label::new(), Label::new(), Label::new());
        let code = &mut self.code;
        match instruction.source() {
            Some(source) => code.registers(wide, LOAD, RCX, register(source)),
            None => code.constant(RCX, i64::from(instruction.immediate).cast_unsigned()),
        }
        code.registers(wide, 0x85, RCX, RCX); // test
        code.jump_if(Condition::Equal, &mut zero);
        if signed {
            code.immediate(wide, group::CMP, RCX, -1);
            code.jump_if(Condition::Equal, &mut minus);
        }
        code.registers(true, LOAD, R11, RDX);
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
        code.registers(true, LOAD, RDX, R11);
        code.registers(true, LOAD, to, RCX);
        code.jump(&mut end);
        code.bind(minus);
        if remainder {
            // What every number leaves when it is divided by -1.
            code.constant(to, 0);
        } else {
            code.registers(wide, 0xf7, 3, to); // neg
        }
        code.jump(&mut end);
        code.bind(zero);
        if remainder {
            code.registers(wide, LOAD, to, to);
        } else {
            code.constant(to, 0);
        }
        code.bind(end);
    }

    /// The operand of an access, behind its guard if it needs one.
    fn operand(&mut self, at: usize, instruction: &Instruction, base: u8, note: &Note) -> Memory {
        let (region, size) = (note.region, instruction.size());
        let places = Memory::at(RBP, Activation::places_of(region, size));
        let held = Memory::at(RBP, Activation::start_of(region));
        let start = match region {
            STACK_REGION => RSP,
            0 => R10,
            _ => RCX,
        };
        if let Some(place) = note.fixed {
            if note.guarded {
                self.code.memory(true, 0x81, group::CMP, places);
                self.code.emit(&place.to_le_bytes());
                self.trap_if(Condition::BelowEqual, at);
            }
            if start == RCX {
                self.code.memory(true, LOAD, RCX, held);
            }
            return Memory::at(start, place.cast_signed());
        }
        let (base, displacement) = (register(base), instruction.offset.into());
        if !note.guarded && !instruction.is_atomic() {
            if start == RCX {
                self.code.memory(true, LOAD, RCX, held);
            }
            return Memory { base: start, index: Some(base), displacement };
        }
        self.code.memory(true, 0x8d, RCX, Memory::at(base, displacement)); // lea
        if note.guarded {
            if region == STACK_REGION {
                let places = STACK as i32 - size.cast_signed() + 1;
                self.code.immediate(true, group::CMP, RCX, places);
            } else {
                self.code.memory(true, 0x3b, RCX, places); // cmp
            }
            self.trap_if(Condition::AboveEqual, at);
        }
        if instruction.is_atomic() {
            self.code.registers(false, 0xf7, 0, RCX); // test
            self.code.emit(&(size - 1).to_le_bytes());
            self.trap_if(Condition::NotEqual, at);
        }
        if start == RCX {
            self.code.memory(true, 0x03, RCX, held); // add
            return Memory::at(RCX, 0);
        }
        Memory { base: start, index: Some(RCX), displacement: 0 }
    }

    fn store(&mut self, instruction: &Instruction, memory: Memory) {
        let (size, source) = (instruction.size(), instruction.source());
        let source = source.map(|source| self.read(source));
        if size == 2 {
            self.code.emit(&[0x66]);
        }
        if let Some(source) = source {
            return self.code.memory(
                size == 8,
                if size == 1 { 0x88 } else { STORE },
                source,
                memory,
            );
        }
        let bytes = instruction.immediate.to_le_bytes();
        self.code.memory(size == 8, if size == 1 { 0xc6 } else { 0xc7 }, 0, memory);
        self.code.emit(bytes.get(..size as usize).unwrap_or(&bytes));
    }

    fn atomic(&mut self, at: usize, instruction: &Instruction, memory: Memory) {
        let (wide, operand) = (instruction.size() == 8, register(instruction.from));
        let opcode = match instruction.immediate {
            0x01 => 0x0fc1, // xadd
            0xe1 => 0x87,   // xchg
            0xf1 => 0x0fb1, // cmpxchg
            0x41 | 0x51 | 0xa1 => return self.fetch(at, instruction, memory),
            operation => u16::from(group_of(operation as u8 >> 4)) * 8 + 1,
        };
        self.code.emit(&[0xf0]); // lock
        self.code.memory(wide, opcode, operand, memory);
        if opcode == 0x0fb1 && !wide {
            // Where it exchanged, the processor has not written eax.
            self.code.registers(false, LOAD, RAX, RAX);
        }
    }

    /// A bitwise operation that returns the old value, for which the processor has no instruction:
    /// tried until nobody else has changed the place meanwhile. Each further try burns fuel.
    fn fetch(&mut self, at: usize, instruction: &Instruction, memory: Memory) {
        let (wide, place) = (instruction.size() == 8, Memory::at(RCX, 0));
        let (operand, group) =
            (register(instruction.from), group_of(instruction.immediate as u8 >> 4));
        let (mut exchanged, mut again) = (Label::new(), Label::new());
        let code = &mut self.code;
        code.memory(true, 0x8d, RCX, memory); // lea
        code.push(RAX);
        code.push(operand);
        code.memory(wide, LOAD, RAX, place);
        let retry = code.position();
        code.registers(true, LOAD, R11, RAX);
        code.memory(wide, u16::from(group) * 8 + 3, R11, Memory::at(RSP, 0));
        code.emit(&[0xf0]); // lock
        code.memory(wide, 0x0fb1, R11, place); // cmpxchg
        code.jump_if(Condition::Equal, &mut exchanged);
        code.immediate(true, group::SUB, R12, 1);
        code.jump_if(Condition::AboveEqual, &mut again);
        code.immediate(true, group::ADD, RSP, 16);
        code.constant(RDX, status(at, Fault::Spent));
        code.jump(&mut self.trapped);
        code.bind(again);
        code.jump_back(retry);
        code.bind(exchanged);
        code.registers(true, LOAD, operand, RAX);
        code.pop(RCX);
        // The old register 0, unless the result is there.
        code.pop(if operand == RAX { RCX } else { RAX });
    }

    /// Calls a function of the program. It gets its frame here, since others may jump into it.
    fn call(&mut self, at: usize, instruction: &Instruction) {
        let (mut fits, mut enter, mut back) = (Label::new(), Label::new(), Label::new());
        let code = &mut self.code;
        code.memory(true, 0x3b, RSP, Memory::at(RBP, Activation::DEEPEST)); // cmp
        code.jump_if(Condition::AboveEqual, &mut fits);
        code.constant(RDX, status(at, Fault::TooDeep));
        code.jump(&mut self.trapped);
        code.bind(fits);
        KEPT.into_iter().for_each(|register| code.push(register));
        code.call(&mut enter);
        code.jump(&mut back);
        code.bind(enter);
        code.immediate(true, group::SUB, RSP, FRAME);
        self.jump(at, instruction, None);
        self.code.bind(back);
        KEPT.into_iter().rev().for_each(|register| self.code.pop(register));
    }
}

/// The register that holds a register of the program; r11 for the stack's end.
fn register(number: u8) -> u8 {
    REGISTERS.get(usize::from(number)).copied().unwrap_or(R11)
}

/// The processor's number of an operation that it has in group 1.
fn group_of(operation: u8) -> u8 {
    match operation {
        SUB => group::SUB,
        OR => group::OR,
        AND => group::AND,
        XOR => group::XOR,
        _ => group::ADD,
    }
}

fn condition(test: u8) -> Condition {
    match test {
        JEQ => Condition::Equal,
        JGT => Condition::Above,
        JGE => Condition::AboveEqual,
        JLT => Condition::Below,
        JLE => Condition::BelowEqual,
        JSGT => Condition::Greater,
        JSGE => Condition::GreaterEqual,
        JSLT => Condition::Less,
        JSLE => Condition::LessEqual,
        _ => Condition::NotEqual, // JNE, JSET
    }
}
