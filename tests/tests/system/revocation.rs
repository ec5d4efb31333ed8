//! Frames asked back: given by choice, taken by force, and nobody's result is wrong.

use anyhow::{Context, Result};
use system_tests::{Guest, Outcome, http};

/// The exit code of a program.
fn code_of(outcome: &Outcome, name: &str) -> Option<u64> {
    outcome.exits.iter().find(|(other, _)| other == name).map(|(_, code)| *code)
}

/// The number in front of `words`, in the last line that has both `start` and `words`.
fn count(outcome: &Outcome, start: &str, words: &str) -> Result<u64> {
    let lines = outcome.transcript.iter().rev();
    let mut found = lines.filter(|line| line.contains(start)).filter_map(|line| {
        let (before, _) = line.split_once(words)?;
        before.split_whitespace().last()?.parse().ok()
    });
    found.next().with_context(|| format!("no line `{start} … N{words}`"))
}

#[test]
fn two_libraries_side_by_side() -> Result<()> {
    let guest = Guest::with(["web", "pages", "deaf", "broker"]).boot()?;
    guest.wait_for("serving http://")?;
    assert_eq!(http::get(guest.address(80)?, "/")?.status, 200);
    let outcome = guest.finish()?;
    assert_eq!(code_of(&outcome, "pages"), Some(0));
    assert_eq!(code_of(&outcome, "deaf"), Some(0));
    assert!(count(&outcome, "[web]", " answers")? >= 1);
    assert!(count(&outcome, "[pages]", " frames given back by choice")? > 0);
    let lost = count(&outcome, "deaf: lost", " frames, told")?;
    assert!(lost > 0);
    let told = format!("deaf: lost {lost} frames, told {lost}");
    assert!(outcome.transcript.iter().any(|line| line.ends_with(&told)), "{told}");
    let checksums = outcome.transcript.iter().filter(|line| line.contains(": checksum 0x"));
    assert_eq!(checksums.filter(|line| line.ends_with(" ok")).count(), 2);
    Ok(())
}

/// `pages` gets its result right under this policy while frames are revoked from it.
fn pages_are_right(policy: &str) -> Result<()> {
    let guest = Guest::with(["pages", "broker"])
        .args("pages", &format!("policy={policy} pages=1024 passes=4"))
        .args("broker", "victims=pages frames=8 notice=10 period=10 report=20")
        .boot()?;
    let outcome = guest.finish()?;
    assert_eq!(code_of(&outcome, "pages"), Some(0), "{policy}");
    assert!(count(&outcome, "[pages]", " frames given back by choice")? > 0, "{policy}");
    assert_eq!(count(&outcome, "[pages]", " frames taken by force")?, 0, "{policy}");
    Ok(())
}

#[test]
fn every_policy_gets_the_result_right() -> Result<()> {
    ["fifo", "clock", "lru", "mru", "ws"].into_iter().try_for_each(pages_are_right)
}

#[test]
fn the_same_seed_gives_the_same_checksum() -> Result<()> {
    let checksum = || -> Result<String> {
        let outcome = Guest::with(["pages"]).seed(7).boot()?.finish()?;
        let line = outcome.transcript.iter().find(|line| line.contains("pages: checksum"));
        Ok(line.context("no checksum")?.clone())
    };
    assert_eq!(checksum()?, checksum()?);
    Ok(())
}
