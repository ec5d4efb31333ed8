//! A machine of plain memory, and a kernel on it with a first environment whose memory the tests
//! can write.

use ebpf_tools::interpreter::{World, interpret};
use exo_abi::boot::{ARCHIVE, ARCHIVE_GUARD, MAGIC, MODULE_VERSION, ModuleHeader, ModuleSegment};
use exo_abi::calls::Number;
use exo_abi::tables::{
    ENV_WORDS, EnvEntry, EnvState, EnvWord, FrameEntry, MOVE_WORDS, MOVES, STATISTICS_WORDS,
};
use exo_abi::upcall::FaultCode;
use exo_abi::{Call, EnvName, Error, FrameNumber, Rights};
use exo_core::{
    Arrival, Board, Context, CpuCell, Devices, EnvCell, Environment, Exception, Exposed, FILTERS,
    Handled, Kernel, Lists, Machine, Next, Processor, RINGS, SHAPES, Storage,
};
use packet_filters::ebpf::{HANDLER, Workspace, verify};
use packet_filters::{FilterSet, Line, Link, Memory, Shape, code_for, lines_for};
use secure_bindings::{FrameMemory, FrameTable, Page, Refill, TranslationCache};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

/// Frames of the fake machine.
pub(crate) const FRAMES: usize = 4096;
/// Environment slots.
pub(crate) const ENVIRONMENTS: usize = 16;
/// CPUs.
pub(crate) const CPUS: usize = 2;
/// Slice positions of each CPU.
pub(crate) const POSITIONS: usize = 16;
/// Where the first environment's data segment is.
pub(crate) const DATA: u64 = 0x40_0000;
const DATA_PAGES: u64 = 16;
const MODULE_FIRST: u32 = 16;
const SLICE: u64 = 1_000_000;

/// Memory, a clock, and what was written and sent.
pub(crate) struct Fake {
    memory: Vec<Page>,
    pub(crate) cpu: Cell<usize>,
    pub(crate) time: Cell<u64>,
    pub(crate) alarm: Cell<u64>,
    pub(crate) console: RefCell<Vec<u8>>,
    pub(crate) typed: RefCell<Vec<u8>>,
    pub(crate) sent: RefCell<Vec<Vec<u8>>>,
    /// How many of them the device was not told of yet.
    queued: Cell<u64>,
    pub(crate) exit: Cell<Option<u64>>,
    /// The top-level table that is current on each CPU.
    pub(crate) active: [Cell<Option<FrameNumber>>; CPUS],
    /// The one that each CPU really uses: it is as late as may be, and loads what it has made current
    /// only when it is waited for.
    pub(crate) loaded: [Cell<Option<FrameNumber>>; CPUS],
    /// CPUs that were kicked, in order.
    pub(crate) kicked: RefCell<Vec<usize>>,
    /// The programs of the rings' handlers.
    handlers: RefCell<[Vec<u8>; RINGS]>,
}

impl Fake {
    fn queue(&self, packet: Vec<u8>) {
        self.sent.borrow_mut().push(packet);
        self.queued.set(self.queued.get() + 1);
    }
}

impl FrameMemory for Fake {
    fn page(&self, frame: FrameNumber) -> &Page {
        &self.memory[frame.0 as usize]
    }

    fn read(&self, frame: FrameNumber, offset: usize, into: &mut [u8]) {
        let page = self.page(frame);
        for (at, byte) in (offset..4096).zip(into) {
            *byte = page[at / 8].load(Ordering::Relaxed).to_le_bytes()[at % 8];
        }
    }

