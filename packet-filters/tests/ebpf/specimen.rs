//! Programs made of random bytes: mostly such as the verifier accepts, with everything that they
//! can do.

use packet_filters::ebpf::{Argument, Profile, Region};

use crate::machine::{HELPERS, Memory, Regions};

/// A region that can be read, one that can be written, one that grows.
pub(crate) const REGIONS: [Region; 3] = [
    Region { minimum: 0, maximum: 64, writable: false },
    Region { minimum: 64, maximum: 64, writable: true },
    Region { minimum: 8, maximum: 64, writable: true },
];

pub(crate) const PROFILE: Profile<'static> = Profile {
    arguments: [
        Argument::Pointer(0),
        Argument::Length(0),
        Argument::Pointer(1),
        Argument::Number,
        Argument::Pointer(2),
    ],
    regions: &REGIONS,
    helpers: &HELPERS,
    loops: true,
};

/// Regions for the profile; the first has a length that the bytes choose.
pub(crate) fn regions(bytes: &[u8]) -> Regions {
    let mut entropy = Entropy(bytes);
    let length = usize::from(entropy.byte() % 65);
    let packet: Vec<u8> = (0..length).map(|_| entropy.byte()).collect();
    let state: Vec<u8> = (0..64).map(|_| entropy.byte()).collect();
    let grown: Vec<u8> = (0..8 + entropy.byte() % 8).map(|_| entropy.byte()).collect();
    Regions(vec![Memory::new(&packet, 64), Memory::new(&state, 64), Memory::new(&grown, 64)])
}

/// Random choices; zeros when the bytes are used up.
pub(crate) struct Entropy<'a>(pub(crate) &'a [u8]);

impl Entropy<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// A constant: small, at a border, or anything.
    fn immediate(&mut self) -> i32 {
        match self.byte() % 4 {
            0 => i32::from(self.byte()),
            1 => self.choose(&[0, 1, -1, i32::MIN, i32::MAX, 31, 32, 63, 64, 0x8000]),
            2 => -i32::from(self.byte()),
            _ => i32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
        }
    }
}

/// Slots that stay together; where the first of them jumps to, as an index of such items.
struct Item {
    slots: Vec<[u8; 8]>,
    target: Option<usize>,
}

/// Registers that hold numbers, pointers into regions 0, 1, 2, and the stack.
const NUMBERS: [u8; 6] = [0, 1, 2, 3, 4, 9];
const POINTERS: [u8; 4] = [6, 7, 8, 10];

struct Generator<'a> {
    entropy: Entropy<'a>,
    items: Vec<Item>,
    /// The place of the last access, so that others meet its border.
    near: i16,
}

/// A program, from random bytes.
pub(crate) fn program(bytes: &[u8]) -> Vec<u8> {
    let mut generator = Generator { entropy: Entropy(bytes), items: Vec::new(), near: 0 };
    for (to, from) in [(6, 1), (7, 3), (8, 5), (9, 2)] {
        generator.push(slot(0xbf, to, from, 0, 0));
    }
    generator.numbers();
    for place in [-8, -16, -24] {
        generator.push(slot(0x7a, 10, 0, place, 77));
    }
    let length = 1 + usize::from(generator.entropy.byte() % 40);
    let (start, end) = (generator.items.len(), generator.items.len() + length);
    while generator.items.len() < end {
        generator.item(start, end);
    }
    generator.push(slot(0x95, 0, 0, 0, 0));
    let mut program = generator.link();
    // Now and then a byte is changed, so that what is refused, and nearly was, is tried as well.
    let mut entropy = generator.entropy;
    if entropy.byte() % 8 == 1 {
        let at = usize::from(entropy.byte()) << 8 | usize::from(entropy.byte());
        let length = program.len();
        program[at % length] ^= 1 << (entropy.byte() % 8);
    }
    program
}

