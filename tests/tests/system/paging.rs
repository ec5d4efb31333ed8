//! Memory that pages itself: the parts that a program chooses among.

use anyhow::{Context, Result, ensure};
use system_tests::guest::Setup;
use system_tests::{Guest, Outcome};

/// `pages` with these arguments and so many frames gets its result right. Returns its faults.
fn faults(args: &str, frames: u32) -> Result<u64> {
    let guest = Guest::with(["pages"])
        .args("pages", args)
        .contract("pages", move |program| program.frames = frames)
        .boot()?;
    let outcome = guest.finish()?;
    assert_eq!(outcome.exits, [("pages".to_owned(), 0)], "{args}: {:?}", outcome.transcript);
    let mut lines = outcome.transcript.iter();
    let line = lines.find_map(|line| line.split_once(" faults: ")).context("no faults")?;
    Ok(line.0.rsplit(' ').next().context("no number")?.parse()?)
}

#[test]
fn every_page_table_gets_the_result_right() -> Result<()> {
    for table in ["linear", "hashed", "extents"] {
        faults(&format!("table={table} pages=1024 passes=4"), 256)?;
    }
    Ok(())
}

#[test]
fn mru_faults_half_as_often_as_lru_on_a_cycle() -> Result<()> {
    let cycle = |policy| faults(&format!("policy={policy} pages=256 passes=8 order=cyclic"), 320);
    let (lru, mru) = (cycle("lru")?, cycle("mru")?);
    println!("LRU {lru} faults, MRU {mru}");
    assert!(lru >= 2 * mru, "LRU {lru}, MRU {mru}");
    Ok(())
}

/// In a time that is the guest's instructions.
#[test]
fn a_hashed_table_beats_a_linear_one_where_pages_are_far_apart() -> Result<()> {
    let benches = "benches=linear_1,hashed_1,linear_1024,hashed_1024";
    let outcome = Guest::with(["bench"]).args("bench", benches).exact().boot()?.finish()?;
    let instructions = |name: &str| -> Result<u64> {
        let start = format!("bench {name} operations=500 nanoseconds=");
        let mut lines = outcome.transcript.iter().filter_map(|line| line.split_once(&start));
        let (_, number) = lines.next().with_context(|| format!("{:?}", outcome.transcript))?;
        Ok(number.parse::<u64>()? / 500)
    };
    let [dense, sparse] = ["1", "1024"].map(|apart| -> Result<(u64, u64)> {
        Ok((instructions(&format!("linear_{apart}"))?, instructions(&format!("hashed_{apart}"))?))
    });
    let ((linear, hashed), (linear_sparse, hashed_sparse)) = (dense?, sparse?);
    println!("dense: {linear} and {hashed}; sparse: {linear_sparse} and {hashed_sparse}");
    assert!(linear < hashed && hashed_sparse < linear_sparse);
    Ok(())
}

/// The number in front of `words`, in the last line that has it.
fn count(outcome: &Outcome, words: &str) -> Result<u64> {
    let lines = outcome.transcript.iter().rev();
    let mut found = lines.filter_map(|line| {
        let (before, _) = line.split_once(words)?;
        before.split_whitespace().last()?.parse().ok()
    });
    found.next().with_context(|| format!("no line with a number and `{words}`"))
}

#[test]
fn the_collector_survives_the_loss_of_a_third_of_its_frames() -> Result<()> {
    let guest = Guest::with(["collector", "broker"])
        .args("collector", "steps=200000 buckets=3072")
        .args("broker", "victims=collector frames=160 notice=10 period=10 report=20")
        .boot()?;
    let outcome = guest.finish()?;
    let code = outcome.exits.iter().find(|(name, _)| name == "collector").map(|(_, code)| *code);
    ensure!(code == Some(0), "{:?}", outcome.transcript);
    assert_eq!(count(&outcome, " of 3072 lists are wrong")?, 0);
    assert!(count(&outcome, " barriers, ")? > 100);
    assert!(count(&outcome, " old pages searched, ")? < count(&outcome, " spared; ")?);
    assert!(count(&outcome, " frames given back by choice")? >= 160);
    Ok(())
}

#[test]
fn the_collector_survives_having_a_third_of_its_frames_taken_by_force() -> Result<()> {
    let guest = Guest::with(["collector", "broker"])
        .args("collector", "steps=600000 buckets=3072 ready=32")
        .args("broker", "victims=collector frames=16 notice=0 period=10 report=20")
        .boot()?;
    let outcome = guest.finish()?;
    let code = outcome.exits.iter().find(|(name, _)| name == "collector").map(|(_, code)| *code);
    ensure!(code == Some(0), "{:?}", outcome.transcript);
    assert_eq!(count(&outcome, " of 3072 lists are wrong")?, 0);
    assert!(count(&outcome, " frames taken by force")? >= 160);
    Ok(())
}

/// The computation of `checkpoint` has its result, however often its environment was killed.
fn the_result_is_right(machine: Setup<'_>, rounds: u64) -> Result<Outcome> {
    let outcome =
        machine.args("checkpoint", &format!("kills=3 rounds={rounds}")).boot()?.finish()?;
    let code = outcome.exits.iter().find(|(name, _)| name == "checkpoint").map(|(_, code)| *code);
    ensure!(code == Some(0), "{:?}", outcome.transcript);
    assert_eq!(count(&outcome, " times killed, ")?, 3);
    assert!(count(&outcome, " times restored")? >= 3);
    Ok(outcome)
}

#[test]
fn a_killed_computation_goes_on_from_its_checkpoint() -> Result<()> {
    let outcome = the_result_is_right(Guest::with(["checkpoint"]), 5)?;
    let (checkpoints, pages) =
        (count(&outcome, " checkpoints of ")?, count(&outcome, " pages in all, ")?);
    assert!(pages < checkpoints * 128 / 2, "{pages} pages in {checkpoints} checkpoints");
    Ok(())
}

#[test]
fn a_checkpoint_survives_the_loss_of_a_third_of_the_frames() -> Result<()> {
    let broker = "victims=computation frames=120 notice=10 period=10 report=5";
    let machine = Guest::with(["checkpoint", "broker"]).args("broker", broker);
    let outcome = the_result_is_right(machine, 5)?;
    // What was ready was left to the kernel.
    let lost = count(&outcome, " surrendered by choice")? + count(&outcome, " taken by force")?;
    assert!(lost >= 120, "{lost}");
    Ok(())
}

#[test]
fn a_checkpoint_survives_having_a_third_of_the_frames_taken_by_force() -> Result<()> {
    let broker = "victims=computation frames=24 notice=0 period=5 report=5";
    let machine = Guest::with(["checkpoint", "broker"]).args("broker", broker);
    let outcome = the_result_is_right(machine, 12)?;
    assert!(count(&outcome, " taken by force")? >= 120);
    Ok(())
}
