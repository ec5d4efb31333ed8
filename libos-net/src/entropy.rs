//! A number that nobody can guess, as far as the machine has one.

use core::arch::x86_64::{__cpuid, _rdrand64_step, _rdtsc};

/// The bit of `RDRAND` in `ecx` of CPUID leaf 1.
const RDRAND: u32 = 1 << 30;
/// How often `RDRAND` is asked: more than this fails only when it is broken (Intel's own advice).
const TRIES: usize = 10;

/// A number from the CPU's generator. Without one, or if it fails, the cycle counter has to do.
pub(crate) fn number() -> u64 {
    if __cpuid(1).ecx & RDRAND != 0 {
        for _ in 0..TRIES {
            // SAFETY: the CPU says that it has the instruction.
            if let Some(number) = unsafe { step() } {
                return number;
            }
        }
    }
    // SAFETY: reading the counter has no effect, and the kernel lets programs read it.
    unsafe { _rdtsc() }.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// One try.
///
/// # Safety
/// The CPU has `RDRAND`.
#[target_feature(enable = "rdrand")]
unsafe fn step() -> Option<u64> {
    let mut number = 0;
    (_rdrand64_step(&mut number) == 1).then_some(number)
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_differ() {
        assert_ne!(super::number(), super::number());
    }
}
