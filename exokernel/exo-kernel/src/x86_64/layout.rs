//! Where things are in the kernel's half of the address space.

/// The kernel's image: physical address 0 would be here.
pub(crate) const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// All memory, in the order of its addresses, in front of the image: one table of pointers reaches
/// both, so that a processor that has forgotten all translations looks up one page less.
pub(crate) const DIRECT_MAP: u64 = 0xffff_ff80_0000_0000;
/// How much memory the direct map can have.
pub(crate) const MOST_MEMORY: u64 = KERNEL_BASE - DIRECT_MAP;
/// Device registers, at their physical addresses from here on.
pub(crate) const DEVICES: u64 = 0xffff_c000_0000_0000;
/// Stacks, each with an unmapped page below it.
pub(crate) const STACKS: u64 = 0xffff_d000_0000_0000;

/// Where physical memory is in the direct map.
pub(crate) fn physical<T>(address: u64) -> *mut T {
    (DIRECT_MAP + address) as *mut T
}
