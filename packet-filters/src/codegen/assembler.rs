//! The few steps that filters need, as instructions.
//!
//! | register | holds |
//! |---|---|
//! | rdi, rsi, rdx | address and length of the packet, the table; never changed |
//! | rax, rcx | the value under test, what is computed from it, the result |
//! | r8 to r11 | the base behind the first to the fourth shift, in bytes from rdi |
//!
//! A look-up in the table wants four more: those of r8 to r11 that hold no base in this set, then
//! rbx, rbp, r12, r13, which are saved.

use super::BufferTooSmall;
use super::code::{Code, Condition, Label};
use super::encoding::*;
use crate::atom::{Atom, Width};
use crate::filter::{MAX_SHIFTS, Words};
use crate::set::FilterSet;
use crate::table::{ID, Line, Table, layout};

/// The steps of filters, one method each.
pub(crate) struct Assembler<'b> {
    pub(crate) code: Code<'b>,
    /// The registers for look-ups.
    scratch: [u8; 4],
    /// Whether those of them are saved that have to be.
    saves: bool,
    done: Label,
}

/// Operations of a register with a register or memory.
const ADD: u16 = 0x03;
const AND: u16 = 0x23;
const XOR: u16 = 0x33;
const COMPARE: u16 = 0x3b;

/// Those of r8 to r11 from the last to the first, then those that are saved.
const SCRATCH: [u8; 8] = [R11, R10, R9, R8, RBX, RBP, R12, R13];

impl<'b> Assembler<'b> {
    pub(crate) fn new(buffer: &'b mut [u8], set: &FilterSet<'_>) -> Self {
        let shifts =
            |atoms: &[Atom]| atoms.iter().filter(|a| matches!(a, Atom::Shift { .. })).count();
        let bases = set.order().map(|(_, shape)| shifts(shape.sample.atoms())).max().unwrap_or(0);
        let (free, kept) = SCRATCH.split_at(MAX_SHIFTS);
        let mut registers = free.iter().take(MAX_SHIFTS - bases.min(MAX_SHIFTS)).chain(kept);
        let scratch = core::array::from_fn(|_| registers.next().copied().unwrap_or(RAX));
        Assembler { code: Code::new(buffer), scratch, saves: false, done: Label::new() }
    }

    /// Saves what look-ups change, if there are any.
    pub(crate) fn prologue(&mut self, look_ups: bool) {
        self.saves = look_ups;
        for register in self.scratch {
            if self.is_saved(register) {
                self.code.push(register);
            }
        }
    }

    /// Nothing matched: returns zero. Then what [`Assembler::accept`] jumps to. The length.
    pub(crate) fn epilogue(mut self) -> Result<usize, BufferTooSmall> {
        self.code.constant(RAX, 0);
        let done = core::mem::take(&mut self.done);
        self.code.bind(done);
        self.leave();
        self.code.finish()
    }

    /// Returns this filter.
    pub(crate) fn accept(&mut self, id: u32) {
        self.code.constant(RAX, u64::from(id) + 1);
        self.finish();
    }

    /// Jumps to `short` unless `base + reach <= length`. The sum cannot wrap: a base is at most
    /// four shifts of 15 bits.
    pub(crate) fn check_length(&mut self, level: u8, reach: u32, short: &mut Label) {
        if level == 0 {
            self.code.immediate(WIDE, group::CMP, RSI, reach.cast_signed());
            self.code.jump(Condition::Below, short);
        } else {
            let end = Memory::at(base_register(level), reach.cast_signed());
            self.code.memory(WIDE, ADDRESS, RCX, end); // lea rcx, [base + reach]
            self.code.registers(WIDE, COMPARE, RCX, RSI);
            self.code.jump(Condition::Above, short);
        }
    }

    /// Jumps to `other` unless a compare holds.
    pub(crate) fn test(&mut self, level: u8, atom: &Atom, other: &mut Label) {
        let Atom::Compare { .. } = *atom else { return };
        let key = atom.key();
        if !self.load_masked(RAX, level, atom) || key != 0 {
            self.code.immediate(NARROW, group::CMP, RAX, key.cast_signed());
        }
        self.code.jump(Condition::NotEqual, other);
    }

