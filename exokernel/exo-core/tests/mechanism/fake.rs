//! A machine of plain memory, and a kernel on it with a first environment whose memory the tests
//! can write.

use exo_abi::boot::{MAGIC, MODULE_VERSION, ModuleHeader, ModuleSegment};
use exo_abi::tables::{ENV_WORDS, EnvEntry, EnvWord, FrameEntry};
use exo_abi::{Call, EnvName, Error, FrameNumber, Rights};
use exo_core::{
    Context, Environment, Exposed, FILTERS, Kernel, Lists, Machine, RINGS, SendError, Storage,
};
use packet_filters::FilterSet;
use secure_bindings::{Bindings, FrameMemory, FrameTable, Page, TranslationCache};
use std::sync::atomic::{AtomicU64, Ordering};

/// Frames of the fake machine.
pub(crate) const FRAMES: usize = 4096;
/// Environment slots.
pub(crate) const ENVIRONMENTS: usize = 16;
/// Slice positions.
pub(crate) const POSITIONS: usize = 16;
/// Where the first environment's data segment is.
pub(crate) const DATA: u64 = 0x40_0000;
const DATA_PAGES: u64 = 16;
const MODULE_FIRST: u32 = 16;
const SLICE: u64 = 1_000_000;

/// Memory, a clock, and what was written and sent.
pub(crate) struct Fake {
    memory: Vec<Page>,
    pub(crate) time: u64,
    pub(crate) alarm: u64,
    pub(crate) console: Vec<u8>,
    pub(crate) typed: Vec<u8>,
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) exit: Option<u64>,
    pub(crate) active: Option<FrameNumber>,
    filters: FilterSet<FILTERS>,
}

impl FrameMemory for Fake {
    fn page(&self, frame: FrameNumber) -> &Page {
        &self.memory[frame.0 as usize]
    }
}

impl TranslationCache for Fake {
    fn flush(&self, _root: FrameNumber, _address: u64) {}
    fn flush_space(&self, _root: FrameNumber) {}
}

impl Machine for Fake {
    fn now(&self) -> u64 {
        self.time
    }
    fn activate(&mut self, root: FrameNumber) {
        self.active = Some(root);
    }
    fn deactivate(&mut self) {
        self.active = None;
    }
    fn common_entry(&self, index: usize) -> u64 {
        if index >= 256 { 0x1003 } else { 0 }
    }
    fn set_alarm(&mut self, at: u64) {
        self.alarm = at;
    }
    fn console_write(&mut self, bytes: &[u8]) {
        self.console.extend_from_slice(bytes);
    }
    fn console_read(&mut self) -> Option<u8> {
        if self.typed.is_empty() { None } else { Some(self.typed.remove(0)) }
    }
    fn link_address(&self) -> Option<[u8; 6]> {
        Some([2, 0, 0, 0, 0, 1])
    }
    fn transmit(&mut self, packet: &[u8]) -> Result<(), SendError> {
        self.sent.push(packet.to_vec());
        Ok(())
    }
    fn doorbell(&mut self) {}
    fn load_classifier(&mut self, filters: &FilterSet<FILTERS>) -> bool {
        self.filters = FilterSet::new();
        for (id, filter) in filters.iter() {
            self.filters.insert(id, filter).unwrap();
        }
        true
    }
    fn classify(&self, packet: &[u8]) -> Option<u32> {
        self.filters.classify(packet)
    }
    fn switch_vectors(&mut self, _area: FrameNumber) {}
    fn forget_vectors(&mut self, _area: FrameNumber) {}
    fn segment_bases(&self) -> [u64; 2] {
        [0; 2]
    }
    fn set_segment_bases(&mut self, _bases: [u64; 2]) {}
    fn exit(&mut self, code: u64) {
        self.exit = Some(code);
    }
}

/// A kernel on a fake machine, with the registers of whoever runs.
pub(crate) struct Bench {
    pub(crate) kernel: Kernel<'static>,
    pub(crate) machine: Fake,
    pub(crate) context: Context,
    pub(crate) exposed: Exposed<'static>,
    pub(crate) frames: &'static [AtomicU64],
}

fn words(count: usize) -> &'static [AtomicU64] {
    Box::leak((0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().into_boxed_slice())
}

impl Bench {
    /// A machine that has just started its first environment.
    pub(crate) fn new() -> Self {
        let mut machine = Fake {
            memory: (0..FRAMES).map(|_| [const { AtomicU64::new(0) }; 512]).collect(),
            time: 1,
            alarm: 0,
            console: Vec::new(),
            typed: Vec::new(),
            sent: Vec::new(),
            exit: None,
            active: None,
            filters: FilterSet::new(),
        };
        let frames = words(2 * FRAMES);
        let exposed = Exposed {
            system: words(512),
            environments: words(ENVIRONMENTS * ENV_WORDS),
            slices: words(POSITIONS),
            filters: words(FILTERS * 4),
            rings: words(RINGS * 4),
            statistics: words(512),
        };
        let mut kernel = Kernel::new(Storage {
            bindings: bindings(frames),
            environments: Box::leak(
                (0..ENVIRONMENTS)
                    .map(|_| Environment::EMPTY)
                    .collect::<Vec<_>>()
                    .into_boxed_slice(),
            ),
            exposed,
            lists: Box::leak(Box::new(Lists::EMPTY)),
            positions: POSITIONS,
            slice: SLICE,
        });
        let pages = write_module(&machine);
        kernel.start_first(&mut machine, FrameNumber(MODULE_FIRST), pages).unwrap();
        let mut context = Context::start(0, 0, 0);
        kernel.enter_first(&mut machine, &mut context);
        Self { kernel, machine, context, exposed, frames }
    }