    fn write(&self, frame: FrameNumber, offset: usize, from: &[u8]) {
        let page = self.page(frame);
        for (at, &byte) in (offset..4096).zip(from) {
            let mut bytes = page[at / 8].load(Ordering::Relaxed).to_le_bytes();
            bytes[at % 8] = byte;
            page[at / 8].store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }

    fn clear(&self, frame: FrameNumber) {
        self.page(frame).iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

impl TranslationCache for Fake {
    fn flush(&self, _root: FrameNumber, _address: u64) {}
    fn flush_space(&self, _root: FrameNumber) {}
}

impl Machine for Fake {
    type Devices = &'static Self;

    fn cpu(&self) -> usize {
        self.cpu.get()
    }
    fn kick(&self, cpu: usize) {
        self.kicked.borrow_mut().push(cpu);
    }
    fn pause(&self) {
        panic!("on one thread nobody comes to help");
    }
    fn now(&self) -> u64 {
        self.time.get()
    }
    fn activate(&self, root: FrameNumber) {
        self.loaded[self.cpu()].set(self.active[self.cpu()].replace(Some(root)));
    }
    fn forget(&self, _: FrameNumber, _: Option<u64>) {}
    fn deactivate(&self) {
        self.loaded[self.cpu()].set(self.active[self.cpu()].replace(None));
    }
    fn quiesce(&self) {
        for (loaded, active) in self.loaded.iter().zip(&self.active) {
            let kernel = loaded.get().map(|root| self.page(root)[511].load(Ordering::Relaxed));
            assert_ne!(kernel, Some(0), "a CPU lost the kernel's half of its tables");
            loaded.set(active.get());
        }
    }
    fn common_entry(&self, index: usize) -> u64 {
        if index >= 256 { 0x1003 } else { 0 }
    }
    fn set_alarm(&self, _now: u64, at: u64) {
        self.alarm.set(at);
    }
    fn switch_vectors(&self, _slot: u16) {}
    fn forget_vectors(&self, _slot: u16) {}
    fn segment_bases(&self) -> [u64; 2] {
        [0; 2]
    }
    fn set_segment_bases(&self, _bases: [u64; 2]) {}
    fn exit(&self, code: u64) {
        self.exit.set(Some(code));
    }
}

impl Devices for &'static Fake {
    fn console_write(&mut self, bytes: &[u8]) {
        self.console.borrow_mut().extend_from_slice(bytes);
    }
    fn console_read(&mut self) -> Option<u8> {
        let mut typed = self.typed.borrow_mut();
        if typed.is_empty() { None } else { Some(typed.remove(0)) }
    }
    fn link_address(&self) -> Option<[u8; 6]> {
        Some([2, 0, 0, 0, 0, 1])
    }
    fn transmit(
        &mut self,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut packet = vec![0; length];
        write(&mut packet)?;
        self.queue(packet);
        Ok(())
    }
    fn doorbell(&mut self) -> u64 {
        self.queued.take()
    }
    fn load_classifier(&mut self, filters: &mut FilterSet<'_>) {
        filters.compile(&mut vec![0; code_for(SHAPES)]).unwrap();
    }
    fn classify(&self, filters: &FilterSet<'_>, packet: &[u8]) -> Option<u32> {
        let all = (0..FILTERS as u32).filter_map(|id| Some((id, filters.get(id)?)));
        let matching = all.filter(|(_, filter)| filter.matches(packet));
        matching.min_by(|(_, a), (_, b)| a.precedence(b)).map(|(id, _)| id)
    }
    fn load_handler(&mut self, ring: usize, program: &[u8]) -> bool {
        let accepted = verify(program, &HANDLER, &mut Box::new(Workspace::new()))
            .is_ok_and(|verified| verified.fuel(HANDLER_BUDGET).is_some());
        if accepted {
            self.handlers.borrow_mut()[ring] = program.to_vec();
        }
        accepted
    }
    fn run_handler(&mut self, ring: usize, arrival: &Arrival<'_>) -> Handled {
        let mut workspace = Box::new(Workspace::new());
        let handlers = self.handlers.borrow();
        let verified = verify(&handlers[ring], &HANDLER, &mut workspace).unwrap();
        let fuel = verified.fuel(HANDLER_BUDGET).unwrap();
        let mut state = vec![0; 4096];
        self.read(arrival.state, 0, &mut state);
        let packet = arrival.packet.to_vec();
        let mut run = HandlerRun { packet, state, reply: Vec::new(), sent: 0 };
        let arguments = [0, 0, 0, 0, arrival.filter.into()];
        let outcome = interpret(&verified, &mut run, arguments, fuel).outcome;
        self.write(arrival.state, 0, &run.state);
        let (result, mut reply) = (outcome.ok()?, run.reply);
        if run.sent > 0 {
            reply.truncate(run.sent);
            (arrival.may_send)(&mut reply).ok()?;
            self.queue(reply);
        }
        Some(result)
    }
}

/// The most instructions that a packet may cost a handler.
const HANDLER_BUDGET: u64 = 8192;

/// A handler's world on the fake machine.
struct HandlerRun {
    packet: Vec<u8>,
    state: Vec<u8>,
    reply: Vec<u8>,
    sent: usize,
}

impl World for HandlerRun {
    fn region(&mut self, region: u8) -> &mut [u8] {
        match region {
            0 => &mut self.packet,
            1 => &mut self.state,
            _ => &mut self.reply,
        }
    }
    fn help(&mut self, helper: u32, [first, second, ..]: [u64; 5]) -> u64 {
        match helper {
            1 => {
                let range = first as usize..first.saturating_add(second) as usize;
                self.reply.extend_from_slice(self.packet.get(range).unwrap_or_default());
                self.reply.len() as u64
            }
            3 if (14..=self.reply.len() as u64).contains(&first) => {
                self.sent = first as usize;
                1
            }
            _ => 0,
        }
    }
}

/// A kernel on a fake machine, with the registers of whoever runs on each CPU.
pub(crate) struct Bench {
    pub(crate) board: &'static Board<'static>,
    pub(crate) kernel: Kernel<'static, Fake>,
    pub(crate) machine: &'static Fake,
    pub(crate) contexts: [Context; CPUS],
    pub(crate) exposed: Exposed<'static>,
    pub(crate) frames: &'static [AtomicU64],
}

fn words(count: usize) -> &'static [AtomicU64] {
    Box::leak((0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().into_boxed_slice())
}

fn filter_memory() -> Memory<'static> {
    const PLACES: usize = 512;
    Memory {
        lines: (0..lines_for(PLACES)).map(|_| Line::default()).collect::<Vec<_>>().leak(),
        links: (0..PLACES).map(|_| Link::FREE).collect::<Vec<_>>().leak(),
        shapes: (0..SHAPES).map(|_| Shape::FREE).collect::<Vec<_>>().leak(),
    }
}

impl Bench {
    /// A machine that has just started its first environment.
    pub(crate) fn new() -> Self {
        let machine: &Fake = Box::leak(Box::new(Fake {
            memory: (0..FRAMES).map(|_| [const { AtomicU64::new(0) }; 512]).collect(),
            cpu: Cell::new(0),
            time: Cell::new(1),
            alarm: Cell::new(0),
            console: RefCell::default(),
            typed: RefCell::default(),
            sent: RefCell::default(),
            queued: Cell::new(0),
            exit: Cell::new(None),
            active: Default::default(),
            loaded: Default::default(),
            kicked: RefCell::default(),
            handlers: RefCell::new([const { Vec::new() }; RINGS]),
        }));
        let frames = words(2 * FRAMES);
        let exposed = Exposed {
            system: words(512),
            filters: words(FILTERS * 4),
            rings: words(RINGS * 4),
            moves: words(MOVES * MOVE_WORDS),
        };
        let environments = words(ENVIRONMENTS * ENV_WORDS);
        let (statistics, slices) = (words(CPUS * STATISTICS_WORDS), words(CPUS * POSITIONS));
        let cells = environments.as_chunks().0.iter().map(EnvCell::new).collect::<Vec<_>>();
        let parts = statistics.as_chunks().0.iter().zip(slices.chunks(POSITIONS));
        let parts = parts.enumerate();
        let cpus = parts.map(|(number, (statistics, slices))| {
            CpuCell::new(number, statistics, slices, words(ENVIRONMENTS))
        });
        let cpus = cpus.collect::<Vec<_>>();
        let board = Box::leak(Box::new(Board::new(cells.leak(), cpus.leak(), exposed, SLICE)));
        let mut kernel = Kernel::new(
            machine,
            machine,
            Storage {
                frames: frame_table(frames),
                spaces: (0..ENVIRONMENTS).map(|_| None).collect::<Vec<_>>().leak(),
                environments: Box::leak(
                    (0..ENVIRONMENTS)
                        .map(|_| Environment::EMPTY)
                        .collect::<Vec<_>>()
                        .into_boxed_slice(),
                ),
                board,
                lists: Box::leak(Box::new(Lists::EMPTY)),
                filters: filter_memory(),
                secret: std::array::from_fn(|place| 0x9e37_79b9_7f4a_7c15 << place | 1),
            },
        );
        let pages = write_module(machine);
        kernel.start_first(FrameNumber(MODULE_FIRST), pages).unwrap();
        let contexts = [Context::default(); CPUS];
        let mut bench = Self { board, kernel, machine, contexts, exposed, frames };
        bench.leave();
        bench
    }

