//! The local and the I/O interrupt controllers.

use super::layout::DEVICES;
use core::ptr::NonNull;
use x86_64::instructions::port::Port;

/// Physical address of the local controller's registers.
pub(crate) const LOCAL: u64 = 0xfee0_0000;
/// Physical address of the I/O controller's registers.
pub(crate) const INPUT_OUTPUT: u64 = 0xfec0_0000;

/// The vector of the timer.
pub(crate) const TIMER: u8 = 32;
/// The vector of the serial port.
pub(crate) const SERIAL: u8 = 33;
/// The vector of the network device.
pub(crate) const NETWORK: u8 = 34;
/// The vector of interrupts that nobody raised.
pub(crate) const SPURIOUS: u8 = 255;

const IDENTITY: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS_VECTOR: usize = 0xf0;
const COMMAND: usize = 0x300;
const TIMER_ENTRY: usize = 0x320;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const TO_ITSELF: u32 = 1 << 18;

/// The local controller of the CPU that runs.
#[derive(Debug)]
pub(crate) struct LocalApic {
    registers: NonNull<u32>,
    /// Ticks of the timer per second.
    frequency: u64,
}

// SAFETY: the pointer leads to registers that are mapped for ever; every CPU sees its own there.
unsafe impl Send for LocalApic {}

impl LocalApic {
    /// Turns the controller on, with its timer stopped, and the old 8259s off.
    ///
    /// # Safety
    /// The registers must be mapped at [`DEVICES`].
    pub(crate) unsafe fn new() -> Option<Self> {
        for port in [0x21, 0xa1] {
            // SAFETY: masks all inputs of the 8259.
            unsafe { Port::<u8>::new(port).write(0xff) };
        }
        let registers = NonNull::new((DEVICES + LOCAL) as *mut u32)?;
        let mut apic = Self { registers, frequency: 1 };
        apic.write(SPURIOUS_VECTOR, 0x100 | u32::from(SPURIOUS));
        apic.write(TASK_PRIORITY, 0);
        apic.write(DIVIDE, 0b1011);
        apic.write(TIMER_ENTRY, MASKED | u32::from(TIMER));
        apic.write(INITIAL_COUNT, u32::MAX);
        Some(apic)
    }

    fn read(&self, register: usize) -> u32 {
        // SAFETY: the register is one of the constants above, inside the page of registers.
        unsafe { self.registers.byte_add(register).read_volatile() }
    }

    fn write(&mut self, register: usize, value: u32) {
        // SAFETY: as in `read`; the values stop, start and acknowledge interrupts.
        unsafe { self.registers.byte_add(register).write_volatile(value) };
    }

    /// The controller's number, for the I/O controller to send interrupts to.
    pub(crate) fn identity(&self) -> u8 {
        (self.read(IDENTITY) >> 24) as u8
    }

    /// The timer's count, which goes down.
    pub(crate) fn count(&self) -> u32 {
        self.read(CURRENT_COUNT)
    }

    /// Lets the timer interrupt, now that its ticks per second are known.
    pub(crate) fn start_timer(&mut self, frequency: u64) {
        self.frequency = frequency;
        self.write(INITIAL_COUNT, 0);
        self.write(TIMER_ENTRY, TIMER.into());
    }

    /// Interrupts once, in this many nanoseconds.
    pub(crate) fn interrupt_in(&mut self, nanoseconds: u64) {
        let ticks = u128::from(nanoseconds) * u128::from(self.frequency) / 1_000_000_000;
        self.write(INITIAL_COUNT, u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
    }

    /// Interrupts this CPU.
    pub(crate) fn raise(&mut self, vector: u8) {
        self.write(COMMAND, TO_ITSELF | u32::from(vector));
    }

    /// Acknowledges the interrupt that is being handled.
    pub(crate) fn acknowledge(&mut self) {
        self.write(END_OF_INTERRUPT, 0);
    }
}

/// Sends an input of the I/O controller to a vector on a CPU.
///
/// # Safety
/// The registers must be mapped at [`DEVICES`], and nobody else may use them.
pub(crate) unsafe fn route(input: u8, vector: u8, cpu: u8, level: bool) {
    let select = (DEVICES + INPUT_OUTPUT) as *mut u32;
    let window = (DEVICES + INPUT_OUTPUT + 0x10) as *mut u32;
    let register = 0x10 + 2 * u32::from(input);
    let low = u32::from(vector) | if level { LEVEL } else { 0 };
    // SAFETY: the caller's promise; the controller has two registers for each input.
    unsafe {
        select.write_volatile(register + 1);
        window.write_volatile(u32::from(cpu) << 24);
        select.write_volatile(register);
        window.write_volatile(low);
    }
}