    /// Makes a call as whoever runs, and says what it got.
    pub(crate) fn call(&mut self, call: Call) -> Result<u64, Error> {
        let registers = call.pack();
        self.raw_call(registers.number, registers.arguments)
    }

    /// As [`Bench::call`], with any registers.
    pub(crate) fn raw_call(&mut self, number: u64, arguments: [u64; 6]) -> Result<u64, Error> {
        let context = &mut self.context;
        context.rax = number;
        [context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9] = arguments;
        self.kernel.call(&mut self.machine, &mut self.context);
        Error::from_number(self.context.rax).map_or(Ok(self.context.rdx), Err)
    }

    /// The frame that the hardware tables of whoever runs have for an address.
    pub(crate) fn hardware(&self, address: u64) -> Option<(FrameNumber, u64)> {
        let mut table = self.machine.active?;
        let mut entry = 0;
        for level in (0..4).rev() {
            let index = (address >> (12 + 9 * level)) as usize & 511;
            entry = self.machine.page(table)[index].load(Ordering::Relaxed);
            if entry & 1 == 0 {
                return None;
            }
            table = FrameNumber((entry >> 12) as u32 & 0xff_ffff);
        }
        Some((table, entry))
    }

    /// Writes words at an address of whoever runs, as the program would: with page faults.
    pub(crate) fn poke(&mut self, address: u64, words: &[u64]) {
        for (index, &word) in words.iter().enumerate() {
            let at = address + 8 * index as u64;
            let frame = self.touch(at, true).expect("the program can write here");
            self.machine.page(frame)[at as usize % 4096 / 8].store(word, Ordering::Relaxed);
        }
    }

    /// Reads a word as the program would.
    pub(crate) fn peek(&mut self, address: u64) -> u64 {
        let frame = self.touch(address, false).expect("the program can read here");
        self.machine.page(frame)[address as usize % 4096 / 8].load(Ordering::Relaxed)
    }

    /// Reaches an address as the CPU would; says what it found after at most one fault.
    pub(crate) fn touch(&mut self, address: u64, write: bool) -> Option<FrameNumber> {
        for _ in 0..2 {
            match self.hardware(address) {
                Some((frame, entry)) if !write || entry & 2 != 0 => return Some(frame),
                found => {
                    let error = 4 | u64::from(write) << 1 | u64::from(found.is_some());
                    self.kernel.exception(&mut self.machine, &mut self.context, 14, error, address);
                }
            }
        }
        None
    }

    /// Lets time pass and ticks.
    pub(crate) fn tick(&mut self, nanoseconds: u64) {
        self.machine.time += nanoseconds;
        self.kernel.tick(&mut self.machine, &mut self.context);
    }

    /// A frame as everybody sees it.
    pub(crate) fn frame(&self, number: u32) -> FrameEntry {
        let word = |index: usize| self.frames[index].load(Ordering::Relaxed);
        FrameEntry::from_words([word(2 * number as usize), word(2 * number as usize + 1)])
    }

    /// A word of an environment as everybody sees it.
    pub(crate) fn environment(&self, slot: usize, word: EnvWord) -> u64 {
        self.exposed.environments[slot * ENV_WORDS + word as usize].load(Ordering::Relaxed)
    }

    /// The name of the environment in a slot.
    pub(crate) fn name(&self, slot: usize) -> EnvName {
        EnvName(self.environment(slot, EnvWord::Name))
    }
}

fn bindings(frames: &'static [AtomicU64]) -> Bindings<'static> {
    let records = vec![secure_bindings::FrameRecord::EMPTY; FRAMES];
    let free = vec![0; secure_bindings::FreeMap::words_for(FRAMES)];
    let mut table = FrameTable::new(frames, records.leak(), free.leak());
    for frame in 64..FRAMES as u32 {
        table.add_free(FrameNumber(frame));
    }
    let spaces: Vec<_> = (0..ENVIRONMENTS).map(|_| None).collect();
    Bindings::new(table, spaces.leak())
}

/// A module of a header page, a data segment and an archive page; returns its pages.
fn write_module(machine: &Fake) -> u64 {
    let mut header = ModuleHeader {
        magic: MAGIC,
        version: MODULE_VERSION,
        length: 3 * 4096,
        entry: DATA,
        archive_offset: 2 * 4096,
        archive_length: 4096,
        segment_count: 1,
        ..ModuleHeader::default()
    };
    header.segments[0] = ModuleSegment {
        address: DATA,
        offset: 4096,
        file_size: 4096,
        memory_size: DATA_PAGES * 4096,
        rights: (Rights::READ | Rights::WRITE).bits().into(),
    };
    for (stored, word) in machine.page(FrameNumber(MODULE_FIRST)).iter().zip(header.to_words()) {
        stored.store(word, Ordering::Relaxed);
    }
    3
}

const _: () = assert!(size_of::<EnvEntry>() == ENV_WORDS * 8);
