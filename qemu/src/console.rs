//! The console protocol: `[label] text`, one line at a time.
//!
//! The kernel writes the label, so a program cannot speak as another. Text that starts with `@` is
//! meant for the host: reports that the run depends on count only from `kernel` and `init`.

use std::collections::BTreeMap;

/// The label of the kernel's own lines.
pub const KERNEL_LABEL: &str = "kernel";
/// The label of the first program.
pub const INIT_LABEL: &str = "init";

/// Resources that were not given back when a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Kind of resource and how many of it, without those that are zero.
    pub missing: BTreeMap<String, i64>,
}

/// A report for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first line of a program.
    Up,
    /// A program ended: its name and code.
    Exit(String, u64),
    /// Every resource is free again, or which are not.
    Leak(Leaks),
    /// The exposed tables, as JSON text.
    Tables(String),
    /// Part `index` of `count` of the tables, counted from 1.
    TablesPart {
        /// Which part.
        index: usize,
        /// Of how many.
        count: usize,
        /// The text.
        text: String,
    },
    /// Return addresses in a panic or a kill: of what, and where.
    Backtrace(String, Vec<u64>),
}

/// One line of the console, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Who wrote it; none for what comes before the kernel, such as the firmware.
    pub label: Option<&'a str>,
    /// What it says.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// Takes a line apart. Every text is a line.
    #[must_use]
    pub fn parse(line: &'a str) -> Self {
        let parts = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match parts {
            Some((label, text)) => {
                Self { label: Some(label), text: text.strip_prefix(' ').unwrap_or(text) }
            }
            None => Self { label: None, text: line },
        }
    }

    /// Whether the line is for the host and not for people.
    #[must_use]
    pub fn is_report(&self) -> bool {
        self.text.starts_with('@')
    }

    /// The report in this line. A report that its label may not make is none.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        let label = self.label?;
        let trusted = label == KERNEL_LABEL || label == INIT_LABEL;
        let (verb, rest) =
            self.text.strip_prefix('@')?.split_once(' ').unwrap_or((&self.text[1..], ""));
        match verb {
            "up" => Some(Event::Up),
            "backtrace" => {
                let (name, addresses) = backtrace(rest)?;
                (trusted || name == label).then_some(Event::Backtrace(name, addresses))
            }
            _ if !trusted => None,
            "exit" => {
                let (name, code) = rest.rsplit_once(' ')?;
                Some(Event::Exit(name.to_owned(), code.parse().ok()?))
            }
            "leak" => Some(Event::Leak(leaks(rest)?)),
            "tables" => Some(Event::Tables(rest.to_owned())),
            "tables-part" => {
                let (position, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let (index, count) = position.split_once('/')?;
                let (index, count) = (index.parse().ok()?, count.parse().ok()?);
                Some(Event::TablesPart { index, count, text: text.to_owned() })
            }
            _ => None,
        }
    }
}

fn backtrace(rest: &str) -> Option<(String, Vec<u64>)> {
    let mut words = rest.split_whitespace();
    let name = words.next()?.to_owned();
    let addresses = words.map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    Some((name, addresses.collect::<Option<_>>()?))
}

fn leaks(rest: &str) -> Option<Leaks> {
    if rest == "ok" {
        return Some(Leaks::default());
    }
    let mut missing = BTreeMap::new();
    for word in rest.split_whitespace() {
        let (kind, count) = word.split_once('=')?;
        let count: i64 = count.parse().ok()?;
        if count != 0 {
            missing.insert(kind.to_owned(), count);
        }
    }
    (!rest.trim().is_empty()).then_some(Leaks { missing })
}

/// Puts the parts of the tables together. Parts come in order; a part that does not follow its
/// predecessor drops what was gathered, since a wrong table is worse than none.
#[derive(Debug, Default)]
pub struct Tables {
    text: String,
    next: usize,
}

impl Tables {
    /// Takes one part; returns the whole text after the last.
    pub fn part(&mut self, index: usize, count: usize, text: &str) -> Option<String> {
        if index == 1 {
            self.text.clear();
        } else if index != self.next {
            self.next = 0;
            return None;
        }
        self.text.push_str(text);
        self.next = index + 1;
        (index == count).then(|| std::mem::take(&mut self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_label_and_a_text() {
        assert_eq!(Line::parse("[web] GET /"), Line { label: Some("web"), text: "GET /" });
        assert_eq!(Line::parse("SeaBIOS"), Line { label: None, text: "SeaBIOS" });
        assert_eq!(Line::parse("[web]"), Line { label: Some("web"), text: "" });
    }

    #[test]
    fn reports_are_read() {
        let event = |line: &str| Line::parse(line).event();
        assert_eq!(event("[init] @up"), Some(Event::Up));
        assert_eq!(event("[init] @exit web 3"), Some(Event::Exit("web".into(), 3)));
        assert_eq!(event("[init] @leak ok"), Some(Event::Leak(Leaks::default())));
        assert_eq!(event("[init] @tables {}"), Some(Event::Tables("{}".into())));
        assert_eq!(
            event("[kernel] @backtrace web 0x10 0xff"),
            Some(Event::Backtrace("web".into(), vec![0x10, 0xff]))
        );
        let Some(Event::Leak(leaks)) = event("[init] @leak frames=3 slices=0 rings=-1") else {
            panic!("no leak report");
        };
        assert_eq!(leaks.missing.len(), 2);
        assert_eq!(leaks.missing["frames"], 3);
    }

    #[test]
    fn a_program_cannot_report_in_the_name_of_init() {
        let event = |line: &str| Line::parse(line).event();
        assert_eq!(event("[probe] @leak ok"), None);
        assert_eq!(event("[probe] @exit web 0"), None);
        assert_eq!(event("[probe] [init] @leak ok"), None);
        assert_eq!(event("[probe] @backtrace kernel 0x1"), None);
        assert!(event("[probe] @backtrace probe 0x1").is_some());
        assert_eq!(event("@leak ok"), None);
    }

    #[test]
    fn malformed_reports_are_no_reports() {
        for text in [
            "@exit web",
            "@exit web x",
            "@leak",
            "@leak frames",
            "@tables-part 1 x",
            "@backtrace",
            "@",
            "@other",
        ] {
            let line = format!("[init] {text}");
            let event = Line::parse(&line).event();
            assert_eq!(event, None, "{text}");
        }
    }

    #[test]
    fn parts_join_in_order_or_not_at_all() {
        let mut tables = Tables::default();
        assert_eq!(tables.part(1, 3, "a"), None);
        assert_eq!(tables.part(2, 3, "b"), None);
        assert_eq!(tables.part(3, 3, "c"), Some("abc".into()));
        assert_eq!(tables.part(1, 3, "a"), None);
        assert_eq!(tables.part(3, 3, "c"), None);
        assert_eq!(tables.part(2, 3, "b"), None);
        assert_eq!(tables.part(1, 1, "z"), Some("z".into()));
    }
}
