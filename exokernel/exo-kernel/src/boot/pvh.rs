//! What PVH passes: the memory map, the command line, one module and where ACPI's tables are.
//!
//! Layouts from Xen's `arch-x86/hvm/start_info.h`, version 1.

use crate::x86_64::layout::{MOST_MEMORY, physical};

const MAGIC: u32 = 0x336e_c578;
/// The type of usable memory in the memory map.
const RAM: u32 = 1;
/// The longest command line that is looked at, in bytes.
const COMMAND_LINE: usize = 2048;
/// The most regions of memory that are looked at.
const REGIONS: usize = 32;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    map: u64,
    map_count: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
struct MapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// A range of physical memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    /// The first byte.
    pub(crate) start: u64,
    /// Behind the last byte.
    pub(crate) end: u64,
}

/// What was passed, copied out of memory that will be used for other things.
pub(crate) struct BootInformation {
    regions: [Range; REGIONS],
    region_count: usize,
    command_line: [u8; COMMAND_LINE],
    command_length: usize,
    module: Option<Range>,
    rsdp: u64,
}

impl BootInformation {
    /// Reads the start info at a physical address; `None` if there is none.
    ///
    /// # Safety
    /// The address must be what the boot loader passed, and the first 4 GiB must be mapped at the
    /// direct map.
    pub(crate) unsafe fn read(address: u64) -> Option<Self> {
        // SAFETY: the caller's promise; the boot tables map 4 GiB, and all that PVH passes is below.
        let info = unsafe { &*physical::<StartInfo>(address) };
        if info.magic != MAGIC || info.version < 1 {
            return None;
        }
        let mut boot = Self {
            regions: [Range::default(); REGIONS],
            region_count: 0,
            command_line: [0; COMMAND_LINE],
            command_length: 0,
            module: None,
            rsdp: info.rsdp,
        };
        for index in 0..u64::from(info.map_count) {
            // SAFETY: as above; the loader says how many entries there are.
            let entry = unsafe { &*physical::<MapEntry>(info.map + index * 24) };
            let end = entry.address.saturating_add(entry.size).min(MOST_MEMORY);
            if entry.kind == RAM && entry.address < end && boot.region_count < REGIONS {
                boot.regions[boot.region_count] = Range { start: entry.address, end };
                boot.region_count += 1;
            }
        }
        if info.command_line != 0 {
            for byte in boot.command_line.iter_mut() {
                // SAFETY: as above; the command line ends with a zero, and reading stops there.
                *byte = unsafe { *physical::<u8>(info.command_line + boot.command_length as u64) };
                if *byte == 0 {
                    break;
                }
                boot.command_length += 1;
            }
        }
        if info.module_count > 0 {
            // SAFETY: as above.
            let module = unsafe { &*physical::<Module>(info.modules) };
            boot.module = Some(Range { start: module.address, end: module.address + module.size });
        }
        Some(boot)
    }

    /// The usable memory.
    pub(crate) fn regions(&self) -> &[Range] {
        &self.regions[..self.region_count]
    }

    /// The words of the command line.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        let text = str::from_utf8(&self.command_line[..self.command_length]).unwrap_or("");
        text.split_ascii_whitespace()
    }

    /// The physical address of ACPI's root pointer, if the boot loader knows one.
    pub(crate) fn rsdp(&self) -> Option<u64> {
        (self.rsdp != 0).then_some(self.rsdp)
    }

    /// The boot module.
    pub(crate) fn module(&self) -> Option<Range> {
        self.module
    }
}
