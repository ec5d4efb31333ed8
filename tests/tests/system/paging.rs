//! Memory that pages itself: the parts that a program chooses among.

use anyhow::{Context, Result};
use system_tests::Guest;

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
