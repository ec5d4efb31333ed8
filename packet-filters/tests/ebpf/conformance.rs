//! The public conformance vectors (github.com/Alan-Jowett/bpf_conformance), which are not part of
//! this project: the folder `bpf-conformance` in what `EXO_SHARED` names, or in `../shared` beside
//! the project. Without them the test says so and passes.

use std::fs;
use std::path::PathBuf;

use ebpf_tools::assembler::assemble;
use packet_filters::ebpf::{Reason, Region, Workspace, verify};

use crate::machine::{Memory, Regions, run_both, with_memory};

/// Why a vector may be refused: it does something that is not supported.
fn may_be_refused(name: &str, reason: Reason) -> bool {
    match reason {
        Reason::Atomic => name.contains("lock_"),
        // `callx` calls through a register, for which RFC 9669 has no instruction.
        Reason::FunctionCall => ["callx", "call_local", "rfc9669_call_local"].contains(&name),
        _ => false,
    }
}

fn folder() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let shared = std::env::var_os("EXO_SHARED").unwrap_or(beside.into());
    PathBuf::from(shared).join("bpf-conformance")
}

/// A section of a vector, without comments.
fn section(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| line.trim() != format!("-- {name}"));
    lines.next()?;
    Some(lines.take_while(|line| !line.starts_with("-- ")).collect::<Vec<_>>().join("\n"))
}

fn number(text: &str) -> u64 {
    let text = text.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let value = digits.strip_prefix("0x").map_or_else(
        || digits.parse().expect("a number"),
        |digits| u64::from_str_radix(digits, 16).expect("a number"),
    );
    if negative { value.wrapping_neg() } else { value }
}

#[test]
fn every_vector_passes_or_is_refused_with_a_reason() {
    let Ok(entries) = fs::read_dir(folder()) else {
        println!("skipped: no vectors in {}", folder().display());
        return;
    };
    let (mut passed, mut refused, mut wrong) = (0, 0, Vec::new());
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "data") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = fs::read_to_string(&path).expect("a vector");
        let program = assemble(&section(&text, "asm").expect("a program"));
        let program = program.unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(raw) = section(&text, "raw") {
            let raw: Vec<u8> = raw.lines().flat_map(|line| number(line).to_le_bytes()).collect();
            assert_eq!(program, raw, "{name}");
        }
        let memory: Vec<u8> = section(&text, "mem")
            .unwrap_or_default()
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"))
            .collect();
        let length = memory.len() as u32;
        let region = Region { minimum: length, maximum: length, writable: true };
        let (profile, mut workspace) = (with_memory(&region), Box::new(Workspace::new()));
        match verify(&program, &profile, &mut workspace) {
            Ok(mut verified) => {
                let regions = Regions(vec![Memory::new(&memory, memory.len())]);
                let run = run_both(&mut verified, &regions, [0; 5], 1 << 20).expect("budget");
                let expected = number(&section(&text, "result").expect("a result"));
                if run.outcome == Ok(expected) {
                    passed += 1;
                } else {
                    wrong.push(format!("{name}: {:?} instead of {expected:#x}", run.outcome));
                }
            }
            Err(refusal) if may_be_refused(&name, refusal.reason) => refused += 1,
            Err(refusal) => wrong.push(format!("{name}: {refusal:?}")),
        }
    }
    println!("{passed} vectors pass, {refused} are refused");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((passed, refused), (276, 37));
}
