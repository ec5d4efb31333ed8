//! The 16550 serial port: the console.

use core::fmt;
use x86_64::instructions::port::Port;

const BASE: u16 = 0x3f8;
/// The input of the I/O interrupt controller that it is wired to.
pub(crate) const INPUT: u8 = 4;
const DATA_READY: u8 = 1;
const CAN_SEND: u8 = 1 << 5;
/// Bytes that fit in the transmitter when it is empty.
const FIFO: usize = 16;
/// How often the transmitter is looked at before bytes are dropped: a console that takes nothing
/// must not stop the machine.
const PATIENCE: u32 = 100_000;

fn port(register: u16) -> Port<u8> {
    Port::new(BASE + register)
}

/// The serial port.
#[derive(Debug)]
pub(crate) struct Serial(());

impl Serial {
    /// Sets the port up, with an interrupt for each byte received.
    ///
    /// # Safety
    /// Nobody else may use the port, but for a panic.
    pub(crate) unsafe fn new() -> Self {
        let settings = [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 0xb), (1, 1)];
        for (register, value) in settings {
            // SAFETY: these registers set speed, format, queue and interrupts.
            unsafe { port(register).write(value) };
        }
        Self(())
    }

    /// A port that is already set up, for a panic: whoever used it does not go on.
    ///
    /// # Safety
    /// The kernel must not run any more.
    pub(crate) unsafe fn steal() -> Self {
        Self(())
    }

    /// Sends bytes; line ends become carriage return and line feed.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let mut room = 0;
        for &byte in bytes {
            if byte == b'\n' {
                self.send(b'\r', &mut room);
            }
            self.send(byte, &mut room);
        }
    }

    fn send(&mut self, byte: u8, room: &mut usize) {
        let mut patience = PATIENCE;
        while *room == 0 {
            // SAFETY: reading the line status has no effect on what is sent.
            if unsafe { port(5).read() } & CAN_SEND != 0 {
                *room = FIFO;
            }
            patience -= 1;
            if patience == 0 {
                return;
            }
        }
        *room -= 1;
        // SAFETY: the transmitter has room.
        unsafe { port(0).write(byte) };
    }

    /// The next byte received.
    pub(crate) fn read(&mut self) -> Option<u8> {
        // SAFETY: reading the data register takes the byte that the status says is there.
        unsafe { (port(5).read() & DATA_READY != 0).then(|| port(0).read()) }
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}
