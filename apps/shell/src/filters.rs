//! Filters that lead packets to any program's ring, put in and taken out while packets come.
//!
//! It needs the right `filters`: `NETWORK` over the root name, with which the kernel lets the shell do
//! for others what they do for themselves (decisions 4 and 24).

use crate::listing::living;
use crate::number;
use crate::revocation::reason;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use libos_posix::exo_user::abi::tables::NO_RING;
use libos_posix::exo_user::{EnvName, Error, capability, filter, tables};
use libos_posix::filter_language::{Filter, Overlapping, encode, expression, parse, show};
use libos_posix::println;

/// The filters that were added here, by their ids, with who holds them.
#[derive(Debug, Default)]
pub(crate) struct Added(BTreeMap<u32, (EnvName, Filter)>);

impl Added {
    /// The words behind `filter`.
    pub(crate) fn execute(&mut self, words: &[&str]) -> Result<(), String> {
        match *words {
            ["list"] => self.list(),
            ["add", text, "--to", program] => self.add(text, program),
            ["remove", id] => self.remove(id),
            _ => Err(String::from("filter list | add 'EXPRESSION' --to PROGRAM | remove ID")),
        }
    }

    /// What the table of filters says; of those that were added here, how many places in a packet they
    /// look at, and what they are.
    fn list(&self) -> Result<(), String> {
        println!(
            "{:>6}  {:<16} {:>6} {:>10} {:>8} {:>5}  what",
            "filter", "holder", "ring", "matches", "dropped", "looks"
        );
        for (id, entry) in tables::filters().iter().filter(|(_, entry)| entry.holder != 0) {
            let ring = if entry.ring == NO_RING { "none".into() } else { entry.ring.to_string() };
            let added = self.0.get(&(id as u32)).filter(|(holder, ..)| holder.0 == entry.holder);
            let (looks, what) = match added {
                Some((_, filter)) => (filter.atoms().len().to_string(), show(filter).to_string()),
                None => (String::from("-"), String::new()),
            };
            let holder = tables::environment_named(EnvName(entry.holder)).unwrap_or_default();
            println!(
                "{id:>6}  {:<16} {ring:>6} {:>10} {:>8} {looks:>5}  {what}",
                tables::label(&holder),
                entry.matches,
                entry.dropped
            );
        }
        Ok(())
    }

    fn add(&mut self, text: &str, program: &str) -> Result<(), String> {
        // Offsets are numbers, and no expression begins with one.
        let exact = text == "any" || text.starts_with("shift(");
        let filter = if exact || text.starts_with(|first: char| first.is_ascii_digit()) {
            parse(text).map_err(|error| error.to_string())?
        } else {
            expression(text).map_err(|error| error.to_string())?
        };
        let found = living().find(|(_, entry)| tables::label(entry) == program);
        let (_, entry) = found.ok_or_else(|| format!("{program}: no such program"))?;
        let name = EnvName(entry.name);
        let ring = tables::rings().iter().find(|(_, ring)| ring.holder == name.0);
        let (ring, _) = ring.ok_or_else(|| format!("{program}: it has no ring"))?;
        let encoded = encode(&filter);
        let id = filter::lead(name, capability::FILTERS, encoded.as_ref(), ring as u32)
            .map_err(|error| format!("{program}: {}", self.refused(&filter, error)))?;
        println!("filter {id}: {} goes to ring {ring} of {program}", show(&filter));
        self.0.insert(id, (name, filter));
        Ok(())
    }

    /// Why the kernel refuses a filter: if it overlaps another, which one, and if that was added here, a
    /// packet that both match.
    fn refused(&self, filter: &Filter, error: Error) -> String {
        if error != Error::FilterOverlaps {
            return reason(error).to_string();
        }
        let other = filter::overlapped();
        let entry = tables::filters().get(other.id as usize).unwrap_or_default();
        match self.0.get(&other.id).filter(|(holder, _)| holder.0 == entry.holder) {
            Some((_, known)) => format!("it overlaps {other}:\n{}", Overlapping(filter, known)),
            None => format!("it overlaps {other}:\n  {}", show(filter)),
        }
    }

    fn remove(&mut self, id: &str) -> Result<(), String> {
        let id = number(id)?;
        let id = u32::try_from(id).map_err(|_| format!("{id}: no filter"))?;
        let entry = tables::filters().get(id as usize).unwrap_or_default();
        filter::remove_by(capability::FILTERS, id).map_err(|error| reason(error).to_string())?;
        println!("filter {id} is gone: {} matches, {} dropped", entry.matches, entry.dropped);
        self.0.remove(&id);
        Ok(())
    }
}
