//! What the kernel alone uses: the devices, and the code of the filters and that of the handlers.

use crate::drivers::network::NetworkDevice;
use crate::drivers::serial::Serial;
use crate::handler::Handlers;
use crate::hardware::Hardware;
use crate::jit::Jit;
use exo_abi::Error;
use exo_core::{Arrival, Handled};
use packet_filters::FilterSet;

/// All of it. The kernel has the only one.
pub(crate) struct Devices {
    pub(crate) hardware: &'static Hardware,
    pub(crate) serial: Serial,
    pub(crate) network: Option<NetworkDevice>,
    pub(crate) jit: Jit,
    pub(crate) handlers: Handlers,
}

impl exo_core::Devices for Devices {
    fn console_write(&mut self, bytes: &[u8]) {
        self.serial.write(bytes);
    }

    fn console_read(&mut self) -> Option<u8> {
        self.serial.read()
    }

    fn link_address(&self) -> Option<[u8; 6]> {
        self.network.as_ref().map(NetworkDevice::address)
    }

    fn transmit(
        &mut self,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.network.as_mut().ok_or(Error::NoDevice)?.transmit(length, write)
    }

    fn doorbell(&mut self) -> u64 {
        self.network.as_mut().map_or(0, NetworkDevice::doorbell)
    }

    fn load_classifier(&mut self, filters: &mut FilterSet<'_>) {
        self.jit.load(filters, || self.hardware.shoot_down_everything());
    }

    fn classify(&self, filters: &FilterSet<'_>, packet: &[u8]) -> Option<u32> {
        self.jit.classify(filters, packet)
    }

    fn load_handler(&mut self, ring: usize, program: &[u8]) -> bool {
        self.handlers.load(ring, program, || self.hardware.shoot_down_everything())
    }

    fn run_handler(&mut self, ring: usize, arrival: &Arrival<'_>) -> Handled {
        let state = self.hardware.bytes(arrival.state);
        self.handlers.run(self.network.as_mut(), ring, arrival, state)
    }
}
