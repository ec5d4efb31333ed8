//! The local and the I/O interrupt controllers.

use super::layout::DEVICES;
use core::hint::spin_loop;
use core::sync::atomic::{Ordering, fence};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

/// Physical address of the local controller's registers.
pub(crate) const LOCAL: u64 = 0xfee0_0000;
/// Physical address of the I/O controller's registers.
pub(crate) const INPUT_OUTPUT: u64 = 0xfec0_0000;

/// The vector of the timer. In a class of priorities over the devices', or packets that keep coming would
/// keep slices from ending.
pub(crate) const TIMER: u8 = 48;
/// The vector of the serial port.
pub(crate) const SERIAL: u8 = 33;
/// The vector of the network device.
pub(crate) const NETWORK: u8 = 34;
/// The vector by which a CPU asks for another's attention. The highest class of priorities, so
/// that it is next whatever else is pending: somebody waits for the answer.
pub(crate) const ATTENTION: u8 = 0xf0;
/// The vector of interrupts that nobody raised.
pub(crate) const SPURIOUS: u8 = 255;

const IDENTITY: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS_VECTOR: usize = 0xf0;
const COMMAND: usize = 0x300;
const COMMAND_TARGET: usize = 0x310;
const TIMER_ENTRY: usize = 0x320;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
/// In a command: resets the target; goes with [`ASSERT`].
const RESET: u32 = 0b101 << 8;
/// In a command: starts the target at the page whose number is the vector.
const START: u32 = 0b110 << 8;
const ASSERT: u32 = 1 << 14;
const TO_ITSELF: u32 = 1 << 18;
/// In the command register: the last command is still being delivered.
const PENDING: u32 = 1 << 12;
/// How often the command register is looked at before the last command counts as lost: a
/// controller that never delivers must not stop the machine.
const PATIENCE: u32 = 1 << 20;
/// The number by which a command that is not in x2APIC mode means everybody.
const XAPIC_EVERYBODY: u32 = 0xff;

/// The register that turns the local controller and its x2APIC mode on.
const BASE: Msr = Msr::new(0x1b);
const ENABLED: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;
/// The first of the model-specific registers that are the controller's in x2APIC mode.
const X2APIC_REGISTERS: u32 = 0x800;

/// The local controller of whichever CPU uses it: all find their own in the same place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalApic {
    /// The registers are model-specific ones, not memory.
    x2apic: bool,
    /// Ticks of the timer per nanosecond, with 32 binary places. All timers follow one clock.
    scale: u64,
}

impl LocalApic {
    /// Turns the old 8259s off and the controller of this CPU, the first, on. Its timer runs
    /// without interrupting, to be measured.
    ///
    /// # Safety
    /// The registers must be mapped at [`DEVICES`], and stay so for ever.
    pub(crate) unsafe fn new() -> Self {
        for port in [0x21, 0xa1] {
            // SAFETY: masks all inputs of the 8259.
            unsafe { Port::<u8>::new(port).write(0xff) };
        }
        // SAFETY: every 64-bit CPU has the register. Firmware chooses the mode, and leaves no way
        // back from x2APIC where there are CPUs that only that mode can name.
        let x2apic = unsafe { BASE.read() } & X2APIC != 0;
        let apic = Self { x2apic, scale: 1 };
        apic.initialise();
        apic.write(TIMER_ENTRY, MASKED | u32::from(TIMER));
        apic.write(INITIAL_COUNT, u32::MAX);
        apic
    }

    /// Lets the timer of this CPU, the first, interrupt, now that its ticks per second are known.
    /// The handle that is returned serves every CPU.
    pub(crate) fn start_timer(self, frequency: u64) -> Self {
        self.write(INITIAL_COUNT, 0);
        self.write(TIMER_ENTRY, TIMER.into());
        let scale = ((u128::from(frequency) << 32) / 1_000_000_000) as u64;
        Self { scale, ..self }
    }

    /// Whether this CPU can send anything to the one whose controller has this number.
    pub(crate) fn reaches(&self, identity: u32) -> bool {
        self.x2apic || identity < XAPIC_EVERYBODY
    }

    /// Turns the controller of this CPU on, in the mode that the first CPU's is in; the timer
    /// interrupts when it is told to. To be called once on each CPU.
    pub(crate) fn initialise(&self) {
        // SAFETY: as in `new`; the only mode that is turned on is the one that is in use.
        unsafe {
            let mut base = BASE;
            let value = base.read() | ENABLED | if self.x2apic { X2APIC } else { 0 };
            base.write(value);
        }
        self.write(SPURIOUS_VECTOR, 0x100 | u32::from(SPURIOUS));
        self.write(TASK_PRIORITY, 0);
        self.write(DIVIDE, 0b1011);
        self.write(INITIAL_COUNT, 0);
        self.write(TIMER_ENTRY, TIMER.into());
    }

