//! PCI configuration space, by the two ports that every PC has.

use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::virtio_device_type;
use x86_64::instructions::port::Port;

/// The inputs of the I/O interrupt controller that PCI devices can be wired to.
pub(crate) const INPUTS: core::ops::RangeInclusive<u8> = 16..=23;

/// Access to the configuration space.
#[derive(Debug)]
pub(crate) struct Ports(());

fn select(function: DeviceFunction, register: u8) {
    let address = 1 << 31
        | u32::from(function.bus) << 16
        | u32::from(function.device) << 11
        | u32::from(function.function) << 8
        | u32::from(register & 0xfc);
    // SAFETY: selects a register, which has no other effect.
    unsafe { Port::new(0xcf8).write(address) };
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        select(function, register);
        // SAFETY: reading configuration space has no effect.
        unsafe { Port::new(0xcfc).read() }
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, data: u32) {
        select(function, register);
        // SAFETY: the callers set commands and base addresses of devices that the kernel drives.
        unsafe { Port::new(0xcfc).write(data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self(())
    }
}

/// The configuration space of the machine.
///
/// # Safety
/// Nobody else may use the two ports.
pub(crate) unsafe fn root() -> PciRoot<Ports> {
    PciRoot::new(Ports(()))
}

/// The first virtio network device, switched on.
pub(crate) fn find_network(root: &mut PciRoot<Ports>) -> Option<DeviceFunction> {
    let (function, _) = root
        .enumerate_bus(0)
        .find(|(_, info)| virtio_device_type(info) == Some(DeviceType::Network))?;
    root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER);
    Some(function)
}
