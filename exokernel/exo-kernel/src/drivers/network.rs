//! The virtio network device.
//!
//! The queues and the transport are virtio-drivers'; the driver is our own, because theirs rings
//! the doorbell for each packet. Event indices are not negotiated: `should_notify` compares them
//! without regard to their wrapping.

use crate::boot::memory::EarlyMemory;
use crate::boot::pvh::BootInformation;
use crate::drivers::pci;
use crate::x86_64::layout::{DEVICES, DIRECT_MAP, physical};
use crate::x86_64::paging::{KernelTables, MappingError};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_abi::Error;
use exo_abi::name::PAGE_SIZE;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceType, SomeTransport, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// The entries of each queue.
const ENTRIES: usize = 128;
/// The bytes of each buffer: a header and the longest packet.
pub(crate) const BUFFER: usize = 2048;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Pages that the queues themselves take, at most.
const QUEUE_PAGES: u64 = 16;

bitflags::bitflags! {
    /// What the driver asks for.
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        /// The device knows its address.
        const MAC = 1 << 5;
        /// It follows the standard, not its drafts.
        const VERSION_1 = 1 << 32;
    }
}

/// Frames for the queues, `next << 32 | end`: handed out once and never given back.
static QUEUE_MEMORY: AtomicU64 = AtomicU64::new(0);

/// Memory as virtio-drivers sees it.
#[derive(Debug)]
struct DirectMemory;

