//! What the kernel alone uses: the devices, and the code of the filters and that of the handlers.

use crate::drivers::network::NetworkDevice;
use crate::drivers::serial::Serial;
use crate::handler::Handlers;
use crate::hardware::Hardware;
use crate::jit::Jit;
use crate::shootdown::flush_everything;
use crate::x86_64::cpu::PerCpu;
use core::sync::atomic::Ordering::Relaxed;
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
    /// How often code was written.
    pub(crate) written: u64,
}

impl Devices {
    /// Makes this CPU see the code as it is now. To be called before it runs any, under the kernel's
    /// lock: only then it does not change any more.
    pub(crate) fn see_code(&self) {
        if PerCpu::here().code.swap(self.written, Relaxed) != self.written {
            flush_everything();
        }
    }
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
        self.written += 1;
        self.jit.load(filters);
    }

    fn classify(&self, filters: &FilterSet<'_>, packet: &[u8]) -> Option<u32> {
        self.jit.classify(filters, packet)
    }

    fn load_handler(&mut self, ring: usize, program: &[u8]) -> bool {
        self.written += 1;
        self.handlers.load(ring, program)
    }

    fn run_handler(&mut self, ring: usize, arrival: &Arrival<'_>) -> Handled {
        let state = self.hardware.bytes(arrival.state);
        self.handlers.run(self.network.as_mut(), ring, arrival, state)
    }
}
