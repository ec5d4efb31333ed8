//! Running verified programs on the host, interpreted and compiled, on the same memory. The only
//! unsafe code of these tests.

use std::ptr;

use ebpf_tools::interpreter::{Run, World, interpret};
use ebpf_tools::native::{Executable, compile};
use packet_filters::ebpf::{
    Activation, Argument, Helper, MAX_HELPERS, Profile, Routine, Trap, Verified,
};

/// The helpers that programs under test can call.
pub(crate) const HELPERS: [Option<Helper>; 6] = [
    None,
    Some(Helper {
        name: "mix",
        arguments: [
            Argument::Number,
            Argument::Number,
            Argument::Number,
            Argument::Number,
            Argument::Number,
        ],
        cost: 3,
    }),
    Some(Helper {
        name: "sum",
        arguments: [
            Argument::Pointer(0),
            Argument::Number,
            Argument::Nothing,
            Argument::Nothing,
            Argument::Nothing,
        ],
        cost: 20,
    }),
    Some(Helper {
        name: "grow",
        arguments: [
            Argument::Number,
            Argument::Nothing,
            Argument::Nothing,
            Argument::Nothing,
            Argument::Nothing,
        ],
        cost: 5,
    }),
    None,
    Some(Helper {
        name: "same",
        arguments: [
            Argument::Number,
            Argument::Nothing,
            Argument::Nothing,
            Argument::Nothing,
            Argument::Nothing,
        ],
        cost: 1,
    }),
];

/// Bytes before and behind each region that must stay as they are.
const MARGIN: usize = 64;
const CANARY: u8 = 0xc5;

/// A region, aligned, between canaries; it may be shorter than its room, and grow.
#[derive(Clone)]
pub(crate) struct Memory {
    words: Vec<u64>,
    length: usize,
    room: usize,
}

impl Memory {
    /// A region with these bytes and room for so many.
    pub(crate) fn new(bytes: &[u8], room: usize) -> Self {
        let room = room.max(bytes.len());
        let words = (room + 2 * MARGIN).div_ceil(8);
        let mut memory = Memory {
            words: vec![u64::from_ne_bytes([CANARY; 8]); words],
            length: bytes.len(),
            room,
        };
        memory.all()[MARGIN..MARGIN + room].fill(0);
        memory.bytes().copy_from_slice(bytes);
        memory
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let length = self.length;
        &mut self.all()[MARGIN..MARGIN + length]
    }

    fn all(&mut self) -> &mut [u8] {
        let length = self.words.len() * 8;
        // SAFETY: these are the bytes of the vector's words, and any bytes are bytes.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), length) }
    }

    fn grow(&mut self, by: u64) -> u64 {
        let left = (self.room - self.length) as u64;
        self.length += by.min(left) as usize;
        self.length as u64
    }

    fn assert_canaries(&mut self) {
        let room = self.room;
        let all = self.all();
        assert!(all[..MARGIN].iter().all(|byte| *byte == CANARY), "wrote before the region");
        let end = MARGIN + room;
        assert!(all[end..].iter().all(|byte| *byte == CANARY), "wrote behind the region");
    }
}

/// The regions of a run.
#[derive(Clone)]
pub(crate) struct Regions(pub(crate) Vec<Memory>);

impl World for Regions {
    fn region(&mut self, region: u8) -> &mut [u8] {
        self.0[usize::from(region)].bytes()
    }

    fn help(&mut self, helper: u32, [a, b, c, d, e]: [u64; 5]) -> u64 {
        match helper {
            1 => mixed([a, b, c, d, e]),
            2 => self.sum(a, b),
            3 => self.0.last_mut().map_or(0, |memory| memory.grow(a)),
            5 => a,
            _ => panic!("no helper {helper}"),
        }
    }
}

impl Regions {
    /// The sum of bytes of region 0, as far as they lie in it.
    fn sum(&mut self, start: u64, length: u64) -> u64 {
        let end = start.checked_add(length.min(16));
        let range = end.map(|end| start as usize..end as usize);
        let bytes = range.and_then(|range| self.region(0).get(range).map(<[u8]>::to_vec));
        bytes.map_or(u64::MAX, |bytes| bytes.into_iter().map(u64::from).sum())
    }
}

fn mixed(arguments: [u64; 5]) -> u64 {
    arguments.into_iter().fold(7, |sum, argument| sum.rotate_left(9) ^ argument.wrapping_mul(3))
}

