//! Schedulers that are programs: what a policy promises, it keeps.

use anyhow::{Context, Result};
use system_tests::guest::Setup;
use system_tests::{Guest, Outcome};

/// The lines of a program that begin with `start`, without it.
fn lines<'a>(outcome: &'a Outcome, start: &str) -> Vec<&'a str> {
    let lines = outcome.transcript.iter();
    lines.filter_map(|line| line.split_once(start).map(|(_, rest)| rest)).collect()
}

/// Runs a machine with this program, and checks that the program is content.
fn succeeds(machine: Setup<'_>, program: &str, args: &str) -> Result<Outcome> {
    let outcome = machine.args(program, args).boot()?.finish()?;
    let code = outcome.exits.iter().find(|(name, _)| name == program).map(|(_, code)| *code);
    assert_eq!(code, Some(0), "{:?}", outcome.transcript);
    Ok(outcome)
}

#[test]
fn stride_gives_shares_by_tickets() -> Result<()> {
    for (tickets, seconds) in [([3, 2, 1], 1), ([7, 2, 1], 2)] {
        let text: Vec<String> = tickets.iter().map(u32::to_string).collect();
        let args = format!("seconds={seconds} tickets={}", text.join(","));
        let outcome = succeeds(Guest::with(["stride"]).cpus(1), "stride", &args)?;
        let clients: Vec<(u32, f64)> = lines(&outcome, "stride: ")
            .into_iter()
            .filter_map(|line| {
                let mut columns = line.split_whitespace();
                let tickets = columns.next()?.parse().ok()?;
                Some((tickets, columns.nth(2)?.strip_suffix('%')?.parse().ok()?))
            })
            .collect();
        let named: Vec<u32> = clients.iter().map(|(tickets, _)| *tickets).collect();
        assert_eq!(named, tickets, "{:?}", outcome.transcript);
        let all: u32 = tickets.iter().sum();
        for (tickets, share) in clients {
            let wanted = 100.0 * f64::from(tickets) / f64::from(all);
            assert!((share - wanted).abs() <= wanted / 100.0 + 0.01, "{tickets}: {share} %");
        }
    }
    Ok(())
}

#[test]
fn earliest_deadline_first_meets_the_deadlines_that_round_robin_misses() -> Result<()> {
    // A task that sleeps must not be woken late because the host is busy.
    let machine = Guest::with(["edf"]).exact();
    let outcome = succeeds(machine, "edf", "rounds=4 trace=10:5,20:6,40:4")?;
    let load = lines(&outcome, "load ");
    assert_eq!(load, ["90 %"], "{:?}", outcome.transcript);
    let missed = |policy: &str| -> Result<u64> {
        let lines = lines(&outcome, policy);
        let number = lines.iter().find_map(|line| line.strip_suffix(" deadlines missed"));
        Ok(number.with_context(|| format!("nothing about `{policy}`"))?.parse()?)
    };
    assert_eq!(missed("edf: earliest deadline first: ")?, 0);
    assert!(missed("edf: round robin: ")? > 0);
    Ok(())
}
