//! Rule: the vector registers of one program are never seen in another.
//!
//! Several of these run at once, each with a pattern of its own.
#![no_std]
#![no_main]

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use exo_user::{Start, contract, println};
use guest_probes::rule::holds;

exo_user::program!(main);

/// How often the CPU is given up.
const ROUNDS: u64 = 3000;
/// `yield`, to whoever is next.
const YIELD: u64 = 1;

/// Fills the sixteen vector registers from `area`, gives the CPU up if `call` says so, and stores
/// them there again.
macro_rules! round_trip {
    ($move:literal, $register:literal, $size:literal, $area:ident, $middle:literal) => {
        asm!(
            "push rbx", "push rbp", "push {area}",
            concat!(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n",
                $move, " ", $register, "\\n, [{area} + \\n * ", $size, "]\n.endr"),
            $middle,
            "pop r9",
            concat!(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n",
                $move, " [r9 + \\n * ", $size, "], ", $register, "\\n\n.endr"),
            "pop rbp", "pop rbx",
            area = in(reg) $area,
            inout("rax") YIELD => _, inout("rdi") 0_u64 => _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("sysv64"),
        )
    };
}

fn by_sse(area: *mut u64, ticks: bool) {
    // SAFETY: the area has place for the registers; all others are saved or named.
    unsafe {
        if ticks {
            round_trip!("movdqu", "xmm", "32", area, "mov ecx, 1000000\n2: dec ecx\njnz 2b");
        } else {
            round_trip!("movdqu", "xmm", "32", area, "syscall");
        }
    }
}

fn by_avx(area: *mut u64, ticks: bool) {
    // SAFETY: as above; the caller knows that there is AVX.
    unsafe {
        if ticks {
            round_trip!("vmovdqu", "ymm", "32", area, "mov ecx, 1000000\n2: dec ecx\njnz 2b");
        } else {
            round_trip!("vmovdqu", "ymm", "32", area, "syscall");
        }
    }
}

/// Whether the kernel has enabled AVX.
fn has_avx() -> bool {
    let features = __cpuid(1).ecx;
    if features & (1 << 27 | 1 << 28) != 1 << 27 | 1 << 28 {
        return false;
    }
    let enabled: u32;
    // SAFETY: there is `xgetbv`; it only reads.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _) };
    enabled & 6 == 6
}

fn main(_: &Start<'_>) -> u64 {
    let avx = has_avx();
    let words = if avx { 4 } else { 2 };
    let pattern = 0x0101_0101_0101_0101 * (contract::name().0 & 0xff);
    for round in 0..ROUNDS {
        let mut area = [0; 64];
        for (index, word) in area.iter_mut().enumerate() {
            *word = pattern ^ ((index as u64) << 32);
        }
        let wanted = area;
        let ticks = round % 100 == 0;
        if avx {
            by_avx(area.as_mut_ptr(), ticks)
        } else {
            by_sse(area.as_mut_ptr(), ticks)
        }
        for (index, (&found, &wanted)) in area.iter().zip(&wanted).enumerate() {
            let given_up = !ticks && found == 0;
            let own = found == wanted || given_up;
            holds(
                format_args!("round {round}: {found:#x} in word {index}"),
                own || index % 4 >= words,
            );
        }
    }
    println!("kept {} bytes in each register", words * 8);
    0
}
