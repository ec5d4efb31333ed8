//! The counter of instructions, by which the figures are taken.

use anyhow::{Context, Result};
use qemu::bench::counter::Plugin;
use qemu::bench::exokernel::Exokernel;
use qemu::bench::figure::{FIGURES, Figure, select};
use qemu::bench::sample::{Measured, Sample, Samples};
use qemu::machine::Configuration;
use system_tests::guest::{artifacts, workspace};

/// Counts these benches of `apps/bench`.
fn count(names: &[&'static str]) -> Result<Samples> {
    let configuration = Configuration::default();
    let exokernel = Exokernel::new(workspace()?, artifacts()?.clone(), &configuration);
    let figures: Vec<Figure> = names.iter().map(|&name| Figure { name, ..FIGURES[0] }).collect();
    exokernel.run(&figures.iter().collect::<Vec<_>>(), Some(&Plugin::build(workspace()?)?))
}

fn measured(samples: &Samples, name: &str) -> Result<Measured> {
    match samples.get(name) {
        Some(Sample::Done(measured)) => Ok(*measured),
        other => anyhow::bail!("{name}: {other:?}"),
    }
}

#[test]
fn a_known_loop_is_counted_exactly() -> Result<()> {
    let samples = count(&["known_loop"])?;
    let instructions = measured(&samples, "known_loop")?.instructions;
    assert_eq!(instructions.user, 4_000_001.0, "{instructions:?}");
    // It was interrupted: what it was interrupted for is not its own.
    assert!(instructions.kernel > 0.0, "{instructions:?}");
    Ok(())
}

#[test]
fn two_runs_count_the_same() -> Result<()> {
    let names = ["null_call", "exception"];
    let (first, second) = (count(&names)?, count(&names)?);
    for name in names {
        let (first, second) = (measured(&first, name)?, measured(&second, name)?);
        assert_eq!(first.instructions, second.instructions, "{name}");
        assert!(first.instructions.kernel > 10.0 * first.operations as f64, "{first:?}");
    }
    Ok(())
}

#[test]
fn a_bench_that_the_guest_does_not_know_is_no_failure_of_the_others() -> Result<()> {
    let samples = count(&["no_such_bench", "getpid_lib"])?;
    assert_eq!(samples.get("no_such_bench").context("it is not mentioned")?, &Sample::Unknown);
    assert!(measured(&samples, "getpid_lib")?.operations > 0);
    Ok(())
}

#[test]
fn a_trace_is_what_was_counted() -> Result<()> {
    let configuration = Configuration::default();
    let exokernel = Exokernel::new(workspace()?, artifacts()?.clone(), &configuration);
    let plugin = Plugin::build(workspace()?)?.tracing();
    let figure = select(&["exception".to_owned()])?[0];
    let lines = exokernel.trace(figure, &plugin)?;
    let position = |text: &str| {
        let mut found = lines.iter().enumerate().filter(|(_, line)| line.text == text);
        let (position, _) = found.next().context("it is not there")?;
        anyhow::ensure!(found.next().is_none(), "`{text}` is there twice");
        Ok(position)
    };
    assert!(position("ud2")? < position("iretq")?);
    assert!(lines.iter().any(|line| line.function == "exception_entry"), "{lines:?}");
    assert!(lines.iter().any(|line| line.function == "skip" && !line.place.is_empty()));
    let counted = measured(&count(&["exception"])?, "exception")?;
    let mean = counted.instructions.total() / counted.operations as f64;
    // In the mean are ticks, too.
    assert!((0.98 * mean..=mean).contains(&(lines.len() as f64)), "{} of {mean}", lines.len());
    Ok(())
}