/// Straight and forward-jumping arithmetic over 32 bytes in register 1, none of it out of bounds:
/// for comparison with rbpf.
pub(crate) fn arithmetic_program(bytes: &[u8]) -> Vec<u8> {
    let mut generator = Generator { entropy: Entropy(bytes), items: Vec::new(), near: 0 };
    generator.push(slot(0xbf, 6, 1, 0, 0));
    generator.numbers();
    generator.push(slot(0xb7, 4, 0, 0, 4));
    generator.push(slot(0xb7, 9, 0, 0, 9));
    let end = generator.items.len() + 1 + usize::from(generator.entropy.byte() % 40);
    while generator.items.len() < end {
        match generator.entropy.byte() % 8 {
            0..=3 => generator.arithmetic(),
            4 => generator.branch(end, end),
            5 => {
                let (to, code) = (
                    generator.entropy.choose(&NUMBERS),
                    generator.entropy.choose(&[0x61, 0x69, 0x71, 0x79]),
                );
                let offset = i16::from(generator.entropy.byte() % 25);
                generator.push(slot(code, to, 6, offset, 0));
            }
            6 => {
                let from = generator.entropy.choose(&NUMBERS);
                let offset = i16::from(generator.entropy.byte() % 25);
                generator.push(slot(0x7b, 6, from, offset, 0));
            }
            _ => generator.constant(),
        }
    }
    generator.push(slot(0x95, 0, 0, 0, 0));
    for item in &mut generator.items {
        if wrong_in_rbpf(&item.slots[0]) {
            *item = Item { slots: vec![slot(0xbf, 0, 0, 0, 0)], target: None };
        }
    }
    generator.link()
}

/// What rbpf 0.4.1 does not have (signed division, moves with a sign, `bswap`), refuses (division by
/// the constant zero) or computes wrongly (a 32-bit remainder by zero keeps the upper half; unsigned
/// comparisons don't extend the constant's sign; the negation of the least number panics).
fn wrong_in_rbpf(slot: &[u8; 8]) -> bool {
    let (code, arithmetic) = (slot[0], matches!(slot[0] & 7, 4 | 7));
    let zero = slot[4..] == [0; 4];
    let divides = matches!(code & 0xf0, 0x30 | 0x90);
    let compares = matches!(code, 0x15 | 0x25 | 0x35 | 0x55 | 0xa5 | 0xb5);
    compares && slot[7] >= 0x80
        || arithmetic && (slot[2..4] != [0; 2] || divides && code & 8 == 0 && zero)
        || matches!(code, 0xd7 | 0x94 | 0x9c | 0x87)
}

fn slot(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
    ebpf_tools::assembler::slot(code, to, from, offset, immediate)
}

