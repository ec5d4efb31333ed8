//! `filter`: packet filters on the host.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use filter_tools::capture;
use filter_tools::libpcap;
use filter_tools::merged::told;
use filter_tools::overlap::overlaps;
use filter_tools::picture::Picture;
use filter_tools::rule::{self, Merge, OR, Rule};
use qemu::installation::{LIBPCAP_TOOL, require};

use super::bench;

/// Work with packet filters: compile expressions, look at what is merged, try it on captures
///
/// A RULE is an expression of tcpdump ('tcp and dst port 80 and net 10.0/8'), filters in their own
/// form ('12:2=0x0800 23:1=6 | 12:2=0x0806'), or a file. A file is what tcpdump -ddd prints, or has
/// a rule on each line, with a name before it if you like: web = tcp dst port 80
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the filters of each rule, and what could not be said in filters
    Compile {
        /// The rules
        #[arg(value_name = "RULE", required = true)]
        rules: Vec<String>,
        /// Write the residual, as eBPF, to this file
        #[arg(long, value_name = "FILE")]
        residual: Option<PathBuf>,
    },
    /// Draw the merged tree, with the machine code of each part beside it, as SVG
    Show {
        /// The rules
        #[arg(value_name = "RULE", required = true)]
        rules: Vec<String>,
        /// Where the picture goes
        #[arg(short, long, value_name = "FILE", default_value = "filters.svg")]
        output: PathBuf,
        /// Count how many packets of this capture each part gets
        #[arg(long, value_name = "TRACE.pcap")]
        trace: Option<PathBuf>,
        /// Draw every filter and every instruction
        #[arg(long)]
        unfolded: bool,
    },
    /// Take each rule for another program's, and show a packet for each overlap, which the kernel refuses
    Overlap {
        /// The rules
        #[arg(value_name = "RULE", num_args = 2.., required = true)]
        rules: Vec<String>,
    },
    /// Run rules over a capture and print who gets which packet
    Test {
        /// The rules, then the capture
        #[arg(value_name = "RULE... TRACE.pcap", num_args = 2.., required = true)]
        rules: Vec<String>,
        /// Print only how many packets each rule gets
        #[arg(long)]
        totals: bool,
    },
    /// Measure filters on this machine: the same as `cargo xtask bench filters`
    Bench,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    match &options.action {
        Action::Compile { rules, residual } => compile(&read(rules)?, residual.as_deref())?,
        Action::Show { rules, output, trace, unfolded } => {
            let trace = trace.as_ref().map(|path| capture::read(path)).transpose()?;
            show(&read(rules)?, output, trace.as_deref(), *unfolded)?;
        }
        Action::Overlap { rules } => return overlap(&read(rules)?),
        Action::Test { rules, totals } => {
            let (trace, rules) = rules.split_last().context("no capture")?;
            test(&read(rules)?, &capture::read(trace.as_ref())?, *totals)?;
        }
        Action::Bench => return bench::run(&bench::Options::of(&["filters"])),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads rules; expressions need libpcap.
fn read(arguments: &[String]) -> Result<Vec<Rule>> {
    if libpcap::version().is_none() {
        // Filters in their own form can do without.
        if let Ok(rules) = rule::read(arguments) {
            return Ok(rules);
        }
        require(&LIBPCAP_TOOL, libpcap::version)?;
    }
    rule::read(arguments)
}

fn compile(rules: &[Rule], output: Option<&std::path::Path>) -> Result<()> {
    let mut bytecode = Vec::new();
    for rule in rules {
        if rules.len() > 1 {
            println!("# {}", rule.name);
        }
        let filters: Vec<String> =
            rule.filters.iter().map(|filter| filter_tools::show(filter).to_string()).collect();
        let separator = format!("\n{}", OR.trim_start());
        println!("  {}", filters.join(&separator));
        if rule.filters.is_empty() {
            println!("# no packet can match");
        }
        if let Some(residual) = &rule.residual {
            println!("# not all of it can be said in filters, which match more than they should:");
            residual.reasons.iter().for_each(|reason| println!("#   {reason}"));
            let count = residual.bytecode.len() / 8;
            println!("# behind them runs a residual of {count} eBPF instructions");
            bytecode.extend(&residual.bytecode);
        }
    }
    if let Some(path) = output {
        fs::write(path, bytecode).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn show(
    rules: &[Rule],
    output: &std::path::Path,
    trace: Option<&[Vec<u8>]>,
    unfolded: bool,
) -> Result<()> {
    let mut merge = Merge::of(rules)?;
    let parts = merge.merged.compile()?;
    let hits = match trace {
        Some(packets) => {
            let mut hits = vec![0; merge.owners.len()];
            for packet in packets {
                if let Some((_, id)) = merge.owner(rules, packet)? {
                    hits[id as usize] += 1;
                }
            }
            Some(hits)
        }
        None => None,
    };
    let names = |id: u32| rules[merge.owners[id as usize]].name.clone();
    let picture = Picture {
        parts: &parts,
        code: merge.merged.code(),
        names: &names,
        hits: hits.as_deref(),
        unfolded,
    };
    fs::write(output, picture.draw())
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}", output.display());
    Ok(())
}

fn overlap(rules: &[Rule]) -> Result<ExitCode> {
    let overlaps = overlaps(rules).map_err(|error| anyhow!("cannot merge: {}", told(error)))?;
    overlaps.iter().for_each(|overlap| print!("{overlap}"));
    if overlaps.is_empty() {
        println!("no packet matches two of these");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn test(rules: &[Rule], packets: &[Vec<u8>], only_totals: bool) -> Result<()> {
    let mut merge = Merge::of(rules)?;
    merge.merged.compile()?;
    let mut totals = vec![0usize; rules.len()];
    let mut nobody = 0usize;
    for (number, packet) in (1..).zip(packets) {
        let owner = merge.owner(rules, packet)?;
        match owner {
            Some((owner, _)) => totals[owner] += 1,
            None => nobody += 1,
        }
        if !only_totals {
            let owner = owner.map_or("-", |(owner, _)| &rules[owner].name);
            println!("{number:6}  {:5} bytes  {owner}", packet.len());
        }
    }
    for (rule, total) in rules.iter().zip(&totals) {
        println!("{total:8}  {}", rule.name);
    }
    println!("{nobody:8}  nobody's");
    Ok(())
}