unsafe extern "sysv64" fn mix(a: u64, b: u64, c: u64, _: *mut Activation, d: u64, e: u64) -> u64 {
    mixed([a, b, c, d, e])
}

unsafe extern "sysv64" fn sum(
    a: u64,
    b: u64,
    _: u64,
    activation: *mut Activation,
    _: u64,
    _: u64,
) -> u64 {
    // SAFETY: `run` calls the program with an activation whose owner is its regions, and touches
    // neither before the program has returned.
    unsafe { &mut *(*activation).owner.cast::<Regions>() }.sum(a, b)
}

unsafe extern "sysv64" fn grow(
    a: u64,
    _: u64,
    _: u64,
    activation: *mut Activation,
    _: u64,
    _: u64,
) -> u64 {
    // SAFETY: as in `sum`; the program itself touches the activation only between its helpers.
    let (activation, regions) =
        unsafe { (&mut *activation, &mut *(*activation).owner.cast::<Regions>()) };
    let last = regions.0.len() - 1;
    let length = regions.help(3, [a, 0, 0, 0, 0]);
    let start = regions.0[last].bytes().as_mut_ptr();
    activation.set_region(last as u8, start, length);
    length
}

unsafe extern "sysv64" fn same(a: u64, _: u64, _: u64, _: *mut Activation, _: u64, _: u64) -> u64 {
    a
}

/// Fills the other places.
unsafe extern "sysv64" fn missing(
    _: u64,
    _: u64,
    _: u64,
    _: *mut Activation,
    _: u64,
    _: u64,
) -> u64 {
    std::process::abort()
}

/// Runs compiled code with these regions.
pub(crate) fn run(
    executable: &Executable,
    regions: &mut Regions,
    arguments: [u64; 5],
    fuel: u64,
) -> Result<u64, Trap> {
    let mut routines: [Routine; MAX_HELPERS] = [missing; MAX_HELPERS];
    (routines[1], routines[2], routines[3], routines[5]) = (mix, sum, grow, same);
    let owner = ptr::from_mut(regions).cast();
    let mut activation = Activation::new(fuel, arguments, &raw const routines, owner);
    for (index, memory) in regions.0.iter_mut().enumerate() {
        let bytes = memory.bytes();
        activation.set_region(index as u8, bytes.as_mut_ptr(), bytes.len() as u64);
    }
    dirty_stack();
    // SAFETY: the regions are those that the callers' profiles describe, the routines are those of
    // `HELPERS`. What else the code does is what is under test.
    let outcome = unsafe { executable.run(&mut activation) };
    regions.0.iter_mut().for_each(Memory::assert_canaries);
    outcome
}

/// Leaves something on the stack that is not zero.
#[inline(never)]
fn dirty_stack() {
    std::hint::black_box([0xa7u8; 8192]);
}

/// Runs a program interpreted and compiled; the results and all memory have to be the same.
pub(crate) fn run_both(
    program: &mut Verified<'_>,
    regions: &Regions,
    arguments: [u64; 5],
    budget: u64,
) -> Option<Run> {
    let fuel = program.fuel(budget)?;
    let (mut interpreted, mut compiled) = (regions.clone(), regions.clone());
    let run = interpret(program, &mut interpreted, arguments, fuel);
    let executable = Executable::new(&compile(program)).expect("pages");
    let outcome = self::run(&executable, &mut compiled, arguments, fuel);
    assert_eq!(run.outcome, outcome, "interpreted, compiled");
    for (interpreted, compiled) in interpreted.0.iter_mut().zip(&mut compiled.0) {
        assert_eq!(interpreted.bytes(), compiled.bytes());
    }
    assert!(run.steps <= budget, "{} steps with a budget of {budget}", run.steps);
    Some(run)
}

/// A profile with a region of exactly so many bytes in register 1, its length in 2, and loops.
pub(crate) fn with_memory<'a>(region: &'a packet_filters::ebpf::Region) -> Profile<'a> {
    let [a, b] = [Argument::Pointer(0), Argument::Length(0)];
    Profile {
        arguments: [a, b, Argument::Nothing, Argument::Nothing, Argument::Nothing],
        regions: std::slice::from_ref(region),
        helpers: &HELPERS,
        loops: true,
    }
}
