//! Control transfer as programs use it: calls of one another, pipes, batches of calls.

use anyhow::{Result, ensure};
use system_tests::Guest;
use system_tests::guest::Setup;

/// How many processors each machine has.
const CPUS: [u32; 2] = [1, 2];

/// Boots the machine; its program ends with 0 and says that it has done what it should.
fn says(setup: Setup<'_>, text: &str) -> Result<()> {
    let outcome = setup.boot()?.finish()?;
    let told = |line: &&String| !line.contains("] @");
    let lines: Vec<&String> = outcome.transcript.iter().filter(told).collect();
    ensure!(outcome.exits.iter().all(|(_, code)| *code == 0), "{:?} {lines:#?}", outcome.exits);
    ensure!(lines.iter().any(|line| line.contains(text)), "{lines:#?}");
    Ok(())
}

#[test]
fn remote_calls_carry_every_word() -> Result<()> {
    for cpus in CPUS {
        says(Guest::with(["rpc_words"]).cpus(cpus), "100000 calls")?;
    }
    says(Guest::with(["rpc_words"]).cpus(2).timed(), "100000 calls")
}

#[test]
fn remote_calls_end_whatever_the_server_does() -> Result<()> {
    for cpus in CPUS {
        says(Guest::with(["rpc_failures"]).cpus(cpus), "every call has ended")?;
    }
    says(Guest::with(["rpc_failures"]).cpus(2).timed(), "every call has ended")
}

#[test]
fn pipes_lose_no_byte() -> Result<()> {
    for cpus in CPUS {
        for slices in [0, 1] {
            let setup = Guest::with(["pipe_bytes"]).cpus(cpus);
            says(setup.args("pipe_bytes", &format!("slices={slices}")), "bytes each way")?;
        }
    }
    says(
        Guest::with(["pipe_bytes"]).cpus(2).timed().args("pipe_bytes", "slices=1"),
        "bytes each way",
    )
}

#[test]
fn batches_stop_or_roll_back() -> Result<()> {
    for cpus in CPUS {
        says(Guest::with(["batch_calls"]).cpus(cpus), "batches hold")?;
    }
    Ok(())
}