    fn read(&self, register: usize) -> u32 {
        if self.x2apic {
            // SAFETY: the mode is on, and the register one of the constants above.
            return unsafe { Msr::new(X2APIC_REGISTERS + (register >> 4) as u32).read() } as u32;
        }
        let address = (DEVICES + LOCAL) as usize + register;
        // SAFETY: `new`'s caller says that the page of registers is mapped for ever; the register
        // is one of the constants above, inside the page.
        unsafe { (address as *const u32).read_volatile() }
    }

    fn write(&self, register: usize, value: u32) {
        if self.x2apic {
            // SAFETY: as in `read`; the values stop, start, send and acknowledge interrupts.
            unsafe {
                Msr::new(X2APIC_REGISTERS + (register >> 4) as u32).write(value.into());
            }
            return;
        }
        let address = (DEVICES + LOCAL) as usize + register;
        // SAFETY: as above.
        unsafe { (address as *mut u32).write_volatile(value) };
    }

    /// The controller's number, for others to send interrupts to.
    pub(crate) fn identity(&self) -> u32 {
        let identity = self.read(IDENTITY);
        if self.x2apic { identity } else { identity >> 24 }
    }

    /// The timer's count, which goes down.
    pub(crate) fn count(&self) -> u32 {
        self.read(CURRENT_COUNT)
    }

    /// The ticks of the timer in this many nanoseconds, or as many as it can count.
    pub(crate) fn ticks(&self, nanoseconds: u64) -> u32 {
        // Never too early, which would cost a second interrupt.
        let ticks = ((u128::from(nanoseconds) * u128::from(self.scale)) >> 32) + 1;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Interrupts once, in this many nanoseconds.
    pub(crate) fn interrupt_in(&self, nanoseconds: u64) {
        self.write(INITIAL_COUNT, self.ticks(nanoseconds));
    }

    /// The address of the register to which the timer's ticks are written; 0 if it is not in memory.
    pub(crate) fn timer_register(&self) -> u64 {
        if self.x2apic { 0 } else { DEVICES + LOCAL + INITIAL_COUNT as u64 }
    }

    /// Interrupts this CPU.
    pub(crate) fn raise(&self, vector: u8) {
        self.command(0, TO_ITSELF | u32::from(vector));
    }

    /// Interrupts the CPU whose controller has this number. Returns before it has noticed.
    pub(crate) fn send(&self, identity: u32, vector: u8) {
        self.command(identity, ASSERT | u32::from(vector));
    }

    /// Resets another CPU, which then waits for [`LocalApic::start`].
    pub(crate) fn reset(&self, identity: u32) {
        self.command(identity, RESET | ASSERT);
    }

    /// Starts another CPU, which was reset, in real mode at a page below 1 MiB.
    pub(crate) fn start(&self, identity: u32, page: u64) {
        self.command(identity, START | ASSERT | (page >> 12) as u32 & 0xff);
    }

    /// Gives the controller a command. Interrupts are off in the kernel, so that nothing comes
    /// between the two halves.
    fn command(&self, target: u32, command: u32) {
        if self.x2apic {
            let value = u64::from(target) << 32 | u64::from(command);
            // What was written before must be seen by the target; this write alone waits for none.
            fence(Ordering::SeqCst);
            // SAFETY: as in `write`; in this mode the command register is one of 64 bits.
            unsafe { Msr::new(X2APIC_REGISTERS + (COMMAND >> 4) as u32).write(value) };
            return;
        }
        let mut patience = PATIENCE;
        while self.read(COMMAND) & PENDING != 0 && patience > 0 {
            patience -= 1;
            spin_loop();
        }
        self.write(COMMAND_TARGET, target << 24);
        self.write(COMMAND, command);
    }

    /// Acknowledges the interrupt that is being handled.
    pub(crate) fn acknowledge(&self) {
        self.write(END_OF_INTERRUPT, 0);
    }
}

/// Sends an input of the I/O controller to a vector on a CPU.
///
/// # Safety
/// The registers must be mapped at [`DEVICES`], and nobody else may use them.
pub(crate) unsafe fn route(input: u8, vector: u8, cpu: u32, level: bool) {
    let select = (DEVICES + INPUT_OUTPUT) as *mut u32;
    let window = (DEVICES + INPUT_OUTPUT + 0x10) as *mut u32;
    let register = 0x10 + 2 * u32::from(input);
    let low = u32::from(vector) | if level { LEVEL } else { 0 };
    // SAFETY: the caller's promise; the controller has two registers for each input.
    unsafe {
        select.write_volatile(register + 1);
        window.write_volatile(cpu << 24);
        select.write_volatile(register);
        window.write_volatile(low);
    }
}
