//! The console, the verdict and the deadlines, with a stub in place of the kernel.

use super::*;
use crate::accelerator::qemu_version;
use crate::stub::Stub;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// Boots a stub, unless there is no QEMU: a host without it can still run the other tests.
fn boot(stub: &Stub) -> Option<(Guest, TempDir)> {
    qemu_version()?;
    let folder = tempfile::tempdir().unwrap();
    let kernel = folder.path().join("stub");
    fs::write(&kernel, stub.elf()).unwrap();
    let boot = Boot {
        kernel,
        module: None,
        executables: Executables::new(),
        root: folder.path().to_owned(),
    };
    let record = Record::of_test(folder.path(), "stub").unwrap();
    let configuration = Configuration { memory: 64, ..Configuration::default() };
    let guest = Guest::start(&configuration, &boot, record, |_| {}).unwrap();
    Some((guest, folder))
}

#[test]
fn the_outcome_is_what_the_guest_said() {
    let text = "[kernel] hello\r\n[init] @up\n[init] @tables-part 1/2 {\"a\"\n\
                [init] @tables-part 2/2 :1}\n[init] @exit web 3\n[init] @leak ok\n";
    let stub = Stub { text: text.to_owned(), code: Some(3), ..Stub::default() };
    let Some((guest, _folder)) = boot(&stub) else {
        return;
    };
    guest.wait_for("hello", PATIENCE).unwrap();
    let outcome = guest.finish(PATIENCE).unwrap();
    assert_eq!(outcome.verdict, Verdict::Code(3));
    assert_eq!(outcome.transcript[0], "[kernel] hello");
    assert_eq!(outcome.exits, [("web".to_owned(), 3)]);
    assert_eq!(outcome.tables, Some(serde_json::json!({ "a": 1 })));
    assert_eq!(outcome.leaks, Some(Leaks::default()));
    assert!(outcome.boot.unwrap() < outcome.duration);
    for name in ["transcript.txt", "tables.json", "statistics.json"] {
        assert!(outcome.folder.join(name).exists(), "{name} is missing");
    }
}

#[test]
fn a_guest_that_hangs_meets_the_deadline() {
    let Some((guest, _folder)) = boot(&Stub { text: "[kernel] x\n".into(), ..Stub::default() })
    else {
        return;
    };
    guest.wait_for("x", PATIENCE).unwrap();
    let error = guest.finish(Duration::from_millis(50)).unwrap_err().to_string();
    assert!(error.contains("did not end") && error.contains("[kernel] x"), "{error}");
}

#[test]
fn waiting_ends_with_the_guest() {
    let Some((guest, _folder)) = boot(&Stub { code: Some(0), ..Stub::default() }) else {
        return;
    };
    let error = guest.wait_for("never", PATIENCE).unwrap_err().to_string();
    assert!(error.contains("the guest ended"), "{error}");
}

#[test]
fn the_keyboard_reaches_the_guest() {
    let stub = Stub {
        wait_for: Some(INTERRUPT),
        code: Some(0),
        text: "[kernel] y\n".into(),
        ..Stub::default()
    };
    let Some((guest, _folder)) = boot(&stub) else {
        return;
    };
    guest.wait_for("y", PATIENCE).unwrap();
    guest.send(b"z").unwrap();
    guest.keyboard().interrupt();
    // Whichever came first: the stub may have ended by now.
    let _ = guest.wait_end_or_interrupt();
    assert_eq!(guest.finish(PATIENCE).unwrap().verdict, Verdict::Code(0));
}

#[test]
fn a_large_code_comes_through_beside_the_verdict() {
    let text = "[init] @exit good 0\n[init] @exit bad 101\n[init] @leak ok\n";
    let stub = Stub { text: text.to_owned(), code: Some(VERDICT_MAX as u8), ..Stub::default() };
    let Some((guest, _folder)) = boot(&stub) else { return };
    let mut outcome = guest.finish(PATIENCE).unwrap();
    assert_eq!(outcome.exit_status(), 101);
    outcome.exits[1].1 = 1 << 20;
    assert_eq!(outcome.exit_status(), u8::MAX);
    outcome.leaks = Some(Leaks { missing: [("frames".to_owned(), 1)].into() });
    assert_eq!(outcome.exit_status(), VERDICT_MAX as u8);
    outcome.verdict = Verdict::KernelPanic;
    assert_eq!(outcome.exit_status(), Verdict::KernelPanic.exit_status());
}
