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
fn the_shell_takes_frames_away_live() -> Result<()> {
    let guest = Guest::with(["deaf", "shell"])
        .args("deaf", "frames=100 rounds=1000000 period=5")
        .contract("deaf", |program| program.service = true)
        .boot()?;
    guest.wait_for("type help for the commands")?;
    guest.wait_for("deaf: 100 frames filled")?;
    guest.type_line("revoke deaf frames 100 --deadline 5")?;
    let owes = guest.wait_for("asked deaf for 100 frames: it owes ")?;
    let debt = owes.rsplit(' ').next().unwrap_or_default();
    guest.wait_for(&format!(" 0 given back by choice, {debt} taken by force"))?;
    guest.wait_for("deaf may hold 100 frames more again")?;
    for (typed, answer) in [
        ("revoke nobody frames 1", "revoke: nobody: no such program"),
        ("revoke deaf gold 1", "revoke: gold: no kind of resource"),
        ("revoke deaf frames many", "revoke: many: not a number"),
        ("revoke deaf frames 1 --deadline", "revoke: revoke PROGRAM KIND N [--deadline MS]"),
    ] {
        guest.type_line(typed)?;
        guest.wait_for(answer)?;
    }
    guest.type_line("exit")?;
    assert_eq!(guest.finish()?.verdict, Verdict::Code(0));
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
