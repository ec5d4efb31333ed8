//! The virtio network device.
//!
//! The transport is virtio-drivers'; queues and driver are our own: theirs chain descriptors anew for
//! each buffer, and ring the doorbell for each packet.

use crate::boot::memory::EarlyMemory;
use crate::boot::pvh::BootInformation;
use crate::drivers::pci;
use crate::drivers::queue::{Queue, ROOM, Taken};
use crate::x86_64::layout::DEVICES;
use crate::x86_64::paging::{KernelTables, MappingError};
use core::ptr::NonNull;
use exo_abi::Error;
use exo_abi::name::PAGE_SIZE;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceType, SomeTransport, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

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

/// Registers as virtio-drivers reaches them.
#[derive(Debug)]
struct Registers;

// SAFETY: registers are mapped from `DEVICES` on. Memory is never asked for: the queues are our own.
unsafe impl Hal for Registers {
    fn dma_alloc(_: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // The address 0 says that there is none.
        (0, NonNull::dangling())
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new((DEVICES + address) as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(_: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        0
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
    let transport = PciTransport::new::<Registers, _>(&mut root, function).ok()?;
    Some((transport.into(), Wiring { inputs: pci::INPUTS, level: true }))
}

/// What the driver keeps for receiving.
pub(crate) struct Receiver {
    queue: Queue,
    /// The buffer of the last packet.
    last: Option<Taken>,
}

impl Receiver {
    /// The next packet that has arrived, where the device has put it. The buffer of the one before
    /// is the device's again.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        if let Some(last) = self.last.take() {
            self.queue.offer(last, ROOM);
        }
        let (buffer, length) = self.queue.take()?;
        let buffer = self.last.insert(buffer);
        Some(self.queue.bytes(buffer).get(..length).unwrap_or_default())
    }
}

/// The network device.
pub(crate) struct NetworkDevice {
    transport: SomeTransport<'static>,
    /// Out while packets are taken from it.
    receiver: Option<&'static mut Receiver>,
    transmit: Queue,
    /// A buffer for the next packet.
    spare: Option<Taken>,
    /// How many packets the device has not been told of.
    queued: u64,
    address: [u8; 6],
}

// SAFETY: the pointers inside lead to registers that are the device's alone.
unsafe impl Send for NetworkDevice {}

impl NetworkDevice {
    /// Sets the device up and gives it all buffers for receiving.
    pub(crate) fn new(
        mut transport: SomeTransport<'static>,
        early: &mut EarlyMemory,
    ) -> Option<Self> {
        let features = transport.begin_init(Features::all());
        let mut address = [0; 6];
        for (index, byte) in address.iter_mut().enumerate() {
            *byte = transport.read_config_space::<u8>(index).ok()?;
        }
        // Devices of the drafts have a header without the count of buffers.
        let header = if features.contains(Features::VERSION_1) { 12 } else { 10 };
        let mut queue = Queue::new(&mut transport, (RECEIVE, header), true, early)?;
        let transmit = Queue::new(&mut transport, (TRANSMIT, header), false, early)?;
        transport.finish_init();
        while let Some((buffer, _)) = queue.take() {
            queue.offer(buffer, ROOM);
        }
        transport.notify(RECEIVE);
        let receiver = Receiver { queue, last: None };
        let receiver = early.collect(core::iter::once(receiver))?.first_mut();
        Some(Self { transport, receiver, transmit, spare: None, queued: 0, address })
    }

    /// The link address.
    pub(crate) fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Takes note of the device's interrupt, so that it may raise the next, and lends what packets are
    /// taken from.
    pub(crate) fn interrupted(&mut self) -> Option<&'static mut Receiver> {
        self.transport.ack_interrupt();
        self.receiver.take()
    }

    /// Takes back what was lent, and tells the device of the buffers that it has got.
    pub(crate) fn replenish(&mut self, receiver: &'static mut Receiver) {
        if receiver.queue.wants_notice() {
            self.transport.notify(RECEIVE);
        }
        self.receiver = Some(receiver);
    }

    /// Where the next packet that is sent will be, behind a header of zeros, which nobody has ever
    /// written to.
    pub(crate) fn spare(&mut self) -> Result<&mut [u8], Error> {
        if self.spare.is_none() {
            self.spare = self.transmit.take().map(|(buffer, _)| buffer);
        }
        let buffer = self.spare.as_ref().ok_or(Error::QueueFull)?;
        Ok(self.transmit.bytes(buffer))
    }

    /// Queues a packet of so many bytes, which `write` writes, or finds there.
    pub(crate) fn transmit(
        &mut self,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        write(&mut self.spare()?[..length])?;
        if let Some(buffer) = self.spare.take() {
            self.transmit.offer(buffer, length);
            self.queued += 1;
        }
        Ok(())
    }

    /// Tells the device of the packets that are queued, if there are any. Returns how many.
    pub(crate) fn doorbell(&mut self) -> u64 {
        if self.queued > 0 && self.transmit.wants_notice() {
            self.transport.notify(TRANSMIT);
        }
        core::mem::take(&mut self.queued)
    }
}
