//! What is measured, and the bars.
//!
//! A new figure is a line here, a function in `apps/bench`, and one in `qemu/linux` if Linux has
//! something to compare.

use anyhow::{Result, bail};
use serde::Serialize;

use super::filters;

/// What belongs together in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Calls, exceptions, slices, control transfer.
    Processor,
    /// Bindings, faults, revocation.
    Memory,
    /// The page tables of `libos-posix`, over pages that are more or less far apart.
    Tables,
    /// Packets, which the host sends.
    Network,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 4] = [Self::Processor, Self::Memory, Self::Tables, Self::Network];

    /// As it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Memory => "memory",
            Self::Tables => "tables",
            Self::Network => "network",
        }
    }
}

/// What is measured of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// How many instructions it takes, on one processor; few are good.
    Instructions,
    /// How many times faster it is on two processors, by the clock.
    Ratio,
}

/// What Linux does that is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The bench in `qemu/linux`.
    pub bench: &'static str,
    /// How many of our operations one of its operations is.
    pub operations: u32,
    /// What it does, in words.
    pub text: &'static str,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The name, which is also that of the bench in `apps/bench`.
    pub name: &'static str,
    /// The group.
    pub group: Group,
    /// What one operation is.
    pub text: &'static str,
    /// What is measured.
    pub unit: Unit,
    /// The most instructions that an operation may take, of programs and kernel together; or the
    /// least ratio.
    pub bar: f64,
    /// How many times faster than Linux it has to be, by the clock.
    pub faster: Option<f64>,
    /// The figure of which it may be a third at most, if that is measured too.
    pub third_of: Option<&'static str>,
    /// The role of the second program that it needs.
    pub role: Option<&'static str>,
    /// What Linux does instead.
    pub linux: Option<Peer>,
}

const fn peer(bench: &'static str, text: &'static str) -> Option<Peer> {
    Some(Peer { bench, operations: 1, text })
}

const fn figure(
    group: Group,
    name: &'static str,
    bar: u64,
    text: &'static str,
    linux: Option<Peer>,
) -> Figure {
    let (unit, bar) = (Unit::Instructions, bar as f64);
    Figure { name, group, text, unit, bar, faster: None, third_of: None, role: None, linux }
}

const fn processor(name: &'static str, bar: u64, text: &'static str, l: Option<Peer>) -> Figure {
    figure(Group::Processor, name, bar, text, l)
}

const fn memory(name: &'static str, bar: u64, text: &'static str, l: Option<Peer>) -> Figure {
    figure(Group::Memory, name, bar, text, l)
}

const fn tables(name: &'static str, bar: u64, text: &'static str) -> Figure {
    figure(Group::Tables, name, bar, text, None)
}

const fn network(name: &'static str, bar: u64, text: &'static str) -> Figure {
    figure(Group::Network, name, bar, text, None)
}

impl Figure {
    const fn faster(self, times: f64) -> Self {
        Self { faster: Some(times), ..self }
    }

    const fn third_of(self, whole: &'static str) -> Self {
        Self { third_of: Some(whole), ..self }
    }

    const fn with(self, role: &'static str) -> Self {
        Self { role: Some(role), ..self }
    }

    /// A ratio that has to be at least this.
    const fn at_least(self, bar: f64) -> Self {
        Self { unit: Unit::Ratio, bar, ..self }
    }

    /// How many processors the machine has.
    #[must_use]
    pub fn processors(&self) -> u32 {
        match self.unit {
            Unit::Instructions => 1,
            Unit::Ratio => 2,
        }
    }
}

const GETPPID: Option<Peer> = peer("getppid", "getppid");
const PIPE: Option<Peer> = peer("pipe", "a byte through a pipe and one back");

