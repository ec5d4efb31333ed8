//! The kernel's own page tables, built once at boot.
//!
//! - Nothing is writable and executable, by any of its addresses: the image's text and constants
//!   are read-only in the direct map too.
//! - All memory is in the direct map, with large pages but around the image. The image's text has
//!   large pages of its own.
//! - Device registers are uncached, at their physical address from [`DEVICES`] on.
//! - Below each stack is a page that isn't mapped.
//! - The tables that programs may read are in one top-level slot that every address space shares;
//!   they are written through the direct map.

use super::layout::{DEVICES, DIRECT_MAP, KERNEL_BASE, STACKS, physical};
use crate::boot::memory::{EarlyMemory, image};
use crate::boot::pvh::Range;
use exo_abi::FrameNumber;
use exo_abi::layout::SYSTEM;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags as Flags,
    PhysFrame, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

// SAFETY: the linker script defines both. Only their addresses are taken.
unsafe extern "C" {
    static rodata_start: u8;
    static data_start: u8;
}

const LARGE: u64 = Size2MiB::SIZE;
const PAGE: u64 = Size4KiB::SIZE;
/// The pages of the stack for the entries of a CPU.
pub(crate) const ENTRY_STACK: u64 = 16;
/// The pages of a stack for a vector that ends the machine.
pub(crate) const LAST_STACK: u64 = 4;

/// Memory is short, or a page was mapped twice.
#[derive(Debug)]
pub(crate) struct MappingError;

impl<S: PageSize> From<MapToError<S>> for MappingError {
    fn from(_: MapToError<S>) -> Self {
        Self
    }
}

// SAFETY: early memory hands out each frame once.
unsafe impl FrameAllocator<Size4KiB> for EarlyMemory {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.frames(1)?;
        Some(PhysFrame::containing_address(PhysAddr::new(frame.address())))
    }
}

/// The tables while they are built.
pub(crate) struct KernelTables {
    mapper: OffsetPageTable<'static>,
    root: FrameNumber,
    /// Where the next stack's unmapped page goes.
    next_stack: u64,
    /// Where the next table for programs goes.
    next_exposed: u64,
}

impl KernelTables {
    /// Tables with the image and the direct map.
    pub(crate) fn new(early: &mut EarlyMemory, memory: &[Range]) -> Result<Self, MappingError> {
        let root = early.frames(1).ok_or(MappingError)?;
        // SAFETY: the frame is cleared and nobody else's, and 4 GiB are mapped at the direct map.
        let mapper = unsafe {
            let table = &mut *physical::<PageTable>(root.address());
            OffsetPageTable::new(table, VirtAddr::new(DIRECT_MAP))
        };
        let mut tables = Self { mapper, root, next_stack: STACKS, next_exposed: SYSTEM };
        tables.map_memory(early, memory)?;
        let image = image();
        let constants = (&raw const rodata_start).addr() as u64 - KERNEL_BASE;
        for address in (image.start..constants).step_by(LARGE as usize) {
            let flags = image_flags(KERNEL_BASE + address);
            tables.map::<Size2MiB>(early, KERNEL_BASE + address, address, flags)?;
        }
        for address in (constants..image.end).step_by(PAGE as usize) {
            let flags = image_flags(KERNEL_BASE + address);
            tables.map::<Size4KiB>(early, KERNEL_BASE + address, address, flags)?;
        }
        Ok(tables)
    }

    fn map_memory(
        &mut self,
        early: &mut EarlyMemory,
        memory: &[Range],
    ) -> Result<(), MappingError> {
        let image = image();
        let around = image.start / LARGE * LARGE..image.end.next_multiple_of(LARGE);
        for address in around.clone().step_by(PAGE as usize) {
            let mut flags = Flags::PRESENT | Flags::NO_EXECUTE | Flags::GLOBAL;
            let own = (image.start..image.end).contains(&address);
            let writable = !own || image_flags(KERNEL_BASE + address).contains(Flags::WRITABLE);
            flags.set(Flags::WRITABLE, writable);
            self.map::<Size4KiB>(early, DIRECT_MAP + address, address, flags)?;
        }
        let flags = Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE | Flags::GLOBAL;
        let mut mapped = 0;
        for region in memory {
            let first = (region.start / LARGE * LARGE).max(mapped);
            for address in (first..region.end).step_by(LARGE as usize) {
                if !around.contains(&address) {
                    self.map::<Size2MiB>(early, DIRECT_MAP + address, address, flags)?;
                }
                mapped = address + LARGE;
            }
        }
        Ok(())
    }

