//! `memcpy` and its kin, which the compiler calls by name and which no C library brings along.
//!
//! `rep movsq` is what both CPUs and emulators do well; the last, overlapping word saves the loop
//! over single bytes. On the host the functions have other names, so that tests can call them
//! beside the host's own.

use core::arch::naked_asm;

/// Copies `count` bytes between places that don't overlap.
///
/// # Safety
/// Both places have `count` bytes and don't overlap.
// SAFETY: the body touches no more than the two places, keeps what a function keeps, and returns; the
// name is that of the function it is.
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 8",
        "jb 2f",
        // The last word, loaded first, then all words before it.
        "mov r8, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 8]",
        "lea rcx, [rdx - 1]",
        "shr rcx, 3",
        "rep movsq",
        "mov [r9], r8",
        "ret",
        "2:",
        "mov ecx, edx",
        "rep movsb",
        "ret",
    )
}

/// Copies `count` bytes between places that may overlap.
///
/// # Safety
/// Both places have `count` bytes.
// SAFETY: as `memcpy`.
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 2f",
        // The target starts before the source, or behind it: forwards does no harm, but the last
        // word may not be loaded first here.
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep movsb",
        "ret",
        // Backwards, by words as long as there are any.
        "2:",
        "sub rdx, 8",
        "jb 3f",
        "mov rcx, [rsi + rdx]",
        "mov [rdi + rdx], rcx",
        "jmp 2b",
        "3:",
        "add rdx, 8",
        "4:",
        "sub rdx, 1",
        "jb 5f",
        "mov cl, [rsi + rdx]",
        "mov [rdi + rdx], cl",
        "jmp 4b",
        "5:",
        "ret",
    )
}

/// Fills `count` bytes with the low byte of `value`.
///
/// # Safety
/// There are `count` bytes.
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
// SAFETY: it writes `count` bytes at `to`, which the caller has; of the registers it changes those
// that a function may.
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        "movzx eax, sil",
        "cmp rdx, 8",
        "jb 2f",
        "movabs rcx, 0x0101010101010101",
        "imul rax, rcx",
        "mov [rdi + rdx - 8], rax",
        "lea rcx, [rdx - 1]",
        "shr rcx, 3",
        "rep stosq",
        "mov rax, r8",
        "ret",
        "2:",
        "mov ecx, edx",
        "rep stosb",
        "mov rax, r8",
        "ret",
    )
}

/// Compares `count` bytes: less than, equal to or greater than 0, as the first that differ.
///
/// # Safety
/// Both places have `count` bytes.
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
// SAFETY: it reads `count` bytes at each place and no others, which the caller has; it changes only
// registers that a function may.
pub unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    naked_asm!(
        "xor eax, eax",
        "xor ecx, ecx",
        "2:",
        "lea r8, [rcx + 8]",
        "cmp r8, rdx",
        "ja 4f",
        "mov r9, [rdi + rcx]",
        "mov r10, [rsi + rcx]",
        "cmp r9, r10",
        "jne 3f",
        "mov rcx, r8",
        "jmp 2b",
        // The words differ: as numbers, first byte highest, they compare like strings.
        "3:",
        "bswap r9",
        "bswap r10",
        "cmp r9, r10",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
        "4:",
        "cmp rcx, rdx",
        "jae 5f",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r8d, byte ptr [rsi + rcx]",
        "add rcx, 1",
        "sub eax, r8d",
        "je 4b",
        "5:",
        "ret",
    )
}

/// Compares `count` bytes: 0 if they are equal.
///
/// # Safety
/// As [`memcmp`].
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
// SAFETY: it is `memcmp`, whose promises are the caller's; the jump leaves stack and arguments as they are.
pub unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::cmp::Ordering;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_are_copies(bytes: Vec<u8>) {
            let mut copy = alloc::vec![0xee; bytes.len() + 1];
            // SAFETY: the copy has the room.
            let to = unsafe { memcpy(copy.as_mut_ptr(), bytes.as_ptr(), bytes.len()) };
            prop_assert_eq!(to, copy.as_mut_ptr());
            prop_assert_eq!(&copy[..bytes.len()], &bytes[..]);
            prop_assert_eq!(copy[bytes.len()], 0xee);
        }

        #[test]
        fn moves_may_overlap(mut bytes in prop::collection::vec(any::<u8>(), 1..200),
                             from in 0..200usize, to in 0..200usize, count in 0..200usize) {
            let length = bytes.len();
            let (from, to) = (from % length, to % length);
            let count = count.min(length - from).min(length - to);
            let mut expected = bytes.clone();
            expected.copy_within(from..from + count, to);
            let start = bytes.as_mut_ptr();
            // SAFETY: both places are inside the vector.
            unsafe { memmove(start.add(to), start.add(from), count) };
            prop_assert_eq!(bytes, expected);
        }

        #[test]
        fn fills_fill(mut bytes: Vec<u8>, value: u8) {
            bytes.push(!value);
            let count = bytes.len() - 1;
            // SAFETY: the vector has the room.
            let to = unsafe { memset(bytes.as_mut_ptr(), 0xff00 | i32::from(value), count) };
            prop_assert_eq!(to, bytes.as_mut_ptr());
            prop_assert!(bytes[..count].iter().all(|&byte| byte == value));
            prop_assert_eq!(bytes[count], !value);
        }

        #[test]
        fn comparisons_compare(one in prop::collection::vec(0..3u8, 0..30), place in 0..30usize,
                               byte: u8) {
            let mut other = one.clone();
            if let Some(place) = other.get_mut(place) {
                *place = byte;
            }
            // SAFETY: both have as many bytes.
            let (order, equal) = unsafe {
                let (one, other, count) = (one.as_ptr(), other.as_ptr(), one.len());
                (memcmp(one, other, count), bcmp(one, other, count))
            };
            prop_assert_eq!(order.cmp(&0), one.cmp(&other));
            prop_assert_eq!(equal == 0, one.cmp(&other) == Ordering::Equal);
        }
    }
}