/// Every figure.
pub const FIGURES: &[Figure] = &[
    processor("null_call", 80, "the null call", GETPPID).faster(3.0),
    processor("getpid_lib", 10, "the own name, through the library", GETPPID),
    processor(
        "exception",
        150,
        "an invalid opcode, its handler, back behind it",
        peer("signal", "SIGILL, its handler, back behind it"),
    )
    .faster(10.0),
    processor("pct_oneway", 150, "control transfer, one way", HAND_OVER),
    processor("rpc", 450, "a call to another environment, all registers saved", PIPE),
    processor("pipe", 1_000, "a byte to another environment and one back", PIPE).faster(10.0),
    processor(
        "slice_switch",
        600,
        "end of a slice: interrupt, upcall, all registers saved, yield, the next one runs",
        peer("sched_yield", "sched_yield to another process"),
    )
    .with("compute"),
    processor("batch_call", 30, "each null call of a batch beyond the first", GETPPID),
    processor(
        "two_pingpongs",
        0,
        "control transfers to and fro on two processors at once: how many times those of one",
        None,
    )
    .at_least(1.7),
    processor("wakeup", 1_500, "a word changes that somebody sleeps until, who is told", None),
    processor("predicates", 1_500, "the same while 1,000 other predicates sleep", None),
    memory("dirty", 30, "whether a page is dirty", None),
    memory("prot1", 250, "another right for a page", peer("prot1", "mprotect of a page")),
    memory(
        "prot100",
        4_000,
        "other rights for 100 pages, and back",
        peer("prot100", "mprotect of 100 pages, and back"),
    ),
    memory(
        "trap",
        500,
        "a fault, the right given back, back to it",
        peer("trap", "SIGSEGV, mprotect, back to it"),
    ),
    memory(
        "appel1",
        900,
        "a fault, the right given back, another page's taken",
        peer("appel1", "SIGSEGV, mprotect, mprotect of another page"),
    ),
    memory(
        "appel2",
        60_000,
        "100 pages' rights taken, a fault on each",
        peer("appel2", "mprotect of 100 pages, SIGSEGV on each"),
    ),
    memory(
        "fresh_page",
        900,
        "a fault on a fresh page, without the zeroing",
        peer("fresh_page", "a fault on a fresh page, with the zeroing"),
    ),
    memory("stlb_refill", 200, "a miss that the software TLB answers", None),
    memory("bind_batch", 60, "a page of a batch of 1,000 bound", None),
    memory(
        "abort_frame",
        800,
        "a frame taken that two environments have mapped, the ticks included",
        None,
    ),
    memory("abort_step", 20_000, "the longest wait of a program while frames are taken", None),
    tables("linear_1", 4_700, "sparse appel1, a linear table, pages side by side"),
    tables("linear_16", 4_800, "sparse appel1, a linear table, pages 16 apart"),
    tables("linear_64", 5_500, "sparse appel1, a linear table, pages 64 apart"),
    tables("linear_256", 8_400, "sparse appel1, a linear table, pages 256 apart"),
    tables("linear_1024", 14_500, "sparse appel1, a linear table, pages 1,024 apart"),
    tables("hashed_1", 4_800, "sparse appel1, a hashed table, pages side by side"),
    tables("hashed_16", 4_850, "sparse appel1, a hashed table, pages 16 apart"),
    tables("hashed_64", 5_400, "sparse appel1, a hashed table, pages 64 apart"),
    tables("hashed_256", 7_700, "sparse appel1, a hashed table, pages 256 apart"),
    tables("hashed_1024", 11_100, "sparse appel1, a hashed table, pages 1,024 apart"),
    tables("extents_1", 6_000, "sparse appel1, a table of extents, pages side by side"),
    tables("extents_16", 5_700, "sparse appel1, a table of extents, pages 16 apart"),
    tables("extents_64", 6_300, "sparse appel1, a table of extents, pages 64 apart"),
    tables("extents_256", 8_600, "sparse appel1, a table of extents, pages 256 apart"),
    tables("extents_1024", 12_000, "sparse appel1, a table of extents, pages 1,024 apart"),
    network("echo_user", 2_000, "a packet of 100 bytes and its echo by a program that polls"),
    network("handler_echo", 1_100, "the same by a handler, on the same way through the driver"),
    network(
        "echo_asleep",
        4_000,
        "a packet and its echo by a program that sleeps until it comes, while another runs",
    )
    .with("compute"),
    network("handler_asleep", 1_050, "the same by the handler of a program that sleeps on")
        .third_of("echo_asleep")
        .with("compute"),
];

/// The fastest way that Linux has.
const HAND_OVER: Option<Peer> = Some(Peer {
    bench: "futex",
    operations: 2,
    text: "half of a round: waking another process with a futex, and waiting",
});

/// The figures of these names, in the order of the table; a group's name stands for all of it, and
/// no name for everything.
///
/// # Errors
/// There is no such figure; the message lists those that exist.
pub fn select(names: &[String]) -> Result<Vec<&'static Figure>> {
    let matches = |figure: &Figure, name: &str| figure.name == name || figure.group.name() == name;
    for name in names {
        if !FIGURES.iter().any(|figure| matches(figure, name)) {
            bail!("there is no bench called `{name}`\n{}", list());
        }
    }
    let wanted =
        |figure: &&Figure| names.is_empty() || names.iter().any(|name| matches(figure, name));
    Ok(FIGURES.iter().filter(wanted).collect())
}

/// The names by group, one line for each.
#[must_use]
pub fn list() -> String {
    let lines = Group::ALL.map(|group| {
        let figures = FIGURES.iter().filter(|figure| figure.group == group);
        let names: Vec<&str> = figures.map(|figure| figure.name).collect();
        format!("{}: {}", group.name(), names.join(", "))
    });
    let host = filters::FIGURES.map(|(name, _)| name).join(", ");
    format!("{}\n{}: {host}", lines.join("\n"), filters::GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> =
            FIGURES.iter().map(|figure| figure.name).chain(Group::ALL.map(Group::name)).collect();
        assert_eq!(names.len(), FIGURES.len() + Group::ALL.len());
    }

    #[test]
    fn a_group_stands_for_its_figures() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            select(&words).unwrap().iter().map(|figure| figure.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&["trap", "null_call"]), ["null_call", "trap"]);
        assert!(names(&["processor"]).contains(&"slice_switch"));
        assert!(!names(&["processor"]).contains(&"prot1"));
        assert_eq!(names(&[]).len(), FIGURES.len());
    }

    #[test]
    fn an_unknown_name_gets_those_that_exist() {
        let error = select(&["nul_call".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`nul_call`") && error.contains("null_call, getpid_lib"), "{error}");
    }
}
