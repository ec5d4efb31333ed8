//! Rules as people write them: filters, expressions of tcpdump, or classic BPF, one or a file full.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use filter_language::parse_union;
use packet_filters::Filter;

use crate::classic::Program;
use crate::libpcap::Libpcap;
use crate::lift::{Lifted, lift};
use crate::merged::{Merged, told};
use crate::residual::translate;

/// What separates the filters of a union.
pub const OR: &str = " | ";

/// One rule: the packets that somebody wants.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is called: its text, or what stands before it in a file.
    pub name: String,
    /// A packet has to match one of these.
    pub filters: Vec<Filter>,
    /// What has to accept it then, as eBPF, and why.
    pub residual: Option<Residual>,
}

/// What filters could not say.
#[derive(Clone, Debug)]
pub struct Residual {
    /// The program, with the packet in register 1 and its length in register 2.
    pub bytecode: Vec<u8>,
    /// What it is needed for.
    pub reasons: Vec<String>,
}

impl Rule {
    /// Reads a rule: filters in their own form, what `tcpdump -ddd` prints, or an expression.
    ///
    /// # Errors
    /// It is none of these; the message says what is wrong with it as an expression.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        // A text that starts like a filter is one, and its own error says more.
        let like_one = text.starts_with(|c: char| c.is_ascii_digit()) && text.contains(':');
        match parse_union(text).collect::<Result<Vec<_>, _>>() {
            Ok(filters) => return Ok(Self { name: name.to_owned(), filters, residual: None }),
            Err(error) if like_one => {
                return Err(error).with_context(|| format!("`{text}` is no filter"));
            }
            Err(_) => {}
        }
        let classic = text.lines().next().is_some_and(|line| line.trim().parse::<usize>().is_ok());
        let program =
            if classic { Program::parse(text)? } else { Libpcap::load()?.compile(text)? };
        Ok(Self::lifted(name, &program))
    }

    /// A rule of a classic program.
    #[must_use]
    pub fn lifted(name: &str, program: &Program) -> Self {
        let Lifted { filters, residual: reasons } = lift(program);
        let bytecode = || translate(program);
        let residual = (!reasons.is_empty()).then(|| Residual { bytecode: bytecode(), reasons });
        Self { name: name.to_owned(), filters, residual }
    }

    /// Whether the residual, if there is one, accepts a packet that a filter matches.
    ///
    /// # Errors
    /// The residual does not run, which is a mistake in this program.
    pub fn confirms(&self, packet: &[u8]) -> Result<bool> {
        let Some(residual) = &self.residual else { return Ok(true) };
        // This machine sets register 1 only.
        let length = (packet.len() as u32).to_le_bytes();
        let program = [&[0xb7, 2, 0, 0], &length[..], &residual.bytecode[..]].concat();
        let machine = rbpf::EbpfVmRaw::new(Some(&program)).context("the residual is refused")?;
        Ok(machine.execute_program(&mut packet.to_vec()).context("the residual fails")? != 0)
    }
}

/// Reads rules from arguments: each is a rule, or a file. A file is what `tcpdump -ddd` prints, or
/// has a rule on each line, with a name and `=` before it if it is to have one; lines that begin
/// with `#` are not read.
///
/// # Errors
/// A file cannot be read, or holds something else; the message says where.
pub fn read(arguments: &[String]) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        if !path.is_file() {
            rules.push(Rule::parse(argument, argument)?);
            continue;
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {argument}"))?;
        if text.trim_start().starts_with(|first: char| first.is_ascii_digit())
            && text.lines().next().is_some_and(|line| line.trim().parse::<usize>().is_ok())
        {
            rules.push(Rule::parse(argument, &text)?);
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, rule) = named(line);
            let rule = Rule::parse(name, rule);
            rules.push(rule.with_context(|| format!("{argument}, line {number}"))?);
        }
    }
    if rules.is_empty() {
        bail!("no rules");
    }
    Ok(rules)
}

/// The name before a rule: one word, then ` = `.
fn named(line: &str) -> (&str, &str) {
    let named = line.split_once(" = ").map(|(name, rule)| (name.trim(), rule.trim()));
    let word = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    named.filter(|(name, _)| word(name)).unwrap_or((line, line))
}

/// Rules, merged: the id of each filter is its place in `rules`.
pub struct Merge {
    /// The set.
    pub merged: Merged,
    /// For each id, the rule that its filter is of.
    pub owners: Vec<usize>,
}

impl Merge {
    /// Merges rules. Where two want the same, the first has it.
    ///
    /// # Errors
    /// There are too many shapes.
    pub fn of(rules: &[Rule]) -> Result<Self> {
        let count = rules.iter().map(|rule| rule.filters.len()).sum();
        let mut merged = Merged::new(count);
        let mut owners = Vec::new();
        for (owner, rule) in rules.iter().enumerate() {
            for filter in &rule.filters {
                match merged.set.insert(filter) {
                    Ok(_) => owners.push(owner),
                    Err(packet_filters::InsertError::Duplicate(_)) => {}
                    Err(error) => bail!("cannot merge {}: {}", rule.name, told(error)),
                }
            }
        }
        Ok(Self { merged, owners })
    }

    /// The rule that a packet belongs to, and the filter that found it.
    ///
    /// # Errors
    /// A residual does not run.
    pub fn owner(&self, rules: &[Rule], packet: &[u8]) -> Result<Option<(usize, u32)>> {
        let Some(id) = self.merged.classify(packet) else { return Ok(None) };
        let owner = self.owners[id as usize];
        Ok(rules[owner].confirms(packet)?.then_some((owner, id)))
    }
}
