//! Programs out of ELF objects. What needs clang, or the source of Rust's core library, says so and
//! passes where they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use ebpf_tools::interpreter::{World, interpret};
use ebpf_tools::object::{self, ObjectError};
use ebpf_tools::source::{self, SourceError};
use packet_filters::ebpf::{HANDLER, Trap, Workspace, verify};

/// A handler's regions on the host.
struct Arrival {
    packet: Vec<u8>,
    state: Vec<u8>,
    reply: Vec<u8>,
    sent: Vec<Vec<u8>>,
}

impl World for Arrival {
    fn region(&mut self, region: u8) -> &mut [u8] {
        match region {
            0 => &mut self.packet,
            1 => &mut self.state,
            _ => &mut self.reply,
        }
    }

    fn help(&mut self, helper: u32, [first, second, ..]: [u64; 5]) -> u64 {
        match helper {
            1 => {
                let taken = &self.packet[first as usize..][..second as usize];
                self.reply.extend_from_slice(taken);
                self.reply.len() as u64
            }
            3 => {
                self.sent.push(self.reply[..first as usize].to_vec());
                1
            }
            _ => panic!("no helper {helper}"),
        }
    }
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

fn has(command: &str) -> bool {
    let found = Command::new(command).arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no {command} here");
    }
    found
}

/// Runs a handler that echoes UDP over a datagram and over something shorter.
fn echoes(program: &[u8]) {
    let mut workspace = Box::new(Workspace::new());
    let verified = verify(program, &HANDLER, &mut workspace).expect("accepted");
    let fuel = verified.fuel(8192).expect("cheap");
    let mut packet: Vec<u8> = (0..60).collect();
    packet[12..14].copy_from_slice(&[8, 0]);
    packet[23] = 17;
    let mut arrival = Arrival {
        packet: packet.clone(),
        state: vec![0; 4096],
        reply: Vec::new(),
        sent: Vec::new(),
    };
    assert_eq!(interpret(&verified, &mut arrival, [0; 5], fuel).outcome, Ok(1));
    let answer = arrival.sent.pop().expect("an answer");
    assert_eq!((&answer[..6], &answer[6..12]), (&packet[6..12], &packet[..6]));
    assert_eq!((&answer[26..30], &answer[30..34]), (&packet[30..34], &packet[26..30]));
    assert_eq!((&answer[34..36], &answer[36..38]), (&packet[36..38], &packet[34..36]));
    assert_eq!((&answer[40..42], &answer[42..]), (&[0, 0][..], &packet[42..]));
    arrival.packet.truncate(41);
    assert_eq!(interpret(&verified, &mut arrival, [0; 5], fuel).outcome, Ok(0));
    assert_eq!((arrival.state[0], arrival.sent.len()), (2, 0));
    assert_ne!(interpret(&verified, &mut arrival, [0; 5], fuel).outcome, Err(Trap(0)));
}

/// Compiles C to an object, outside of the project.
fn object_of(name: &str, text: &str) -> Vec<u8> {
    let folder = std::env::temp_dir().join(format!("ebpf-objects-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (source, object) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.o")));
    std::fs::write(&source, text).expect("the source");
    let mut clang = Command::new("clang");
    clang.args(["--target=bpfel", "-mcpu=v3", "-O2", "-c"]).arg(&source).arg("-o").arg(&object);
    assert!(clang.status().expect("clang").success());
    let data = std::fs::read(object).expect("the object");
    std::fs::remove_dir_all(folder).expect("to tidy up");
    data
}

#[test]
fn c_becomes_a_handler() {
    if !has("clang") {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c");
    let program = source::program(&sample("echo.c"), None, &HANDLER, &folder).expect("compiles");
    echoes(&program);
}

#[test]
fn rust_becomes_a_handler() {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc");
    let sysroot = String::from_utf8(sysroot.stdout).expect("a path");
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
    if !has("clang") || !library.exists() {
        println!("skipped: it takes clang, and `rustup component add rust-src`");
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust");
    let program = source::program(&sample("echo.rs"), Some("handler"), &HANDLER, &folder);
    echoes(&program.expect("compiles"));
}

#[test]
fn references_that_cannot_be_are_named() {
    if !has("clang") {
        return;
    }
    let refuse = |name: &str, text: &str, entry: Option<&str>| {
        object::program(&object_of(name, text), entry, &HANDLER).expect_err("refused")
    };
    let reference = |to: &str| ObjectError::Reference { function: "f".into(), to: to.into() };
    let variable = "long counter; long f(void) { return ++counter; }";
    assert_eq!(refuse("variable", variable, None), reference("counter"));
    let stranger = "long open(long); long f(void) { return open(1); }";
    assert_eq!(refuse("stranger", stranger, None), reference("open"));
    let two = "long f(void) { return 1; } long g(void) { return 2; }";
    let there = || vec!["f".to_owned(), "g".to_owned()];
    let ambiguous = ObjectError::NoFunction { wanted: None, there: there() };
    assert_eq!(refuse("two", two, None), ambiguous);
    assert!(ambiguous.to_string().contains("one of f, g"));
    let missing = ObjectError::NoFunction { wanted: Some("h".into()), there: there() };
    assert_eq!(refuse("two", two, Some("h")), missing);
}

/// A function that is called is put behind the program; the verifier says what it thinks of it.
#[test]
fn functions_that_are_called_come_along() {
    if !has("clang") {
        return;
    }
    let text = "__attribute__((noinline)) static long twice(long x) { return 2 * x; }
                long g(long x) { return x; }
                long f(long x) { return twice(x + 1) + g(x); }";
    let program =
        object::program(&object_of("calls", text), Some("f"), &HANDLER).expect("a program");
    let calls: Vec<usize> = program
        .as_chunks::<8>()
        .0
        .iter()
        .enumerate()
        .filter(|(_, slot)| slot[0] == 0x85)
        .map(|(at, slot)| {
            assert_eq!(slot[1], 0x10);
            at.wrapping_add_signed(
                1 + i32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]) as isize,
            )
        })
        .collect();
    assert!(!calls.is_empty() && calls.iter().all(|target| *target < program.len() / 8));
}

#[test]
fn what_is_no_object_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", &[0; 64], b"mov r0, 0"] {
        let error = object::program(bytes, None, &HANDLER).expect_err("refused");
        assert!(matches!(error, ObjectError::NoObject(_)), "{error}");
    }
    let own = std::fs::read(std::env::current_exe().expect("a path")).expect("this test");
    assert_eq!(object::program(&own, None, &HANDLER), Err(ObjectError::WrongMachine));
    // Each byte of the header and of the tables, changed.
    if has("clang") {
        let object = object_of("good", "long f(long x) { return x; }");
        for at in 0..object.len() {
            let mut broken = object.clone();
            broken[at] ^= 0xff;
            _ = object::program(&broken, None, &HANDLER);
        }
    }
    let unknown = source::program(Path::new("x.txt"), None, &HANDLER, &std::env::temp_dir());
    assert!(matches!(unknown, Err(SourceError::UnknownKind(_))));
}