    fn map<S: PageSize>(
        &mut self,
        early: &mut EarlyMemory,
        address: u64,
        frame: u64,
        flags: Flags,
    ) -> Result<(), MappingError>
    where
        OffsetPageTable<'static>: Mapper<S>,
    {
        let page = Page::<S>::containing_address(VirtAddr::new(address));
        let frame = PhysFrame::containing_address(PhysAddr::new(frame));
        let mut parents = Flags::PRESENT | Flags::WRITABLE;
        parents.set(Flags::USER_ACCESSIBLE, flags.contains(Flags::USER_ACCESSIBLE));
        // SAFETY: each caller maps a region of the kernel's layout to what belongs there.
        let flush =
            unsafe { self.mapper.map_to_with_table_flags(page, frame, flags, parents, early)? };
        flush.ignore();
        Ok(())
    }

    /// Maps a page of device registers.
    pub(crate) fn map_device(
        &mut self,
        early: &mut EarlyMemory,
        address: u64,
    ) -> Result<(), MappingError> {
        let address = address / PAGE * PAGE;
        let flags = Flags::PRESENT
            | Flags::WRITABLE
            | Flags::NO_EXECUTE
            | Flags::NO_CACHE
            | Flags::WRITE_THROUGH
            | Flags::GLOBAL;
        match self.map::<Size4KiB>(early, DEVICES + address, address, flags) {
            // Several devices share a page of registers.
            Err(_) if self.is_mapped(DEVICES + address) => Ok(()),
            result => result,
        }
    }

    fn is_mapped(&self, address: u64) -> bool {
        use x86_64::structures::paging::Translate;
        self.mapper.translate_addr(VirtAddr::new(address)).is_some()
    }

    /// Makes a stack of this many pages with one below it that isn't mapped; returns its end.
    pub(crate) fn stack(
        &mut self,
        early: &mut EarlyMemory,
        pages: u64,
    ) -> Result<u64, MappingError> {
        let base = self.next_stack;
        let end = base + (pages + 1) * PAGE;
        self.next_stack = end;
        let flags = Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE | Flags::GLOBAL;
        for page in 1..=pages {
            let frame = early.frames(1).ok_or(MappingError)?.address();
            self.map::<Size4KiB>(early, base + page * PAGE, frame, flags)?;
        }
        Ok(end)
    }

    /// Lets every environment read a range of memory; returns its address there.
    pub(crate) fn expose(
        &mut self,
        early: &mut EarlyMemory,
        range: Range,
    ) -> Result<u64, MappingError> {
        let address = self.next_exposed;
        let flags = Flags::PRESENT | Flags::USER_ACCESSIBLE | Flags::NO_EXECUTE;
        for offset in (0..range.end - range.start).step_by(PAGE as usize) {
            self.map::<Size4KiB>(early, address + offset, range.start + offset, flags)?;
        }
        self.next_exposed = address + (range.end - range.start).next_multiple_of(PAGE);
        Ok(address)
    }

    /// Makes the tables current and returns the top-level one.
    ///
    /// Whatever is mapped afterwards must be mapped before there is an address space: those copy
    /// the top-level entries once.
    pub(crate) fn activate(&self) -> FrameNumber {
        let frame = PhysFrame::containing_address(PhysAddr::new(self.root.address()));
        // SAFETY: the tables map the image where it is now; the stack in use is in its data.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) };
        self.root
    }
}

/// The rights of a page of the image, by the section that it is in.
fn image_flags(address: u64) -> Flags {
    let mut flags = Flags::PRESENT | Flags::GLOBAL;
    if address >= (&raw const rodata_start).addr() as u64 {
        flags |= Flags::NO_EXECUTE;
    }
    if address >= (&raw const data_start).addr() as u64 {
        flags |= Flags::WRITABLE;
    }
    flags
}

/// Changes a page of the image between writable and executable, for generated code.
///
/// # Safety
/// The page must be in the image's data and hold nothing but generated code; none of it may run
/// while it is writable.
pub(crate) unsafe fn set_executable(address: u64, executable: bool) {
    let (root, _) = Cr3::read();
    // SAFETY: the current top-level table is in the direct map, and the kernel's half of it is
    // changed by nobody else meanwhile: interrupts are off and the kernel's lock is held.
    let mut mapper = unsafe {
        let table = &mut *physical::<PageTable>(root.start_address().as_u64());
        OffsetPageTable::new(table, VirtAddr::new(DIRECT_MAP))
    };
    let image_page = Page::<Size4KiB>::containing_address(VirtAddr::new(address));
    let alias = address - KERNEL_BASE + DIRECT_MAP;
    let alias_page = Page::<Size4KiB>::containing_address(VirtAddr::new(alias));
    let base = Flags::PRESENT | Flags::GLOBAL;
    let writable = base | Flags::WRITABLE | Flags::NO_EXECUTE;
    let code = if executable { base } else { writable };
    let data = if executable { base | Flags::NO_EXECUTE } else { writable };
    // SAFETY: both addresses are of the same frame, in tables that all address spaces share; the
    // caller says what is in it.
    unsafe {
        for (page, flags) in [(image_page, code), (alias_page, data)] {
            if let Ok(flush) = mapper.update_flags(page, flags) {
                flush.flush();
            }
        }
    }
}
