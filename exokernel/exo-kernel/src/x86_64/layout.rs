//! Where things are in the kernel's half of the address space.

/// The kernel's image: physical address 0 would be here.
pub(crate) const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// All memory, in the order of its addresses.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Device registers, at their physical addresses from here on.
pub(crate) const DEVICES: u64 = 0xffff_c000_0000_0000;
/// Stacks, each with an unmapped page below it.
pub(crate) const STACKS: u64 = 0xffff_d000_0000_0000;

/// Where physical memory is in the direct map.
pub(crate) fn physical<T>(address: u64) -> *mut T {
    (DIRECT_MAP + address) as *mut T
}
