//! The few instructions that filters need, encoded by hand (Intel SDM, volume 2).
//!
//! | register | holds |
//! |---|---|
//! | rdi, rsi, rdx | address and length of the packet, the table; never changed |
//! | rax, rcx | the value under test, what is computed from it, the result |
//! | r8 to r11 | the base behind the first to the fourth shift, in bytes from rdi |
//!
//! A look-up in the table wants four more: those of r8 to r11 that hold no base in this set, then
//! rbx, rbp, r12, r13, which are saved.

use super::CompileError;
use super::code::{Code, Condition, Label};
use crate::atom::{Atom, Width};
use crate::filter::{MAX_SHIFTS, Words};
use crate::set::FilterSet;
use crate::table::{ID, Line, Table, layout};

/// The instructions of filters, one method each.
pub(crate) struct Assembler<'b> {
    code: Code<'b>,
    /// The registers for look-ups.
    scratch: [u8; 4],
    /// Whether those of them are saved that have to be.
    saves: bool,
    done: Label,
}

/// A place in memory: base, index with the number of bits it is shifted, displacement.
#[derive(Clone, Copy)]
struct Place {
    base: u8,
    index: Option<(u8, u8)>,
    at: u32,
}

/// The operations of opcode group 1, as they stand in its second byte.
const ADD: u8 = 0;
const ADC: u8 = 2;
const AND: u8 = 4;
const CMP: u8 = 7;
/// Whether an instruction works on 64 bits.
const WIDE: bool = true;
const NARROW: bool = false;

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RSI: u8 = 6;
const RDI: u8 = 7;
/// Those of r8 to r11 from the last to the first, then those that are saved.
const SCRATCH: [u8; 8] = [11, 10, 9, 8, 3, 5, 12, 13];

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

    pub(crate) fn position(&self) -> usize {
        self.code.position()
    }

    /// Saves what look-ups change, if there are any.
    pub(crate) fn prologue(&mut self, look_ups: bool) {
        self.saves = look_ups;
        for register in self.scratch {
            if self.is_saved(register) {
                self.push_or_pop(0x50, register);
            }
        }
    }

    /// Nothing matched: returns zero. Then what [`Assembler::accept`] jumps to. The length.
    pub(crate) fn epilogue(mut self) -> Result<usize, CompileError> {
        self.emit(&[0x31, 0xc0]); // xor eax, eax
        let done = core::mem::take(&mut self.done);
        self.bind(done);
        self.leave();
        self.code.finish()
    }

    /// Returns this filter.
    pub(crate) fn accept(&mut self, id: u32) {
        self.emit(&[0xb8]); // mov eax, id + 1
        self.emit(&(id + 1).to_le_bytes());
        self.finish();
    }

    /// Jumps to `short` unless `base + reach <= length`. The sum cannot wrap: a base is at most
    /// four shifts of 15 bits.
    pub(crate) fn check_length(&mut self, level: u8, reach: u32, short: &mut Label) {
        if level == 0 {
            self.immediate(WIDE, CMP, RSI, reach);
            self.jump_if(Condition::Below, short);
        } else {
            let end = Place { base: base_register(level), index: None, at: reach };
            self.memory(WIDE, &[0x8d], RCX, end); // lea rcx, [base + reach]
            self.registers(WIDE, 0x39, RSI, RCX); // cmp rcx, rsi
            self.jump_if(Condition::Above, short);
        }
    }

    /// Jumps to `other` unless a compare holds.
    pub(crate) fn test(&mut self, level: u8, atom: &Atom, other: &mut Label) {
        let Atom::Compare { .. } = *atom else { return };
        let key = atom.key();
        if !self.load_masked(RAX, level, atom) || key != 0 {
            self.immediate(NARROW, CMP, RAX, key);
        }
        self.jump_if(Condition::NotEqual, other);
    }

    /// Returns this filter if a compare holds, and nothing if it does not.
    pub(crate) fn accept_if(&mut self, level: u8, atom: &Atom, id: u32) {
        self.load_masked(RCX, level, atom);
        self.registers(NARROW, 0x31, RAX, RAX); // xor eax, eax
        self.immediate(NARROW, CMP, RCX, atom.key());
        self.emit(&[0x0f, 0x94, 0xc0]); // sete al
        self.emit(&[0x69, 0xc0]); // imul eax, eax, id + 1
        self.emit(&(id + 1).to_le_bytes());
        self.finish();
    }

    /// Computes the base of the next level.
    pub(crate) fn shift_base(&mut self, level: u8, offset: u16, mask: u8, shift: u8) {
        let next = base_register(level + 1);
        self.load(next, level, offset, Width::One);
        if mask != 0xff {
            self.immediate(NARROW, AND, next, u32::from(mask));
        }
        if shift != 0 {
            self.registers(NARROW, 0xc1, 4, next); // shl next, shift
            self.emit(&[shift]);
        }
        if level != 0 {
            self.registers(WIDE, 0x01, base_register(level), next); // add next, base
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
        let next_bucket = self.position();
        // found = the highest bit of each lane with the tag, and that of the word if it was passed.
        let bucket = Place { base: RDX, index: Some((RCX, 3)), at: layout::HEADERS };
        self.registers(WIDE, 0x89, RAX, found); // mov found, rax
        self.memory(WIDE, &[0x33], found, bucket); // xor found, [bucket]
        self.memory(WIDE, &[0x03], found, constant(layout::FILL)); // add found, [fill]
        self.registers(WIDE, 0xf7, 2, found); // not found
        self.memory(WIDE, &[0x23], found, constant(layout::HIGHS)); // and found, [highs]
        self.jump_if(Condition::Equal, none);
        let next_slot = self.position();
        let mut passed = Label::new();
        self.address_slot(found, slot, word, &mut passed);
        let (mut other, at) = (Label::new(), table.slots_offset());
        let own = |byte: u32| Place { base: slot, index: None, at: at + byte };
        self.memory(WIDE, &[0x8b], head, own(0)); // mov head, [slot]
        self.memory(NARROW, &[0x80], CMP, own(3)); // cmp byte [slot + 3], shape
        self.emit(&[shape]);
        self.jump_if(Condition::NotEqual, &mut other);
        for (level, place, atom) in open {
            self.load_masked(word, level, &atom);
            self.memory(NARROW, &[0x3b], word, own(8 + 4 * place as u32)); // cmp word, [slot]
            self.jump_if(Condition::NotEqual, &mut other);
        }
        self.memory(WIDE, &[0x3b], head, own(0)); // cmp head, [slot]
        self.jump_if(Condition::NotEqual, &mut other);
        self.registers(NARROW, 0x89, head, RAX); // mov eax, head
        self.immediate(NARROW, AND, RAX, ID);
        self.immediate(NARROW, ADD, RAX, 1);
        self.finish();
        self.bind(other);
        let below = Place { base: found, index: None, at: 1u32.wrapping_neg() };
        self.memory(WIDE, &[0x8d], word, below); // lea word, [found - 1]
        self.registers(WIDE, 0x21, word, found); // and found, word
        self.code.jump_back(Some(Condition::NotEqual), next_slot);
        self.code.jump(none);
        self.bind(passed);
        self.immediate(WIDE, ADD, RCX, 1);
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
        self.emit(&[0x48, 0xb8]); // mov rax, seed
        self.emit(&seed.to_le_bytes());
        for (level, place, atom) in open {
            self.load_masked(RCX, level, &atom);
            self.memory(WIDE, &[0x0f, 0xaf], RCX, constant(8 * place as u32)); // imul rcx, [key]
            self.registers(WIDE, 0x01, RCX, RAX); // add rax, rcx
        }
        self.registers(WIDE, 0xc1, 5, RAX); // shr rax, 32
        self.emit(&[32]);
        self.registers(NARROW, 0x89, RAX, RCX); // mov ecx, eax
        self.memory(WIDE, &[0x0f, 0xaf], RCX, constant(layout::HOMES)); // imul rcx, [homes]
        self.registers(WIDE, 0xc1, 5, RCX); // shr rcx, 32
        self.emit(&[32]);
        self.immediate(NARROW, AND, RAX, layout::TAG);
        self.immediate(NARROW, CMP, RAX, 1);
        self.immediate(NARROW, ADC, RAX, 0);
        self.memory(WIDE, &[0x0f, 0xaf], RAX, constant(layout::LANES)); // imul rax, [lanes]
    }

    /// slot = rdx + 64 * (5 * bucket + the number of the lowest lane found); behind the last, passed.
    fn address_slot(&mut self, found: u8, slot: u8, word: u8, passed: &mut Label) {
        self.prefix(WIDE, slot, 0, found);
        self.emit(&[0x0f, 0xbc, 0xc0 | (slot & 7) << 3 | found & 7]); // bsf slot, found
        self.registers(NARROW, 0x6b, slot, slot); // imul slot, slot, step
        self.emit(&[layout::STEP]);
        self.registers(NARROW, 0xc1, 5, slot); // shr slot, shift
        self.emit(&[layout::SHIFT]);
        self.immediate(NARROW, CMP, slot, layout::WAYS);
        self.jump_if(Condition::Equal, passed);
        let five = Place { base: RCX, index: Some((RCX, 2)), at: 0 };
        self.memory(WIDE, &[0x8d], word, five); // lea word, [5 * rcx]
        self.registers(WIDE, 0x01, word, slot); // add slot, word
        self.registers(WIDE, 0xc1, 4, slot); // shl slot, 6
        self.emit(&[Line::BYTES.trailing_zeros() as u8]);
        self.registers(WIDE, 0x01, RDX, slot); // add slot, rdx
    }

    /// The label is here: completes all jumps to it.
    pub(crate) fn bind(&mut self, label: Label) {
        self.code.bind(label);
    }

    /// Goes to where the result is returned, or returns it at once.
    fn finish(&mut self) {
        if !self.scratch.into_iter().any(|register| self.is_saved(register)) {
            return self.leave();
        }
        let mut done = core::mem::take(&mut self.done);
        self.code.jump(&mut done);
        self.done = done;
    }

    fn leave(&mut self) {
        for register in self.scratch.into_iter().rev() {
            if self.is_saved(register) {
                self.push_or_pop(0x58, register);
            }
        }
        self.emit(&[0xc3]); // ret
    }

    fn is_saved(&self, register: u8) -> bool {
        self.saves && !(8..12).contains(&register)
    }

    fn jump_if(&mut self, condition: Condition, to: &mut Label) {
        self.code.jump_if(condition, to);
    }

    /// What a compare looks at; whether that was masked, which sets the zero flag.
    fn load_masked(&mut self, register: u8, level: u8, atom: &Atom) -> bool {
        let Atom::Compare { offset, width, mask, .. } = *atom else { return false };
        self.load(register, level, offset, width);
        if mask != width.full_mask() {
            self.immediate(NARROW, AND, register, width.memory_order(mask));
        }
        mask != width.full_mask()
    }

    /// A zero-extending load from `[rdi + base + offset]`.
    fn load(&mut self, register: u8, level: u8, offset: u16, width: Width) {
        let opcode: &[u8] = match width {
            Width::One => &[0x0f, 0xb6], // movzx r32, byte
            Width::Two => &[0x0f, 0xb7], // movzx r32, word
            Width::Four => &[0x8b],      // mov r32, dword
        };
        let index = (level != 0).then(|| (base_register(level), 0));
        self.memory(NARROW, opcode, register, Place { base: RDI, index, at: u32::from(offset) });
    }

    /// An instruction with a register, or a part of its opcode, and a place in memory.
    fn memory(&mut self, wide: bool, opcode: &[u8], register: u8, place: Place) {
        let Place { base, index, at } = place;
        let (index, scale) = index.unwrap_or((4, 0));
        self.prefix(wide, register, index, base);
        self.emit(opcode);
        let short = i8::try_from(at.cast_signed()).ok();
        let form = if short.is_some() { 0x40 } else { 0x80 } | (register & 7) << 3;
        if index == 4 && base & 7 != 4 {
            self.emit(&[form | base & 7]);
        } else {
            self.emit(&[form | 4, scale << 6 | (index & 7) << 3 | base & 7]);
        }
        match short {
            Some(short) => self.emit(&short.to_le_bytes()),
            None => self.emit(&at.to_le_bytes()),
        }
    }

    /// An instruction with a register, or a part of its opcode, and a second register.
    fn registers(&mut self, wide: bool, opcode: u8, register: u8, second: u8) {
        self.prefix(wide, register, 0, second);
        self.emit(&[opcode, 0xc0 | (register & 7) << 3 | second & 7]);
    }

    /// An arithmetic instruction of opcode group 1 on a register and an immediate, in its short
    /// form where sign extension gives the same operand.
    fn immediate(&mut self, wide: bool, operation: u8, register: u8, value: u32) {
        match i8::try_from(value.cast_signed()) {
            Ok(short) => {
                self.registers(wide, 0x83, operation, register);
                self.emit(&short.to_le_bytes());
            }
            Err(_) => {
                self.registers(wide, 0x81, operation, register);
                self.emit(&value.to_le_bytes());
            }
        }
    }

    fn push_or_pop(&mut self, opcode: u8, register: u8) {
        self.prefix(NARROW, 0, 0, register);
        self.emit(&[opcode | register & 7]);
    }

    /// The prefix that widens operands and the numbers of registers, where there is a need for it.
    fn prefix(&mut self, wide: bool, register: u8, index: u8, base: u8) {
        let bits = u8::from(wide) << 3 | (register >> 3) << 2 | (index >> 3) << 1 | base >> 3;
        if bits != 0 {
            self.emit(&[0x40 | bits]);
        }
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.code.emit(bytes);
    }
}

/// The number of the register that holds the base at a level from 1 to 4: r8 to r11.
fn base_register(level: u8) -> u8 {
    7 + level
}

fn constant(at: u32) -> Place {
    Place { base: RDX, index: None, at }
}