impl Generator<'_> {
    fn push(&mut self, slot: [u8; 8]) {
        self.items.push(Item { slots: vec![slot], target: None });
    }

    /// Gives the registers for numbers one each.
    fn numbers(&mut self) {
        for register in [0, 1, 2, 3] {
            let value = self.entropy.immediate();
            self.push(slot(0xb7, register, 0, 0, value));
        }
    }

    fn item(&mut self, start: usize, end: usize) {
        match self.entropy.byte() % 16 {
            0..=4 => self.arithmetic(),
            5 | 6 => self.branch(start, end),
            7..=9 => self.load(),
            10 | 11 => self.store(),
            12 => self.move_pointer(),
            13 | 14 => self.call(),
            _ => self.constant(),
        }
    }

    fn arithmetic(&mut self) {
        let (to, from) = (self.entropy.choose(&NUMBERS), self.entropy.choose(&NUMBERS));
        let class = self.entropy.choose(&[4, 7]);
        let operation = self.entropy.byte() % 14;
        let register = self.entropy.byte() % 2 * 8;
        let value = self.entropy.immediate();
        match (operation, register) {
            (0xd, _) => {
                let width = self.entropy.choose(&[16, 32, 64]);
                let swap = if class == 7 { 0 } else { register };
                self.push(slot(0xd0 | class | swap, to, 0, 0, width));
            }
            (0x8, _) => self.push(slot(0x80 | class, to, 0, 0, 0)),
            (_, 0) => {
                let signed = if matches!(operation, 3 | 9) { value & 1 } else { 0 };
                self.push(slot(operation << 4 | class, to, 0, signed as i16, value));
            }
            _ => {
                let offset = match operation {
                    3 | 9 => value as i16 & 1,
                    0xb if class == 7 => self.entropy.choose(&[0, 8, 16, 32]),
                    0xb => self.entropy.choose(&[0, 8, 16]),
                    _ => 0,
                };
                self.push(slot(operation << 4 | class | 8, to, from, offset, 0));
            }
        }
    }

    fn branch(&mut self, start: usize, end: usize) {
        let (to, from) = (self.entropy.choose(&NUMBERS), self.entropy.choose(&NUMBERS));
        let class = self.entropy.choose(&[5, 6]);
        let test = self.entropy.choose(&[1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13]);
        let here = self.items.len();
        let back = self.entropy.byte().is_multiple_of(4);
        let distance = usize::from(self.entropy.byte() % 8);
        let target =
            if back { here.saturating_sub(distance).max(start) } else { here + 1 + distance };
        let slot = if self.entropy.byte().is_multiple_of(2) {
            slot(test << 4 | class | 8, to, from, 0, 0)
        } else {
            slot(test << 4 | class, to, 0, 0, self.entropy.immediate())
        };
        self.items.push(Item { slots: vec![slot], target: Some(target.min(end)) });
    }

    /// A place near or behind a border of what the pointer leads to.
    fn offset(&mut self, base: u8) -> i16 {
        let offset = i16::from(self.entropy.byte() % 72);
        let chosen = match (base, self.entropy.byte() % 8) {
            (10, _) => return -1 - offset % 24,
            (_, 0) => -offset,
            (_, 1..=3) => self.near + offset % 11 - 1,
            _ => offset,
        };
        self.near = chosen;
        chosen
    }

    fn load(&mut self) {
        let (to, base) = (self.entropy.choose(&NUMBERS), self.entropy.choose(&POINTERS));
        let code = self.entropy.choose(&[0x61, 0x69, 0x71, 0x79, 0x81, 0x89, 0x91]);
        let offset = self.offset(base);
        self.push(slot(code, to, base, offset, 0));
    }

    fn store(&mut self) {
        let (base, from) = (self.entropy.choose(&POINTERS[1..]), self.entropy.choose(&NUMBERS));
        let offset = self.offset(base);
        let size = self.entropy.choose(&[0x00, 0x08, 0x10, 0x18]);
        if self.entropy.byte().is_multiple_of(2) {
            self.push(slot(0x63 | size, base, from, offset, 0));
        } else {
            let value = self.entropy.immediate();
            self.push(slot(0x62 | size, base, 0, offset, value));
        }
    }

    /// Moves a pointer by a number, compares it, or keeps it on the stack for a while.
    fn move_pointer(&mut self) {
        let pointer = self.entropy.choose(&POINTERS[..3]);
        let number = self.entropy.choose(&NUMBERS);
        match self.entropy.byte() % 4 {
            0 => {
                self.push(slot(0x57, number, 0, 0, 31));
                self.push(slot(0x0f, pointer, number, 0, 0));
            }
            1 => {
                let value = self.entropy.immediate();
                self.push(slot(0x07, pointer, 0, 0, value));
            }
            2 => {
                self.push(slot(0x7b, 10, pointer, -32, 0));
                self.push(slot(0x79, pointer, 10, -32, 0));
            }
            _ => {
                self.push(slot(0xbf, number, pointer, 0, 0));
                self.push(slot(0x1f, number, pointer, 0, 0));
            }
        }
    }

    fn call(&mut self) {
        match self.entropy.byte() % 4 {
            0 => self.push(slot(0x85, 0, 0, 0, 5)),
            1 => {
                self.push(slot(0xbf, 1, 6, 0, 0));
                self.push(slot(0x85, 0, 0, 0, 2));
            }
            2 => self.push(slot(0x85, 0, 0, 0, 3)),
            _ => {
                for register in [3, 4, 5] {
                    self.push(slot(0xbf, register, 9, 0, 0));
                }
                self.push(slot(0x85, 0, 0, 0, 1));
            }
        }
        for register in [1, 2, 3, 4] {
            self.push(slot(0xb7, register, 0, 0, i32::from(register)));
        }
    }

    fn constant(&mut self) {
        let (to, low, high) =
            (self.entropy.choose(&NUMBERS), self.entropy.immediate(), self.entropy.immediate());
        let slots = vec![slot(0x18, to, 0, 0, low), slot(0, 0, 0, 0, high)];
        self.items.push(Item { slots, target: None });
    }

    fn link(&self) -> Vec<u8> {
        let starts: Vec<usize> = self
            .items
            .iter()
            .scan(0, |at, item| {
                let start = *at;
                *at += item.slots.len();
                Some(start)
            })
            .collect();
        let exit = self.items.iter().position(|item| item.slots[0][0] == 0x95).unwrap_or(0);
        let mut program = Vec::new();
        for (item, start) in self.items.iter().zip(&starts) {
            let mut slots = item.slots.clone();
            if let Some(target) = item.target {
                let target = starts.get(target).copied().unwrap_or(starts[exit]);
                let by = target as i64 - *start as i64 - 1;
                slots[0][2..4].copy_from_slice(&(by as i16).to_le_bytes());
            }
            program.extend(slots.concat());
        }
        program
    }
}
