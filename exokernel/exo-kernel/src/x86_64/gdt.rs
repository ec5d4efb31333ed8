//! Segments and the task state: what is left of segmentation in 64-bit mode.

use exo_core::{USER_CODE, USER_DATA};
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// The vectors that have a stack of their own, because the stack may be what is broken: the index
/// in the task state's table of stacks.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum OwnStack {
    NonMaskable = 1,
    DoubleFault = 2,
    MachineCheck = 3,
}

/// The selectors of the kernel's segments and of the task state, which takes two places.
const CODE: u16 = 8;
const DATA: u16 = 16;
const TASK: u16 = 40;

/// The descriptor table and the task state of one CPU.
pub(crate) struct Segments {
    table: GlobalDescriptorTable<8>,
    task: TaskStateSegment,
}

impl Segments {
    /// Empty ones, before [`Segments::fill`].
    pub(crate) const fn new() -> Self {
        Self { table: GlobalDescriptorTable::empty(), task: TaskStateSegment::new() }
    }

    /// Fills the tables. `stack` is the end of the stack for entries, `own` those of the stacks in
    /// the order of [`OwnStack`].
    ///
    /// # Safety
    /// `self` must stay where it is for ever, because the tables hold the task state's address.
    pub(crate) unsafe fn fill(&mut self, stack: u64, own: [u64; 3]) {
        self.task.privilege_stack_table[0] = VirtAddr::new(stack);
        for (index, end) in own.into_iter().enumerate() {
            self.task.interrupt_stack_table[index] = VirtAddr::new(end);
        }
        let code = self.table.append(Descriptor::kernel_code_segment());
        let data = self.table.append(Descriptor::kernel_data_segment());
        let user_data = self.table.append(Descriptor::user_data_segment());
        let user_code = self.table.append(Descriptor::user_code_segment());
        // SAFETY: the caller's promise.
        let task = unsafe { Descriptor::tss_segment_unchecked(&raw const self.task) };
        let task = self.table.append(task);
        let selectors = [code, data, user_data, user_code, task].map(|selector| selector.0);
        assert_eq!(selectors, [CODE, DATA, USER_DATA as u16, USER_CODE as u16, TASK]);
    }

    /// Loads the tables, which are filled.
    pub(crate) fn load(&'static self) {
        self.table.load();
        // SAFETY: the selectors are those that `fill` has checked, and the table stays for ever.
        unsafe {
            CS::set_reg(SegmentSelector(CODE));
            SS::set_reg(SegmentSelector(DATA));
            DS::set_reg(SegmentSelector::NULL);
            ES::set_reg(SegmentSelector::NULL);
            load_tss(SegmentSelector(TASK));
        }
    }
}

/// Makes `syscall` enter at `entry` with the kernel's segments and interrupts off.
pub(crate) fn set_call_entry(entry: u64) {
    // What `sysret` loads is 8 and 16 behind the first of the two.
    // SAFETY: the segments are in the table in the order that `syscall` and `sysret` expect, and
    // `entry` is the entry code for calls.
    unsafe { Star::write_raw((USER_DATA - 8) as u16, 8) };
    LStar::write(VirtAddr::new(entry));
    let cleared = RFlags::INTERRUPT_FLAG
        | RFlags::TRAP_FLAG
        | RFlags::DIRECTION_FLAG
        | RFlags::ALIGNMENT_CHECK
        | RFlags::NESTED_TASK
        | RFlags::IOPL_LOW
        | RFlags::IOPL_HIGH;
    SFMask::write(cleared);
}
