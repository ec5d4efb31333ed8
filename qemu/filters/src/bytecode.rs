//! What verifying, compiling and running eBPF costs, beside rbpf's JIT, which checks nothing.
//!
//! Ours and rbpf's take turns; of each the fastest of many rounds counts, since everything else on
//! the machine only makes them slower.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use ebpf_tools::assembler::assemble;
use ebpf_tools::native::{Executable, compile};
use ebpf_tools::refusal::Explained;
use packet_filters::ebpf::{Activation, Argument, Profile, Region, Workspace, verify};

use crate::measure::Timing;

const REGIONS: [Region; 1] = [Region { minimum: 0, maximum: 65535, writable: true }];

/// What rbpf gives a program: memory. The programs don't ask how much it is, so ours get guards.
const PROFILE: Profile<'static> = Profile {
    arguments: [
        Argument::Pointer(0),
        Argument::Nothing,
        Argument::Nothing,
        Argument::Nothing,
        Argument::Nothing,
    ],
    regions: &REGIONS,
    helpers: &[],
    loops: true,
};

/// A port of TCP over IPv4, with the header's length, as a filter.
const FILTER: &str = "
    mov r0, 0
    ldxh r3, [r1+12]
    jne r3, 8, exit
    ldxb r3, [r1+23]
    jne r3, 6, exit
    ldxh r3, [r1+20]
    be16 r3
    and r3, 0x1fff
    jne r3, 0, exit
    ldxb r3, [r1+14]
    and r3, 15
    lsh r3, 2
    add r1, r3
    ldxh r3, [r1+16]
    be16 r3
    jne r3, 80, exit
    mov r0, 1
    exit";

/// The Internet checksum of 40 bytes, in a loop.
const CHECKSUM: &str = "
    mov r0, 0
    mov r4, 20
    add r1, 14
    next:
    ldxh r3, [r1]
    add r0, r3
    add r1, 2
    sub r4, 1
    jne r4, 0, next
    mov r3, r0
    rsh r3, 16
    and r0, 0xffff
    add r0, r3
    mov r3, r0
    rsh r3, 16
    add r0, r3
    xor r0, 0xffff
    and r0, 0xffff
    exit";

/// Addresses and ports exchanged, as an echo does.
const SWAP: &str = "
    mov r0, 0
    ldxw r3, [r1]
    ldxh r4, [r1+4]
    ldxw r5, [r1+6]
    ldxh r6, [r1+10]
    stxw [r1], r5
    stxh [r1+4], r6
    stxw [r1+6], r3
    stxh [r1+10], r4
    ldxw r3, [r1+26]
    ldxw r4, [r1+30]
    stxw [r1+26], r4
    stxw [r1+30], r3
    ldxh r3, [r1+34]
    ldxh r4, [r1+36]
    stxh [r1+34], r4
    stxh [r1+36], r3
    mov r0, 1
    exit";

/// A hash of 32 bytes with multiplications, through the stack.
const HASH: &str = "
    mov r0, 17
    ldxdw r3, [r1+14]
    stxdw [r10-8], r3
    ldxdw r3, [r1+22]
    stxdw [r10-16], r3
    ldxdw r3, [r1+30]
    stxdw [r10-24], r3
    ldxdw r3, [r1+38]
    stxdw [r10-32], r3
    lddw r4, 0x9e3779b97f4a7c15
    ldxdw r3, [r10-8]
    xor r0, r3
    mul r0, r4
    ldxdw r3, [r10-16]
    xor r0, r3
    mul r0, r4
    ldxdw r3, [r10-24]
    xor r0, r3
    mul r0, r4
    ldxdw r3, [r10-32]
    xor r0, r3
    mul r0, r4
    mov r3, r0
    rsh r3, 32
    xor r0, r3
    exit";

/// Whether 251 is a prime, by division.
const PRIME: &str = "
    mov r1, 251
    mov r0, 1
    mov r2, 2
    next:
    mov r3, r1
    div r3, r2
    mul r3, r2
    mov r4, r1
    sub r4, r3
    jeq r4, 0, no
    add r2, 1
    jlt r2, r1, next
    exit
    no:
    mov r0, 0
    exit";

/// The programs that are run, by name.
const PROGRAMS: [(&str, &str); 5] = [
    ("ebpf_filter", FILTER),
    ("ebpf_checksum", CHECKSUM),
    ("ebpf_swap", SWAP),
    ("ebpf_hash", HASH),
    ("ebpf_prime", PRIME),
];

/// The names of the programs that ours and rbpf both run.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|(name, _)| *name)
}

