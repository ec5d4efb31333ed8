//! The console: what is typed, what is printed, and how a run ends.

use anyhow::Result;
use qemu::verdict::Verdict;
use system_tests::Guest;

#[test]
fn the_shell_answers_what_is_typed() -> Result<()> {
    let guest = Guest::with(["shell"]).boot()?;
    guest.wait_for("type help for the commands")?;
    guest.type_line("ps")?;
    guest.wait_for("[shell] ")?;
    guest.type_line("cat motd")?;
    guest.type_line("exit")?;
    let outcome = guest.finish()?;
    assert_eq!(outcome.verdict, Verdict::Code(0));
    Ok(())
}

#[test]
fn control_c_ends_a_run_in_order() -> Result<()> {
    let guest = Guest::with(["web"]).linger().boot()?;
    guest.wait_for("serving http://")?;
    assert_eq!(guest.stop()?.verdict, Verdict::Code(0));
    Ok(())
}

#[test]
fn a_file_that_is_no_program_fails_alone() -> Result<()> {
    let guest = Guest::with(["pages"]).crafted("odd", b"#!/bin/sh\n".to_vec()).boot()?;
    let outcome = guest.finish()?;
    assert!(matches!(outcome.verdict, Verdict::Code(1..)), "{:?}", outcome.verdict);
    assert!(outcome.exits.contains(&("pages".to_owned(), 0)));
    assert!(outcome.transcript.iter().any(|line| line.contains("odd is not started")));
    Ok(())
}
