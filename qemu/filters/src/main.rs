//! Measures filters on this machine and prints what came out as JSON, for `cargo xtask bench`,
//! which builds this with optimisation.

use anyhow::Result;

fn main() -> Result<()> {
    let timings = filter_tools::measure::all(&mut |step| eprintln!("{step}"))?;
    println!("{}", serde_json::to_string(&timings)?);
    Ok(())
}
