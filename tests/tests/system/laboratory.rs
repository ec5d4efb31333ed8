//! The laboratory: scenarios come out as their descriptions say.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use qemu::lab::experiment::{self, Run};
use qemu::lab::page;
use qemu::lab::scenario::Scenario;
use qemu::lab::timeline::What;
use qemu::workspace::Workspace;

/// Carries out a scenario that ships; the kernel kept its promises in it.
fn carry_out(name: &str) -> Result<(Scenario, Run)> {
    let workspace = Workspace::load()?;
    let path = workspace.root.join(Path::new("qemu/scenarios").join(name).with_extension("toml"));
    let mut scenario = Scenario::read(&path)?;
    scenario.seeds.truncate(1);
    let run = experiment::carry_out(&workspace, &scenario)?.pop().context("no run")?;
    ensure!(run.is_good(), "{run:?}");
    Ok((scenario, run))
}

/// How many of what happened to a program.
fn sum(run: &Run, program: &str, what: What) -> u64 {
    let events = run.timeline.events.iter();
    let own = events.filter(|event| event.program == program && event.what == what);
    own.map(|event| event.count).sum()
}

#[test]
fn the_polite_choose_and_the_others_lose() -> Result<()> {
    let (scenario, run) = carry_out("first-lesson")?;
    let outcome = |name| [What::Surrendered, What::Repossessed].map(|what| sum(&run, name, what));
    assert_eq!(outcome("polite"), [80, 0]);
    assert_eq!(outcome("slow"), [0, 80]);
    assert_eq!(outcome("deaf"), [0, 80]);
    assert_eq!(sum(&run, "deaf", What::Told), 80);
    assert_eq!(run.timeline.latencies.len(), 15);
    let page = page::report(&scenario, &[run]);
    assert!(page.contains("Every debt was paid") && page.matches("<svg").count() > 2);
    Ok(())
}

#[test]
fn no_policy_breaks_the_kernels_promises() -> Result<()> {
    let (_, run) = carry_out("six-characters")?;
    assert!(sum(&run, "lying", What::Repossessed) > 0);
    assert!(run.timeline.events.iter().any(|event| event.what == What::Ended));
    Ok(())
}
