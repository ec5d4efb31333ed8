//! The order in which the kernel comes up.

use crate::boot::acpi::{self, PROCESSORS, Processors};
use crate::boot::memory::EarlyMemory;
use crate::boot::processors::{self, Shared};
use crate::boot::pvh::BootInformation;
use crate::devices::Devices;
use crate::drivers::network::{self, NetworkDevice, Wiring};
use crate::drivers::serial::{self, Serial};
use crate::entry::{self, System};
use crate::handler::Handlers;
use crate::hardware::Hardware;
use crate::jit::Jit;
use crate::x86_64::apic::{self, LocalApic};
use crate::x86_64::clock::Clock;
use crate::x86_64::cpu::{self, PerCpu};
use crate::x86_64::idt::Interrupts;
use crate::x86_64::layout::physical;
use crate::x86_64::paging::{ENTRY_STACK, KernelTables, LAST_STACK, MappingError};
use crate::x86_64::vectors::Format;
use core::fmt::Write;
use core::iter;
use core::mem::MaybeUninit;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::FrameNumber;
use exo_abi::name::PAGE_SIZE;
use exo_abi::tables::{
    EnvEntry, FilterEntry, FrameEntry, MOVES, Move, RingEntry, SYSTEM_MAGIC, SliceEntry,
    Statistics, SystemWord, VERSION,
};
use exo_core::{
    Board, CpuCell, EnvCell, Environment, Exposed, FILTERS, Kernel, Lists, RESERVATIONS, RINGS,
    SHAPES, Storage,
};
use packet_filters::{Line, Link, Memory, Shape, lines_for};
use secure_bindings::{FrameRecord, FrameTable, FreeMap};
use spin::{Mutex, MutexGuard};

/// Environment slots.
const ENVIRONMENTS: usize = 256;
/// Slice positions of each CPU.
const POSITIONS: usize = 64;
/// Filters that are no reservations.
const PLACES: usize = FILTERS - RESERVATIONS;
/// The length of a slice in nanoseconds.
const SLICE: u64 = 1_000_000;

/// What is mapped, memory or not, before the kernel has tables of its own.
const BOOT_MAP: u64 = 1 << 32;
/// What is said when early memory runs out.
const SHORT: &str = "too little memory for the kernel's tables";

/// The kernel's lists, taken once.
static LISTS: Mutex<Lists> = Mutex::new(Lists::EMPTY);

/// What [`build`] leaves for the first environment.
struct Tables {
    board: &'static Board<'static>,
    storage: Storage<'static>,
    frames: usize,
}

/// Called by the first instructions, with the physical address of what PVH passes.
pub(crate) extern "sysv64" fn main(start_info: u64) -> ! {
    // SAFETY: the address is the boot loader's; the boot tables map the first 4 GiB.
    let boot = unsafe { BootInformation::read(start_info) };
    let Some(boot) = boot else { panic!("no start info: boot by PVH, as QEMU -kernel does") };
    let Some(mut early) = EarlyMemory::new(&boot) else { panic!("no usable memory") };
    let (hardware, (serial, network), storage) = bring_up(&boot, &mut early);
    let system = System::install(hardware);
    let hardware = &system.hardware;
    let (jit, handlers) = (Jit::new(), Handlers::new());
    let devices = Devices { hardware, serial, network, jit, handlers, written: 0 };
    let mut kernel = Kernel::new(hardware, devices, storage);
    early.for_each_free(&boot, |frame| kernel.add_free(frame));
    let Some(module) = boot.module() else { panic!("no boot module: pass one with -initrd") };
    let first = FrameNumber((module.start / PAGE_SIZE) as u32);
    let frames = (module.end - module.start).div_ceil(PAGE_SIZE);
    if let Err(error) = kernel.start_first(first, frames) {
        panic!("the boot module cannot be started: {error:?}");
    }
    system.start(kernel);
    processors::release();
    entry::join(PerCpu::here())
}

