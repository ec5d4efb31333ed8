//! Rules of different owners that one packet could match, which the kernel refuses, and that packet.

use std::fmt;

use filter_language::{show, witness};
use packet_filters::{Atom, Filter, InsertError, MAX_END, Width};
use smoltcp::wire::{EthernetFrame, PrettyPrinter};

use crate::merged::Merged;
use crate::rule::Rule;

/// Bytes of a line of hexadecimal numbers.
const LINE: usize = 16;
/// Bytes that a cable carries at least.
const LEAST: usize = 60;

/// A filter of one rule that overlaps one of a rule before it.
#[derive(Clone, Debug)]
pub struct Overlap<'r> {
    /// The rules.
    pub rules: [&'r Rule; 2],
    /// The filters.
    pub filters: [Filter; 2],
    /// A packet that both match. None if none was found: behind headers of variable length, filters
    /// are taken to overlap where it is not sure that they do not.
    pub packet: Option<Vec<u8>>,
}

/// For each rule the first overlap with a rule before it, found as the kernel does.
///
/// # Errors
/// The filters do not find room in one set.
pub fn overlaps(rules: &[Rule]) -> Result<Vec<Overlap<'_>>, InsertError> {
    let mut merged = Merged::new(rules.iter().map(|rule| rule.filters.len()).sum());
    let mut owners: Vec<&Rule> = Vec::new();
    let mut found = Vec::new();
    for rule in rules {
        let foreign = |id: u32| !std::ptr::eq(owners[id as usize], rule);
        let first = rule.filters.iter().find_map(|own| {
            let id = merged.set.overlap(own, foreign)?;
            Some((owners[id as usize], [merged.set.get(id)?, *own]))
        });
        found.extend(first.map(|(other, filters)| Overlap {
            rules: [other, rule],
            filters,
            packet: shown(&filters),
        }));
        for filter in &rule.filters {
            match merged.set.insert(filter) {
                Ok(_) => owners.push(rule),
                Err(InsertError::Duplicate(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// What people know packets by, where the filters leave it open.
const USUAL: [[Atom; 5]; 2] = [
    [
        Atom::exact(12, Width::Two, 0x0800),
        Atom::exact(14, Width::One, 0x45),
        Atom::exact(16, Width::Two, LEAST as u32 - 14),
        Atom::exact(22, Width::One, 64),
        Atom::exact(46, Width::One, 0x50),
    ],
    [
        Atom::exact(12, Width::Two, 0x86dd),
        Atom::exact(14, Width::Four, 0x6000_0000),
        Atom::exact(18, Width::Two, LEAST as u32 - 54),
        Atom::exact(20, Width::One, 59),
        Atom::exact(21, Width::One, 64),
    ],
];

/// A packet that both match, at least as long as those of a cable are, and as usual as it may be.
fn shown([a, b]: &[Filter; 2]) -> Option<Vec<u8>> {
    let find = |a: &Filter| {
        let mut packet = vec![0; 2 * usize::from(MAX_END)];
        let length = witness(a, b, &mut packet)?;
        packet.truncate(length.max(LEAST));
        Some(packet)
    };
    let (mut narrowed, mut packet) = (*a, find(a)?);
    for [protocol, fields @ ..] in &USUAL {
        for atom in std::iter::once(protocol).chain(fields) {
            let more = filter_language::filter(&[&[*atom], narrowed.atoms()].concat()).ok();
            match more.and_then(|more| Some((more, find(&more)?))) {
                Some(both) => (narrowed, packet) = both,
                None if atom == protocol => break,
                None => {}
            }
        }
    }
    Some(packet)
}

impl fmt::Display for Overlap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.rules;
        writeln!(f, "`{}` overlaps `{}`:", second.name, first.name)?;
        for filter in self.filters.iter().rev() {
            writeln!(f, "  {}", show(filter))?;
        }
        let Some(packet) = &self.packet else {
            return writeln!(f, "no packet was found that matches both, but there may be one");
        };
        writeln!(f, "since this packet matches both:")?;
        for (at, bytes) in (0..).step_by(LINE).zip(packet.chunks(LINE)) {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(f, "  {at:04x}  {}", bytes.join(" "))?;
        }
        let text = PrettyPrinter::<EthernetFrame<&[u8]>>::new("  ", packet).to_string();
        writeln!(f, "{}", text.trim_end())
    }
}
