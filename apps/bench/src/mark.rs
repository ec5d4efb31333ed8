//! Marks for the instruction counter (`qemu/plugin`): instructions that do nothing, and say what
//! they mean by their displacement. They enter no kernel, and cost nothing without a counter.

use core::arch::asm;

/// The displacement that says that what is measured begins.
pub(crate) const BEGIN: u32 = 0x6578_6f01;
/// The displacement that says that it ends.
pub(crate) const END: u32 = 0x6578_6f02;
/// The displacement that says that this instruction and the two behind it only wait.
const ASIDE: u32 = 0x6578_6f80 + 3;

/// What is measured begins.
#[inline(always)]
pub(crate) fn begin() {
    // SAFETY: it does nothing. That it may touch memory, for all the compiler knows, keeps what is
    // measured behind it.
    unsafe { asm!("nop dword ptr [rax + {}]", const BEGIN, options(nostack, preserves_flags)) };
}

/// What is measured ends.
#[inline(always)]
pub(crate) fn end() {
    // SAFETY: as in `begin`.
    unsafe { asm!("nop dword ptr [rax + {}]", const END, options(nostack, preserves_flags)) };
}

/// Reads a word until it has at least this value: three instructions each time, that count as
/// waiting and not as what is measured.
pub(crate) fn wait_until(word: &core::sync::atomic::AtomicU64, value: u64) {
    // SAFETY: it reads one word, to which there is a reference.
    unsafe {
        asm!(
            "2:",
            "nop dword ptr [rax + {aside}]",
            "cmp [{word}], {value}",
            "jb 2b",
            word = in(reg) word.as_ptr(),
            value = in(reg) value,
            aside = const ASIDE,
            options(nostack, readonly),
        );
    }
}