    /// The registers of whoever runs on the current CPU.
    pub(crate) fn context(&mut self) -> &mut Context {
        &mut self.contexts[self.machine.cpu()]
    }

    /// Goes on with another CPU.
    pub(crate) fn on(&mut self, cpu: usize) -> &mut Self {
        self.machine.cpu.set(cpu);
        self
    }

    /// What the entry code does at the end of each entry.
    fn leave(&mut self) {
        let here = self.here();
        let context = &mut self.contexts[self.machine.cpu()];
        while here.leave(context) == Next::Resolve {
            self.kernel.resolve(context);
        }
    }

    /// The current CPU.
    pub(crate) fn here(&self) -> Processor<'static, Fake> {
        Processor::here(self.machine, self.board)
    }

    /// Whether nobody runs on the current CPU.
    pub(crate) fn idle(&self) -> bool {
        self.here().cpu.current().is_none()
    }

    /// An exception of whoever runs.
    pub(crate) fn exception(&mut self, vector: u64, error: u64, address: u64) {
        let exception = Exception { vector, error, address };
        let here = self.here();
        let context = &mut self.contexts[self.machine.cpu()];
        let Some(slot) = here.cpu.current() else { return };
        let cell = self.board.cell(slot);
        let refused = match vector {
            14 => match here.page_fault(cell, exception, true) {
                Refill::Locked => here.page_fault(cell, exception, false),
                soon => soon,
            },
            _ => Refill::Refused(FaultCode::from_bits_retain(error)),
        };
        let done = match refused {
            Refill::Done => true,
            Refill::Locked => false,
            Refill::Refused(code) => {
                let exception = Exception { error: code.bits(), ..exception };
                here.exception(cell, context, exception)
            }
        };
        if !done {
            self.kernel.exception(context, exception);
        }
        self.leave();
    }

