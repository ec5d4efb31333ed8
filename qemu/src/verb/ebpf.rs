//! `ebpf`: compile a program for the kernel, verify it, and say what it costs.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use ebpf_tools::native::compile;
use ebpf_tools::profile::{PREDICATE, RESIDUAL};
use ebpf_tools::refusal::Explained;
use ebpf_tools::source;
use packet_filters::ebpf::{HANDLER, Profile, STACK_REGION, Slot, Verified, Workspace, verify};
use qemu::workspace::Workspace as Sources;

/// Compile an eBPF program, verify it, and say what it costs
///
/// From C (through clang), Rust, an ELF object, or assembler text. What is printed of a refused
/// program ends with the instruction at which it was refused, and why.
#[derive(Args)]
pub(crate) struct Options {
    /// The program: a `.c`, `.rs`, `.o` or `.asm` file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The function that it begins with [default: the only global one]
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// What it is for
    #[arg(long, value_enum, default_value_t = Kind::Handler)]
    profile: Kind,
    /// Write the program's instructions to this file, as the kernel takes them
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print each instruction, and whether it is guarded
    #[arg(long)]
    list: bool,
}

/// What a program is for.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    Handler,
    Predicate,
    Residual,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let profile: &Profile<'static> = match options.profile {
        Kind::Handler => &HANDLER,
        Kind::Predicate => &PREDICATE,
        Kind::Residual => &RESIDUAL,
    };
    let folder = Sources::load()?.root.join("target/ebpf");
    let program = source::program(&options.file, options.entry.as_deref(), profile, &folder)?;
    if let Some(out) = &options.out {
        fs::write(out, &program).with_context(|| format!("cannot write {}", out.display()))?;
    }
    let mut workspace = Box::new(Workspace::new());
    match verify(&program, profile, &mut workspace) {
        Ok(mut verified) => {
            if options.list {
                verified.slots().iter().enumerate().for_each(|(at, slot)| list(at, slot));
            }
            report(&mut verified);
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            let (slots, _) = program.as_chunks::<8>();
            for (at, slot) in
                slots.iter().enumerate().take(refusal.at + 1).skip(refusal.at.saturating_sub(4))
            {
                println!("{at:5}: {slot:02x?}");
            }
            println!("refused: {}", Explained(refusal));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// An instruction as numbers, as `llvm-objdump` shows it, and what was found out about it.
fn list(at: usize, slot: &Slot) {
    let instruction = &slot.instruction;
    let access = match (instruction.class(), slot.region, slot.guarded) {
        (1..=3, STACK_REGION, false) => "stack".to_owned(),
        (1..=3, STACK_REGION, true) => "stack, guarded".to_owned(),
        (1..=3, region, guarded) => {
            format!("region {region}{}", if guarded { ", guarded" } else { "" })
        }
        _ => String::new(),
    };
    let way = if slot.reached { "" } else { "no way leads here" };
    println!(
        "{at:5}: {:02x} r{} r{} {:+} {:#x}  {access}{way}",
        instruction.code,
        instruction.to,
        instruction.from,
        instruction.offset,
        instruction.immediate
    );
}

fn report(verified: &mut Verified<'_>) {
    let slots = verified.slots();
    let accesses = |guarded: bool| {
        let such = |slot: &&Slot| {
            slot.reached && slot.guarded == guarded && matches!(slot.instruction.class(), 1..=3)
        };
        slots.iter().filter(such).count()
    };
    let loops = slots.iter().enumerate().any(|(at, slot)| slot.instruction.goes_back(at));
    let (count, cost) = (slots.len(), slots.first().map_or(0, |slot| slot.cost));
    let (guarded, shown) = (accesses(true), accesses(false));
    println!(
        "{count} instructions; {cost} at most on one way{}",
        if loops { ", and it loops: fuel ends it" } else { "" }
    );
    println!("{shown} accesses shown to be in bounds, {guarded} compared each time");
    println!("{} bytes of machine code", compile(verified).len());
}
