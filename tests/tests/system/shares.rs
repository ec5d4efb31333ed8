//! What an attacker costs its neighbour.
//!
//! With one processor the time is that of the guest's instructions, so that what a program gets done
//! in a slice is the same in every run, and every instruction that is taken from it shows. With
//! four, what is looked at is its part of its processor's time.

use anyhow::{Context, Result, ensure};
use system_tests::Guest;
use system_tests::guest::Setup;

/// What the attacker does.
const DEEDS: [&str; 11] = [
    "faults",
    "batches",
    "lists",
    "transfers",
    "children",
    "revocations",
    "console",
    "yields",
    "moves",
    "epilogues",
    "sleeps",
];
/// How much of its work a victim may lose in each slice, and of its share of the time.
const LOSS: f64 = 0.02;
/// How many sleepers disturb the victim.
const SLEEPERS: u32 = 20;

/// What the victim has got done in each slice, and which part of its share of the time it had.
#[derive(Debug)]
struct Measure {
    work: f64,
    share: f64,
}

fn measure(setup: Setup<'_>, deed: &str, cpus: u32) -> Result<Measure> {
    let sleepers = deed == "sleeps";
    let arguments = format!("deed={deed}{}", if sleepers { " children=20" } else { "" });
    let slices = if cpus == 1 { 50 } else { 200 };
    let contract = move |program: &mut qemu::manifest::Program| {
        program.cpus = cpus;
        if sleepers {
            program.slices = SLEEPERS + cpus;
            program.environments = SLEEPERS;
            program.frames = 150 * SLEEPERS;
        } else {
            program.slices = 4 * cpus;
        }
    };
    let setup = setup.args("attacker", &arguments).args("victim", &format!("slices={slices}"));
    let outcome = setup.contract("attacker", contract).cpus(cpus).boot()?.finish()?;
    let folder = outcome.folder.display();
    let line = outcome.transcript.iter().find_map(|line| line.strip_prefix("[victim] work "));
    let words: Vec<&str> = line
        .with_context(|| format!("the victim has said nothing: {folder}"))?
        .split(' ')
        .collect();
    let after = |name: &str| -> Result<f64> {
        let place = words.iter().position(|word| *word == name).context("a word is missing")?;
        Ok(words.get(place + 1).context("a number is missing")?.parse()?)
    };
    let share = after("ran")? / after("elapsed")? * after("positions")?;
    Ok(Measure { work: words[0].parse::<f64>()? / after("slices")?, share })
}

#[test]
fn nobody_costs_another_its_slices() -> Result<()> {
    let guest = || Guest::with(["victim", "attacker"]).exact();
    let whole = measure(guest(), "nothing", 1)?.work;
    let mut lost = Vec::new();
    for deed in DEEDS {
        let Measure { work, share } = measure(guest(), deed, 1)?;
        println!(
            "{deed}: {:.2} % of its work, {:.2} % of its share",
            100.0 * work / whole,
            100.0 * share
        );
        if work < (1.0 - LOSS) * whole || share < 1.0 - LOSS {
            lost.push((deed, work / whole, share));
        }
    }
    ensure!(lost.is_empty(), "work and share: {lost:?}");
    Ok(())
}

#[test]
fn nobody_costs_another_its_share_of_four_processors() -> Result<()> {
    let mut lost = Vec::new();
    for deed in DEEDS {
        let share = measure(Guest::with(["victim", "attacker"]).timed(), deed, 4)?.share;
        println!("{deed}: {:.2} % of its share", 100.0 * share);
        if share < 1.0 - LOSS {
            lost.push((deed, share));
        }
    }
    ensure!(lost.is_empty(), "{lost:?}");
    Ok(())
}