    /// Returns this filter if a compare holds, and nothing if it does not.
    pub(crate) fn accept_if(&mut self, level: u8, atom: &Atom, id: u32) {
        self.load_masked(RCX, level, atom);
        self.code.constant(RAX, 0);
        self.code.immediate(NARROW, group::CMP, RCX, atom.key().cast_signed());
        self.code.registers(NARROW, 0x0f94, 0, RAX); // sete al
        self.code.registers(NARROW, 0x69, RAX, RAX); // imul eax, eax, id + 1
        self.code.emit(&(id + 1).to_le_bytes());
        self.finish();
    }

    /// Computes the base of the next level.
    pub(crate) fn shift_base(&mut self, level: u8, offset: u16, mask: u8, shift: u8) {
        let next = base_register(level + 1);
        self.load(next, level, offset, Width::One);
        if mask != 0xff {
            self.code.immediate(NARROW, group::AND, next, mask.into());
        }
        if shift != 0 {
            self.code.shift(NARROW, shift::LEFT, next, shift);
        }
        if level != 0 {
            self.code.registers(WIDE, ADD, next, base_register(level));
        }
    }

    /// Looks the filters of a shape up by the atoms that are open; the others hold. Jumps to `none`
    /// if there is none.
    pub(crate) fn look_up(
        &mut self,
        table: &Table<'_>,
        shape: u8,
        words: &Words,
        open: impl Iterator<Item = (u8, usize, Atom)> + Clone,
        none: &mut Label,
    ) {
        let [found, slot, head, word] = self.scratch;
        self.hash(table, shape, words, open.clone());
        let next_bucket = self.code.position();
        // found = the highest bit of each lane with the tag, and that of the word if it was passed.
        let headers = layout::HEADERS.cast_signed();
        let bucket = Memory { base: RDX, index: Some((RCX, 3)), displacement: headers };
        self.code.registers(WIDE, LOAD, found, RAX);
        self.code.memory(WIDE, XOR, found, bucket);
        self.code.memory(WIDE, ADD, found, constant(layout::FILL));
        self.code.registers(WIDE, 0xf7, 2, found); // not found
        self.code.memory(WIDE, AND, found, constant(layout::HIGHS));
        self.code.jump(Condition::Equal, none);
        let next_slot = self.code.position();
        let mut passed = Label::new();
        self.address_slot(found, slot, word, &mut passed);
        let (mut other, at) = (Label::new(), table.slots_offset());
        let own = |byte: u32| Memory::at(slot, (at + byte).cast_signed());
        self.code.memory(WIDE, LOAD, head, own(0));
        self.code.memory(NARROW, 0x80, group::CMP, own(3)); // cmp byte [slot + 3], shape
        self.code.emit(&[shape]);
        self.code.jump(Condition::NotEqual, &mut other);
        for (level, place, atom) in open {
            self.load_masked(word, level, &atom);
            self.code.memory(NARROW, COMPARE, word, own(8 + 4 * place as u32));
            self.code.jump(Condition::NotEqual, &mut other);
        }
        self.code.memory(WIDE, COMPARE, head, own(0));
        self.code.jump(Condition::NotEqual, &mut other);
        self.code.registers(NARROW, LOAD, RAX, head);
        self.code.immediate(NARROW, group::AND, RAX, ID.cast_signed());
        self.code.immediate(NARROW, group::ADD, RAX, 1);
        self.finish();
        self.code.bind(other);
        self.code.memory(WIDE, ADDRESS, word, Memory::at(found, -1)); // lea word, [found - 1]
        self.code.registers(WIDE, AND, found, word);
        self.code.jump_back(Condition::NotEqual, next_slot);
        self.code.jump(None, none);
        self.code.bind(passed);
        self.code.immediate(WIDE, group::ADD, RCX, 1);
        self.code.jump_back(None, next_bucket);
    }