/// Measures everything.
pub(crate) fn all() -> Result<Vec<Timing>> {
    let timing = |name: &str, by: &str, nanoseconds| Timing {
        name: name.to_owned(),
        by: by.to_owned(),
        filters: 0,
        shapes: 0,
        nanoseconds,
    };
    let mut timings = vec![timing("verify_compile", "ours", verify_compile()?)];
    for (name, text) in PROGRAMS {
        let (ours, rbpf) = compare(text)?;
        timings.extend([timing(name, "ours", ours), timing(name, "rbpf", rbpf)]);
    }
    Ok(timings)
}

/// Assembles what stands above.
fn assembled(text: &str) -> Result<Vec<u8>> {
    assemble(text).map_err(|error| anyhow!("a program does not assemble: {error:?}"))
}

/// A handler of 100 instructions: the lengths of the headers, a checksum without a loop, a table on
/// the stack, and writes.
fn handler() -> String {
    let mut text = String::from("mov r0, 0\nmov r8, r1\nldxb r6, [r1+14]\nand r6, 15\nlsh r6, 2\n");
    for at in (14..34).step_by(2) {
        text += &format!("ldxh r3, [r1+{at}]\nadd r0, r3\n");
    }
    text += "mov r7, r1\nadd r7, r6\n";
    for at in 0..16 {
        text += &format!("ldxh r3, [r7+{}]\nstxdw [r10-{}], r3\n", 14 + 2 * at, 8 * (at + 1));
    }
    for at in 0..12 {
        text += &format!("ldxdw r3, [r10-{}]\njeq r3, {at}, exit\nadd r0, r3\n", 8 * (at + 1));
    }
    text + "stxh [r1+24], r0\nmov r4, r0\nrsh r4, 16\nadd r0, r4\nexit"
}

/// Nanoseconds for the handler.
fn verify_compile() -> Result<f64> {
    let program = assembled(&handler())?;
    ensure!(program.len() == 100 * 8, "the handler has another length");
    let (mut workspace, mut code) = (Box::new(Workspace::new()), vec![0; 16384]);
    let mut compiled = true;
    let time = fastest(200, || {
        compiled &= verify(&program, &PROFILE, &mut workspace)
            .is_ok_and(|mut verified| verified.compile(&mut code).is_ok());
    });
    ensure!(compiled, "the handler is refused");
    Ok(time.as_secs_f64() * 1e9)
}

/// TCP to port 80 over IPv4.
fn packet() -> [u8; 64] {
    let mut packet = [7; 64];
    packet[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6]);
    packet[36..38].copy_from_slice(&[0, 80]);
    packet
}

/// Nanoseconds for one run: ours and rbpf's.
fn compare(text: &str) -> Result<(f64, f64)> {
    const RUNS: u32 = 2_000;
    let program = assembled(text)?;
    let mut workspace = Box::new(Workspace::new());
    let verified = verify(&program, &PROFILE, &mut workspace);
    let mut verified = verified.map_err(Explained)?;
    let executable = Executable::new(&compile(&mut verified))?;
    let mut machine = rbpf::EbpfVmRaw::new(Some(&program)).context("rbpf")?;
    machine.jit_compile().context("rbpf")?;
    let mut memory = packet();
    let wanted = machine.execute_program(&mut memory.clone()).context("rbpf")?;
    let fuel = verified.fuel(1 << 20).context("the program is too dear")?;
    let mut activation = Activation::new(fuel, [0; 5], std::ptr::null(), std::ptr::null_mut());
    let ran = run(&executable, &mut activation, &mut memory.clone());
    ensure!(ran == Some(wanted), "rbpf computes something else");
    let (mut ours, mut rbpf) = (Duration::MAX, Duration::MAX);
    for _ in 0..500 {
        ours = ours.min(fastest(1, || {
            for _ in 0..RUNS {
                black_box(run(&executable, &mut activation, black_box(&mut memory)));
            }
        }));
        rbpf = rbpf.min(fastest(1, || {
            for _ in 0..RUNS {
                let (start, length) = (memory.as_mut_ptr(), memory.len());
                // SAFETY: the array outlives the call; rbpf asks for a borrow as long as its own.
                let memory = unsafe { std::slice::from_raw_parts_mut(black_box(start), length) };
                // SAFETY: these programs stay inside of 64 bytes, as our verifier has shown.
                _ = black_box(unsafe { machine.execute_program_jit(memory) });
            }
        }));
    }
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(RUNS);
    Ok((each(ours), each(rbpf)))
}

/// One run; the region is another each time, as for packets.
fn run(executable: &Executable, activation: &mut Activation, memory: &mut [u8; 64]) -> Option<u64> {
    activation.set_region(0, memory.as_mut_ptr(), memory.len() as u64);
    // SAFETY: the region is what the profile says, and there are no helpers.
    unsafe { executable.run(activation) }.ok()
}

/// The fastest of so many times.
fn fastest(times: u32, mut work: impl FnMut()) -> Duration {
    let once = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..times).map(once).min().unwrap_or_default()
}
