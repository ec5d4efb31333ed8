//! The bases of the FS and GS segments, which programs use as they like.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use x86_64::registers::model_specific::{FsBase, KernelGsBase};

/// Whether the CPUs have instructions for it.
static INSTRUCTIONS: AtomicBool = AtomicBool::new(false);

/// Takes note of whether CR4 allows the instructions, on every CPU alike.
pub(crate) fn use_instructions(there: bool) {
    INSTRUCTIONS.store(there, Relaxed);
}

/// Whether there are instructions for it.
pub(crate) fn has_instructions() -> bool {
    INSTRUCTIONS.load(Relaxed)
}

/// The bases of the program that runs. Its GS is swapped away while the kernel runs.
pub(crate) fn bases() -> [u64; 2] {
    if has_instructions() {
        let (fs, gs);
        // SAFETY: the instructions are there; GS is the kernel's again afterwards, and interrupts
        // are off in between.
        unsafe {
            asm!(
                "rdfsbase {fs}", "swapgs", "rdgsbase {gs}", "swapgs",
                fs = out(reg) fs, gs = out(reg) gs, options(nomem, nostack, preserves_flags),
            );
        }
        return [fs, gs];
    }
    // As numbers: QEMU lets a program set a base that is no address.
    // SAFETY: both registers exist on every 64-bit CPU, and reading them changes nothing.
    unsafe { [FsBase::MSR.read(), KernelGsBase::MSR.read()] }
}

/// Sets the bases of the program that will run.
pub(crate) fn set_bases([fs, gs]: [u64; 2]) {
    // A base that is no address was none when it was saved, and faults here: QEMU alone allows it.
    let [fs, gs] = [fs, gs].map(|base| ((base << 16) as i64 >> 16) as u64);
    if has_instructions() {
        // SAFETY: as in `bases`; the kernel's memory is reached through no FS.
        unsafe {
            asm!(
                "wrfsbase {fs}", "swapgs", "wrgsbase {gs}", "swapgs",
                fs = in(reg) fs, gs = in(reg) gs, options(nomem, nostack, preserves_flags),
            );
        }
        return;
    }
    let (mut fs_base, mut gs_base) = (FsBase::MSR, KernelGsBase::MSR);
    // SAFETY: both values are canonical, and the kernel uses neither base.
    unsafe {
        fs_base.write(fs);
        gs_base.write(gs);
    }
}