/// Sets the machine up and takes memory for the kernel.
fn bring_up(
    boot: &BootInformation,
    early: &mut EarlyMemory,
) -> (Hardware, (Serial, Option<NetworkDevice>), Storage<'static>) {
    let vector_state = cpu::initialise();
    // SAFETY: nobody else uses the port.
    let mut serial = unsafe { Serial::new() };
    // Before there are tables of our own, because the boot tables map all that firmware may have
    // written its tables to.
    let found = find_processors(boot, &mut serial);
    let Ok((mut tables, stacks)) = build_tables(boot, early, found.identities().len().max(1))
    else {
        panic!("{SHORT}")
    };
    let root = tables.activate();
    let Some((blocks, interrupts)) = prepare_blocks(early, stacks) else { panic!("{SHORT}") };
    // SAFETY: the block is prepared, and the first is this CPU's.
    unsafe { cpu::settle(&blocks[0], interrupts) };
    // SAFETY: the controller's registers were mapped with the tables, which are never changed.
    let apic = unsafe { LocalApic::new() };
    blocks[0].set_identity(apic.identity());
    let (clock, timer) = Clock::measure(|| apic.count());
    let apic = apic.start_timer(timer);
    let shared = Shared { blocks, interrupts, apic };
    let cpus = processors::start(boot, &found, root, &clock, shared, &mut serial);
    let Ok((system_page, built)) = build(boot, &mut tables, early, cpus) else { panic!("{SHORT}") };
    let (network, wiring) = network::transport(boot).unzip();
    // First the way, then the device: what is raised at a masked input is forgotten, and a line
    // that stays raised is no new edge.
    route(&apic, wiring);
    let network = network.and_then(|transport| NetworkDevice::new(transport, early));
    store(system_page, SystemWord::TscFrequency, &[clock.frequency, clock.start]);
    let hardware = Hardware {
        board: built.board,
        clock,
        apic,
        cpus: &blocks[..cpus],
        format: Format::new(vector_state),
        root,
        frames: built.frames,
    };
    (hardware, (serial, network), built.storage)
}

/// All memory of the machine, for what firmware has written there.
struct FirmwareMemory;

impl acpi::Memory for FirmwareMemory {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(length as u64)?;
        // SAFETY: the boot tables map all addresses below `BOOT_MAP` in the direct map, and are
        // current until `bring_up` activates others, which is behind the only use; nothing writes
        // there before. Where there is no memory, all bits are set.
        (end <= BOOT_MAP).then(|| unsafe { slice::from_raw_parts(physical(address), length) })
    }
}

/// The processors that firmware knows, or none if it says nothing that can be believed.
fn find_processors(boot: &BootInformation, serial: &mut Serial) -> Processors {
    let Some(rsdp) = boot.rsdp() else {
        let _ = writeln!(serial, "[kernel] no ACPI: one processor is used");
        return Processors::none();
    };
    acpi::processors(&FirmwareMemory, rsdp).unwrap_or_else(|| {
        let _ = writeln!(serial, "[kernel] ACPI's tables are no use: one processor is used");
        Processors::none()
    })
}

/// The stack for entries and the stacks of their own that some vectors have.
type Stacks = (u64, [u64; 3]);

/// The kernel's page tables with the devices' registers, and the stacks of each CPU.
fn build_tables(
    boot: &BootInformation,
    early: &mut EarlyMemory,
    cpus: usize,
) -> Result<(KernelTables, [Option<Stacks>; PROCESSORS]), MappingError> {
    let mut tables = KernelTables::new(early, boot.regions())?;
    for device in [apic::LOCAL, apic::INPUT_OUTPUT] {
        tables.map_device(early, device)?;
    }
    network::map_registers(boot, &mut tables, early)?;
    let mut stacks = [None; PROCESSORS];
    for place in stacks.iter_mut().take(cpus) {
        let entries = tables.stack(early, ENTRY_STACK)?;
        let mut last = || tables.stack(early, LAST_STACK);
        *place = Some((entries, [last()?, last()?, last()?]));
    }
    Ok((tables, stacks))
}

/// A block for each CPU that has stacks, and the gates that all share.
fn prepare_blocks(
    early: &mut EarlyMemory,
    stacks: [Option<Stacks>; PROCESSORS],
) -> Option<(&'static [PerCpu], &'static Interrupts)> {
    // What is a page comes first, and then what a switch touches: see `build_board`.
    let [interrupts] = early.slice(1, Interrupts::new)? else { return None };
    interrupts.fill();
    let blocks = early.slice(stacks.iter().flatten().count(), PerCpu::new)?;
    for ((number, block), (stack, own)) in (0..).zip(&mut *blocks).zip(stacks.iter().flatten()) {
        // SAFETY: the block is early memory, which is never given back.
        unsafe { block.prepare(number, *stack, *own) };
    }
    Some((blocks, interrupts))
}

/// Sends the interrupts of the devices to this CPU.
fn route(apic: &LocalApic, network: Option<Wiring>) {
    let cpu = apic.identity();
    // SAFETY: the controller's registers are mapped, and this is their only use.
    unsafe {
        apic::route(serial::INPUT, apic::SERIAL, cpu, false);
        if let Some(Wiring { inputs, level }) = network {
            for input in inputs {
                apic::route(input, apic::NETWORK, cpu, level);
            }
        }
    }
}