// SAFETY: the frames come from early memory, each is handed out once, cleared, and mapped in the
// direct map for ever.
unsafe impl Hal for DirectMemory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let taken = QUEUE_MEMORY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |range| {
            let (next, end) = (range >> 32, range & u64::from(u32::MAX));
            let after = next + pages as u64;
            (after <= end).then_some((after << 32) | end)
        });
        // 0 tells virtio-drivers that there is none.
        let address = taken.map_or(0, |range| (range >> 32) * PAGE_SIZE);
        (address, NonNull::new(physical(address)).unwrap_or(NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new((DEVICES + address) as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.addr().get() as u64 - DIRECT_MAP
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// Maps the registers of all devices that the network device may be one of. They can be used when
/// the tables are current.
pub(crate) fn map_registers(
    boot: &BootInformation,
    tables: &mut KernelTables,
    early: &mut EarlyMemory,
) -> Result<(), MappingError> {
    for window in windows(boot) {
        tables.map_device(early, window.address)?;
    }
    // SAFETY: this is the only use of the configuration ports at this time.
    let mut root = unsafe { pci::root() };
    let Some(function) = pci::find_network(&mut root) else { return Ok(()) };
    let bars = root.bars(function).map_err(|_| MappingError)?;
    for (address, size) in bars.iter().flatten().filter_map(|bar| bar.memory_address_size()) {
        for page in (address..address + size).step_by(PAGE_SIZE as usize) {
            tables.map_device(early, page)?;
        }
    }
    Ok(())
}

/// The network device's transport, over memory-mapped registers or PCI, when its registers are
/// mapped.
pub(crate) fn transport(boot: &BootInformation) -> Option<(SomeTransport<'static>, Wiring)> {
    windows(boot).find_map(mmio_transport).or_else(pci_transport)
}

/// The inputs of the I/O interrupt controller that a device may be wired to.
#[derive(Clone, Debug)]
pub(crate) struct Wiring {
    /// The inputs.
    pub(crate) inputs: core::ops::RangeInclusive<u8>,
    /// Whether they are levels, not edges.
    pub(crate) level: bool,
}

/// A device's registers in memory, and the input that it is wired to.
#[derive(Clone, Copy)]
struct Window {
    address: u64,
    size: usize,
    input: u8,
}

/// Each `virtio_mmio.device=SIZE@ADDRESS:IRQ` of the command line, as QEMU and Linux write it.
fn windows(boot: &BootInformation) -> impl Iterator<Item = Window> {
    boot.words().filter_map(|word| {
        let (size, rest) = word.strip_prefix("virtio_mmio.device=")?.split_once('@')?;
        let (address, input) = rest.split_once(':')?;
        let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
        Some(Window { address, size: size.parse().ok()?, input: input.parse().ok()? })
    })
}

fn mmio_transport(window: Window) -> Option<(SomeTransport<'static>, Wiring)> {
    let header = NonNull::new((DEVICES + window.address) as *mut VirtIOHeader)?;
    // SAFETY: QEMU says that a device's registers are there; they are mapped, and no other driver
    // uses them.
    let transport = unsafe { MmioTransport::new(header, window.size) }.ok()?;
    let network = transport.device_type() == DeviceType::Network;
    let wiring = Wiring { inputs: window.input..=window.input, level: false };
    network.then(|| (transport.into(), wiring))
}

fn pci_transport() -> Option<(SomeTransport<'static>, Wiring)> {
    // SAFETY: as in `map_registers`.
    let mut root = unsafe { pci::root() };
    let function = pci::find_network(&mut root)?;
    let transport = PciTransport::new::<DirectMemory, _>(&mut root, function).ok()?;
    Some((transport.into(), Wiring { inputs: pci::INPUTS, level: true }))
}

/// A buffer of one of the queues.
type Buffer = [u8; BUFFER];

/// A queue with a buffer for each entry. The queue chooses the tokens, so that which buffer goes
/// with a token is only known afterwards.
struct Buffers {
    queue: VirtQueue<DirectMemory, ENTRIES>,
    memory: &'static mut [Buffer],
    /// The buffer that was queued under each token.
    queued: [u8; ENTRIES],
    /// How many bytes of it.
    lengths: [u16; ENTRIES],
    /// The buffers that are not queued.
    free: [u8; ENTRIES],
    free_count: usize,
}

const _: () = assert!(ENTRIES <= 256, "a buffer's number is a byte");

impl Buffers {
    fn new(
        transport: &mut SomeTransport<'static>,
        index: u16,
        early: &mut EarlyMemory,
    ) -> Option<Self> {
        Some(Self {
            queue: VirtQueue::new(transport, index, false, false).ok()?,
            memory: early.slice(ENTRIES, || [0; BUFFER])?,
            queued: [0; ENTRIES],
            lengths: [0; ENTRIES],
            free: core::array::from_fn(|index| index as u8),
            free_count: ENTRIES,
        })
    }

    /// Remembers which buffer was queued.
    fn note(&mut self, token: u16, buffer: u8, length: usize) {
        self.free_count -= 1;
        self.queued[usize::from(token)] = buffer;
        self.lengths[usize::from(token)] = length as u16;
    }

    /// A buffer that is not queued.
    fn next(&self) -> Option<u8> {
        self.free_count.checked_sub(1).map(|last| self.free[last])
    }

    /// Takes back a buffer.
    fn release(&mut self, buffer: u8) {
        self.free[self.free_count] = buffer;
        self.free_count += 1;
    }

    /// Queues all free buffers for the device to fill.
    fn offer_all(&mut self) {
        while let Some(buffer) = self.next() {
            let memory = &mut self.memory[usize::from(buffer)];
            // SAFETY: the buffer is not touched before `take_filled` has taken it out.
            let token = unsafe { self.queue.add(&[], &mut [memory.as_mut_slice()]) };
            let Ok(token) = token else { return };
            self.note(token, buffer, BUFFER);
        }
    }

    /// A buffer that the device has filled, and how many bytes.
    fn take_filled(&mut self) -> Option<(u8, usize)> {
        let token = self.queue.peek_used()?;
        let buffer = *self.queued.get(usize::from(token))?;
        let memory = &mut self.memory[usize::from(buffer)];
        // SAFETY: the buffer is the one that was queued under the token.
        let length = unsafe { self.queue.pop_used(token, &[], &mut [memory.as_mut_slice()]) };
        Some((buffer, length.ok()? as usize))
    }

    /// Takes back what the device has sent.
    fn take_sent(&mut self) {
        while let Some(token) = self.queue.peek_used() {
            let Some(&buffer) = self.queued.get(usize::from(token)) else { return };
            let length = usize::from(self.lengths[usize::from(token)]);
            let memory = &self.memory[usize::from(buffer)][..length];
            // SAFETY: the bytes are those that were queued under the token.
            if unsafe { self.queue.pop_used(token, &[memory], &mut []) }.is_err() {
                return;
            }
            self.release(buffer);
        }
    }

    /// Queues a packet behind a header of zeros.
    fn send(&mut self, header: usize, packet: &[u8]) -> Result<(), Error> {
        let buffer = self.next().ok_or(Error::QueueFull)?;
        let length = header + packet.len();
        let memory = self.memory[usize::from(buffer)].get_mut(..length);
        let memory = memory.ok_or(Error::QueueFull)?;
        memory[..header].fill(0);
        memory[header..].copy_from_slice(packet);
        // SAFETY: the buffer is not touched before `take_sent` has taken it out.
        let token = unsafe { self.queue.add(&[memory], &mut []) };
        self.note(token.map_err(|_| Error::QueueFull)?, buffer, length);
        Ok(())
    }
}

/// The network device.
pub(crate) struct NetworkDevice {
    transport: SomeTransport<'static>,
    receive: Buffers,
    transmit: Buffers,
    /// The bytes before each packet.
    header: usize,
    address: [u8; 6],
}

// SAFETY: the pointers inside lead to queues, buffers and registers that are the device's alone.
unsafe impl Send for NetworkDevice {}

impl NetworkDevice {
    /// Sets the device up and gives it all buffers for receiving.
    pub(crate) fn new(
        mut transport: SomeTransport<'static>,
        early: &mut EarlyMemory,
    ) -> Option<Self> {
        let first = u64::from(early.frames(QUEUE_PAGES)?.0);
        QUEUE_MEMORY.store((first << 32) | (first + QUEUE_PAGES), Ordering::Relaxed);
        let features = transport.begin_init(Features::all());
        let mut address = [0; 6];
        for (index, byte) in address.iter_mut().enumerate() {
            *byte = transport.read_config_space::<u8>(index).ok()?;
        }
        let mut receive = Buffers::new(&mut transport, RECEIVE, early)?;
        let mut transmit = Buffers::new(&mut transport, TRANSMIT, early)?;
        transport.finish_init();
        receive.offer_all();
        transmit.queue.set_dev_notify(false);
        transport.notify(RECEIVE);
        // Devices of the drafts have a header without the count of buffers.
        let header = if features.contains(Features::VERSION_1) { 12 } else { 10 };
        Some(Self { transport, receive, transmit, header, address })
    }

    /// The link address.
    pub(crate) fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Takes note of the device's interrupt, so that it may raise the next.
    pub(crate) fn acknowledge(&mut self) {
        self.transport.ack_interrupt();
    }

    /// Takes a packet out: its length, and its bytes in `into`.
    pub(crate) fn receive(&mut self, into: &mut [u8; BUFFER]) -> Option<usize> {
        let (buffer, length) = self.receive.take_filled()?;
        let packet = self.receive.memory[usize::from(buffer)].get(self.header..length);
        let length = packet.map_or(0, |packet| {
            into[..packet.len()].copy_from_slice(packet);
            packet.len()
        });
        self.receive.release(buffer);
        Some(length)
    }

    /// Gives the buffers of packets that were taken out back to the device.
    pub(crate) fn replenish(&mut self) {
        self.receive.offer_all();
        if self.receive.queue.should_notify() {
            self.transport.notify(RECEIVE);
        }
    }

    /// Queues a packet.
    pub(crate) fn transmit(&mut self, packet: &[u8]) -> Result<(), Error> {
        self.transmit.take_sent();
        self.transmit.send(self.header, packet)
    }

    /// Tells the device that packets are queued.
    pub(crate) fn doorbell(&mut self) {
        if self.transmit.queue.should_notify() {
            self.transport.notify(TRANSMIT);
        }
    }
}