    /// rcx = the first bucket, rax = the tag in each lane.
    fn hash(
        &mut self,
        table: &Table<'_>,
        shape: u8,
        words: &Words,
        open: impl Iterator<Item = (u8, usize, Atom)> + Clone,
    ) {
        let mut seed = table.seed(shape);
        for (place, word) in words.iter().enumerate() {
            if !open.clone().any(|(_, other, _)| other == place) {
                seed = seed.wrapping_add(table.term(place, *word));
            }
        }
        self.code.constant(RAX, seed);
        for (level, place, atom) in open {
            self.load_masked(RCX, level, &atom);
            self.code.memory(WIDE, MULTIPLY, RCX, constant(8 * place as u32));
            self.code.registers(WIDE, ADD, RAX, RCX);
        }
        self.code.registers(WIDE, MULTIPLY, RAX, RAX);
        self.code.shift(WIDE, shift::RIGHT, RAX, 32);
        self.code.registers(NARROW, LOAD, RCX, RAX);
        self.code.memory(WIDE, MULTIPLY, RCX, constant(layout::HOMES));
        self.code.shift(WIDE, shift::RIGHT, RCX, 32);
        self.code.immediate(NARROW, group::AND, RAX, layout::TAG.cast_signed());
        self.code.immediate(NARROW, group::CMP, RAX, 1);
        self.code.immediate(NARROW, group::ADC, RAX, 0);
        self.code.memory(WIDE, MULTIPLY, RAX, constant(layout::LANES));
    }

    /// slot = rdx + 64 * (5 * bucket + the number of the lowest lane found); behind the last, passed.
    fn address_slot(&mut self, found: u8, slot: u8, word: u8, passed: &mut Label) {
        self.code.registers(WIDE, 0x0fbc, slot, found); // bsf
        self.code.registers(NARROW, 0x6b, slot, slot); // imul slot, slot, step
        self.code.emit(&[layout::STEP]);
        self.code.shift(NARROW, shift::RIGHT, slot, layout::SHIFT);
        self.code.immediate(NARROW, group::CMP, slot, layout::WAYS.cast_signed());
        self.code.jump(Condition::Equal, passed);
        let five = Memory { base: RCX, index: Some((RCX, 2)), displacement: 0 };
        self.code.memory(WIDE, ADDRESS, word, five); // lea word, [5 * rcx]
        self.code.registers(WIDE, ADD, slot, word);
        self.code.shift(WIDE, shift::LEFT, slot, Line::BYTES.trailing_zeros() as u8);
        self.code.registers(WIDE, ADD, slot, RDX);
    }

    /// Goes to where the result is returned, or returns it at once.
    fn finish(&mut self) {
        if !self.scratch.into_iter().any(|register| self.is_saved(register)) {
            return self.leave();
        }
        let mut done = core::mem::take(&mut self.done);
        self.code.jump(None, &mut done);
        self.done = done;
    }

    fn leave(&mut self) {
        for register in self.scratch.into_iter().rev() {
            if self.is_saved(register) {
                self.code.pop(register);
            }
        }
        self.code.emit(&[0xc3]); // ret
    }

    fn is_saved(&self, register: u8) -> bool {
        self.saves && !(R8..=R11).contains(&register)
    }

    /// What a compare looks at; whether that was masked, which sets the zero flag.
    fn load_masked(&mut self, register: u8, level: u8, atom: &Atom) -> bool {
        let Atom::Compare { offset, width, mask, .. } = *atom else { return false };
        self.load(register, level, offset, width);
        if mask != width.full_mask() {
            let mask = width.memory_order(mask).cast_signed();
            self.code.immediate(NARROW, group::AND, register, mask);
        }
        mask != width.full_mask()
    }

    /// A zero-extending load from `[rdi + base + offset]`.
    fn load(&mut self, register: u8, level: u8, offset: u16, width: Width) {
        let opcode = match width {
            Width::One => 0x0fb6, // movzx r32, byte
            Width::Two => 0x0fb7, // movzx r32, word
            Width::Four => LOAD,
        };
        let index = (level != 0).then(|| (base_register(level), 0));
        let place = Memory { base: RDI, index, displacement: offset.into() };
        self.code.memory(NARROW, opcode, register, place);
    }
}

/// The number of the register that holds the base at a level from 1 to 4: r8 to r11.
fn base_register(level: u8) -> u8 {
    7 + level
}

fn constant(at: u32) -> Memory {
    Memory::at(RDX, at.cast_signed())
}