/// Takes memory for the kernel's state and the tables that programs can read.
fn build(
    boot: &BootInformation,
    tables: &mut KernelTables,
    early: &mut EarlyMemory,
    cpus: usize,
) -> Result<(&'static [AtomicU64], Tables), MappingError> {
    let end = boot.regions().iter().map(|region| region.end).max().unwrap_or(0);
    let frames = (end / PAGE_SIZE) as usize;
    // Behind the system page, which names them in this order, what every switch writes to comes first.
    let shapes = [
        (1, PAGE_SIZE as usize),
        (cpus, size_of::<Statistics>()),
        (ENVIRONMENTS, size_of::<EnvEntry>()),
        (POSITIONS * cpus, size_of::<SliceEntry>()),
        (FILTERS, size_of::<FilterEntry>()),
        (RINGS, size_of::<RingEntry>()),
        (MOVES, size_of::<Move>()),
        (frames, size_of::<FrameEntry>()),
    ];
    let words = shapes.iter().map(|(count, size)| count * size / 8).sum();
    let (mut rest, range) = early.words(words).ok_or(MappingError)?;
    let mut address = tables.expose(early, range)?;
    let parts = shapes.map(|(count, entry_size)| {
        let reference = [address, count as u64, entry_size as u64];
        let (words, behind) = rest.split_at(count * entry_size / 8);
        rest = behind;
        address += words.len() as u64 * 8;
        (words, reference)
    });
    let [system, statistics, environments, slices, filters, rings, moves, frame_words] =
        parts.map(|(words, _)| words);
    let shape = [SLICE, cpus as u64, POSITIONS as u64, frames as u64];
    store(system, SystemWord::Magic, &[SYSTEM_MAGIC, VERSION]);
    store(system, SystemWord::Slice, &shape);
    store(
        system,
        SystemWord::Statistics,
        parts.map(|(_, reference)| reference)[1..].as_flattened(),
    );
    let exposed = Exposed { system, filters, rings, moves };
    let board =
        build_board(early, exposed, [statistics, environments, slices]).ok_or(MappingError)?;
    let records = early.slice(frames, || FrameRecord::EMPTY).ok_or(MappingError)?;
    let free = early.slice(FreeMap::words_for(frames), || 0).ok_or(MappingError)?;
    let spaces = early.slice(ENVIRONMENTS, || None).ok_or(MappingError)?;
    let storage = Storage {
        frames: FrameTable::new(frame_words, records, free),
        spaces,
        environments: early.slice(ENVIRONMENTS, || Environment::EMPTY).ok_or(MappingError)?,
        board,
        lists: MutexGuard::leak(LISTS.lock()),
        // As much as there are filters: what an environment may use of it is in its contract.
        filters: Memory {
            lines: early.slice(lines_for(PLACES), Line::default).ok_or(MappingError)?,
            links: early.slice(PLACES, || Link::FREE).ok_or(MappingError)?,
            shapes: early.slice(SHAPES, || Shape::FREE).ok_or(MappingError)?,
        },
        secret: core::array::from_fn(|_| cpu::random()),
    };
    Ok((system, Tables { board, storage, frames }))
}

/// The cells of the environments and of the CPUs, right behind the blocks of the CPUs: what a switch
/// touches is on few pages. What is owed is looked at when a slice was late, and lies elsewhere.
fn build_board(
    early: &mut EarlyMemory,
    exposed: Exposed<'static>,
    [statistics, environments, slices]: [&'static [AtomicU64]; 3],
) -> Option<&'static Board<'static>> {
    let parts = statistics.as_chunks().0.iter().zip(slices.chunks_exact(POSITIONS)).enumerate();
    let (owed, _) = early.words(ENVIRONMENTS * slices.len() / POSITIONS)?;
    let parts = parts.zip(owed.chunks_exact(ENVIRONMENTS));
    let cpus = early.collect(parts.map(|((number, (statistics, slices)), owed)| {
        CpuCell::new(number, statistics, slices, owed)
    }))?;
    // The board comes before the cells, of which there are many.
    let [board] = early.collect(iter::once(MaybeUninit::uninit()))? else { return None };
    let cells = early.collect(environments.as_chunks().0.iter().map(EnvCell::new))?;
    Some(board.write(Board::new(cells, cpus, exposed, SLICE)))
}

/// Writes words of the system page, from this one on.
fn store(words: &[AtomicU64], first: SystemWord, values: &[u64]) {
    for (word, &value) in words[first as usize..].iter().zip(values) {
        word.store(value, Ordering::Relaxed);
    }
}