    /// Makes a call as whoever runs, and says what it got.
    pub(crate) fn call(&mut self, call: Call) -> Result<u64, Error> {
        let registers = call.pack();
        self.raw_call(registers.number, registers.arguments)
    }

    /// As [`Bench::call`], with any registers.
    pub(crate) fn raw_call(&mut self, number: u64, arguments: [u64; 6]) -> Result<u64, Error> {
        let here = self.here();
        let context = &mut self.contexts[self.machine.cpu()];
        context.rax = number;
        [context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9] = arguments;
        let Some(slot) = here.cpu.current() else { return Ok(0) };
        let cell = self.board.cell(slot);
        if here.null(cell, context) {
            return self.answer();
        }
        if number == Number::Bind as u64 && self.kernel.bind_one(here.cpu, context) {
            here.count_call(cell);
        } else if !here.call(cell, context) {
            self.kernel.call(context);
        }
        self.leave();
        self.answer()
    }

    /// What the call that was made last has got.
    fn answer(&mut self) -> Result<u64, Error> {
        if self.idle() {
            return Ok(0);
        }
        let context = self.context();
        Error::from_number(context.rax).map_or(Ok(context.rdx), Err)
    }

    /// The frame that the hardware tables of whoever runs have for an address.
    pub(crate) fn hardware(&self, address: u64) -> Option<(FrameNumber, u64)> {
        let mut table = self.machine.active[self.machine.cpu()].get()?;
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
                    self.exception(14, error, address);
                }
            }
        }
        None
    }

    /// Lets time pass and ticks.
    pub(crate) fn tick(&mut self, nanoseconds: u64) {
        self.machine.time.update(|time| time + nanoseconds);
        let here = self.here();
        here.stir();
        if here.tick(&self.contexts[self.machine.cpu()]) {
            self.kernel.collect(1 << self.machine.cpu());
        }
        self.leave();
    }

    /// A frame as everybody sees it.
    pub(crate) fn frame(&self, number: u32) -> FrameEntry {
        let word = |index: usize| self.frames[index].load(Ordering::Relaxed);
        FrameEntry::from_words([word(2 * number as usize), word(2 * number as usize + 1)])
    }

    /// A word of an environment as everybody sees it.
    pub(crate) fn environment(&self, slot: usize, word: EnvWord) -> u64 {
        self.board.cells[slot].entry[word as usize].load(Ordering::Relaxed)
    }

    /// What the environment in a slot does.
    pub(crate) fn state(&self, slot: usize) -> EnvState {
        EnvState::from_number(self.environment(slot, EnvWord::State)).unwrap()
    }

    /// The name of the environment in a slot.
    pub(crate) fn name(&self, slot: usize) -> EnvName {
        EnvName(self.environment(slot, EnvWord::Name))
    }
}

fn frame_table(frames: &'static [AtomicU64]) -> FrameTable<'static> {
    let records = vec![secure_bindings::FrameRecord::EMPTY; FRAMES];
    let free = vec![0; secure_bindings::FreeMap::words_for(FRAMES)];
    let mut table = FrameTable::new(frames, records.leak(), free.leak());
    for frame in 64..FRAMES as u32 {
        table.add_free(FrameNumber(frame));
    }
    table
}

/// A module of a header page, data and an archive page; returns its pages.
fn write_module(machine: &Fake) -> u64 {
    let mut header = ModuleHeader {
        magic: MAGIC,
        version: MODULE_VERSION,
        entry: DATA,
        stack: DATA + DATA_PAGES * 4096,
        segment_count: 2,
        ..ModuleHeader::default()
    };
    let rights = (Rights::READ | Rights::WRITE | Rights::WIRED).bits().into();
    header.segments[0] =
        ModuleSegment { address: DATA, first: 1, pages: DATA_PAGES, rights, guard: 0 };
    header.segments[1] = ModuleSegment {
        address: ARCHIVE,
        first: 1 + DATA_PAGES,
        pages: 1,
        rights: Rights::READ.bits().into(),
        guard: ARCHIVE_GUARD.into(),
    };
    for (stored, word) in machine.page(FrameNumber(MODULE_FIRST)).iter().zip(header.to_words()) {
        stored.store(word, Ordering::Relaxed);
    }
    2 + DATA_PAGES
}

const _: () = assert!(size_of::<EnvEntry>() == ENV_WORDS * 8);
