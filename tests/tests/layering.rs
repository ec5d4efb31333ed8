//! The layering: which package may depend on which. The table is section 12 of the design; the
//! arrows come from Cargo's resolved graph.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata};
use qemu::workspace::Workspace;

/// From each folder of the workspace to the folders it may depend on. `apps/*` stands for every
/// program that has no line of its own.
const ALLOWED: [(&str, &[&str]); 17] = [
    ("exokernel/exo-abi", &[]),
    ("secure-bindings", &["exokernel/exo-abi"]),
    ("packet-filters", &[]),
    // How programs and people write filters, which ring 0 need not know.
    ("packet-filters/language", &["packet-filters"]),
    // Object files, the interpreter: the host's side of the eBPF compiler.
    ("packet-filters/tools", &["packet-filters"]),
    ("exokernel/exo-core", &["exokernel/exo-abi", "secure-bindings", "packet-filters"]),
    // What the core is built on, the kernel may name: both are below it in any case.
    (
        "exokernel/exo-kernel",
        &["exokernel/exo-abi", "exokernel/exo-core", "secure-bindings", "packet-filters"],
    ),
    ("exokernel/exo-user", &["exokernel/exo-abi"]),
    ("libos-net", &["exokernel/exo-user", "packet-filters", "packet-filters/language"]),
    ("libos-posix", &["exokernel/exo-user", "packet-filters", "packet-filters/language"]),
    // The first program has no library operating system, and makes the filters of reservations.
    ("apps/init", &["exokernel/exo-user", "packet-filters", "packet-filters/language"]),
    ("apps/*", &["exokernel/exo-user", "libos-net", "libos-posix"]),
    // The host tool writes the manifest and the boot module, prints the ABI, verifies eBPF, and shows
    // filters.
    (
        "qemu",
        &[
            "apps/init",
            "exokernel/exo-abi",
            "packet-filters",
            "packet-filters/tools",
            "qemu/filters",
        ],
    ),
    // It shows and tries what the kernel does with filters.
    ("qemu/filters", &["packet-filters", "packet-filters/language", "packet-filters/tools"]),
    // QEMU loads it; nothing links it.
    ("qemu/plugin", &[]),
    ("tests", &["qemu"]),
    // Hostile programs forge calls and filters, so they see both definitions.
    (
        "tests/guest",
        &["exokernel/exo-user", "exokernel/exo-abi", "packet-filters", "packet-filters/language"],
    ),
];

/// A program stands on one of these, not on two.
const STAND_ON_ONE: [&str; 3] = ["exokernel/exo-user", "libos-net", "libos-posix"];

/// What must not be reached by any number of steps: from the folders on the left, those on the
/// right.
const NEVER: [(&[&str], &[&str]); 3] = [
    (
        &["libos-net", "libos-posix", "apps/*", "exokernel/exo-user", "tests/guest"],
        &["exokernel/exo-core", "exokernel/exo-kernel", "secure-bindings"],
    ),
    (
        &["exokernel/exo-kernel", "exokernel/exo-core", "secure-bindings", "packet-filters"],
        &[
            "libos-net",
            "libos-posix",
            "exokernel/exo-user",
            "qemu",
            "packet-filters/tools",
            "packet-filters/language",
        ],
    ),
    (&["libos-net"], &["libos-posix"]),
];

/// The crates from outside that trusted code may be built from, besides what these need themselves.
const TRUSTED_CRATES: [(&str, &[&str]); 5] = [
    ("exokernel/exo-abi", &["bitflags"]),
    ("secure-bindings", &["bitflags"]),
    ("packet-filters", &[]),
    ("exokernel/exo-core", &["bitflags"]),
    ("exokernel/exo-kernel", &["bitflags", "spin", "virtio-drivers", "x86_64"]),
];

/// Direct dependencies: from a folder of the workspace to folders of the workspace and to crates
/// from outside. Those that only tests need are left out.
#[derive(Clone, Default)]
struct Graph {
    inside: BTreeMap<String, BTreeSet<String>>,
    outside: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Result<Self> {
        let resolve = metadata.resolve.as_ref().context("Cargo resolved nothing")?;
        let mut folders = BTreeMap::new();
        for package in metadata.workspace_packages() {
            let folder = package.manifest_path.parent().context("a manifest without a folder")?;
            let folder = folder.strip_prefix(&metadata.workspace_root)?.to_string();
            folders.insert(&package.id, folder);
        }
        let mut graph = Self::default();
        for node in &resolve.nodes {
            let Some(folder) = folders.get(&node.id) else {
                continue;
            };
            let inside = graph.inside.entry(folder.clone()).or_default();
            let outside = graph.outside.entry(folder.clone()).or_default();
            for dependency in &node.deps {
                let only_tests = dependency
                    .dep_kinds
                    .iter()
                    .all(|kind| kind.kind == DependencyKind::Development);
                if only_tests {
                    continue;
                }
                match folders.get(&dependency.pkg) {
                    Some(other) => inside.insert(other.clone()),
                    None => outside.insert(metadata[&dependency.pkg].name.to_string()),
                };
            }
        }
        Ok(graph)
    }

    /// Everything that `folder` depends on, by any number of steps.
    fn reach<'a>(&'a self, folder: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open = vec![folder];
        while let Some(next) = open.pop() {
            for other in self.inside.get(next).into_iter().flatten() {
                if found.insert(other.as_str()) {
                    open.push(other);
                }
            }
        }
        found
    }

    /// Every arrow that the tables do not allow.
    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (folder, others) in &self.inside {
            let Some(allowed) = rule(folder) else {
                found.push(format!("{folder} has no line in the table"));
                continue;
            };
            for other in others.iter().filter(|other| !allowed.contains(&other.as_str())) {
                found.push(format!("{folder} -> {other}"));
            }
            let stands_on: Vec<_> =
                others.iter().filter(|other| STAND_ON_ONE.contains(&other.as_str())).collect();
            if folder.starts_with("apps/") && stands_on.len() > 1 {
                found.push(format!("{folder} stands on {stands_on:?}, not on one"));
            }
            let reach = self.reach(folder);
            for (from, to) in NEVER {
                if from.iter().any(|pattern| matches(pattern, folder)) {
                    let bad = to.iter().filter(|to| reach.contains(**to));
                    found.extend(bad.map(|to| format!("{folder} reaches {to}")));
                }
            }
        }
        for (folder, allowed) in TRUSTED_CRATES {
            let crates = self.outside.get(folder).into_iter().flatten();
            let bad = crates.filter(|name| !allowed.contains(&name.as_str()));
            found.extend(bad.map(|name| format!("{folder} -> {name}, from outside")));
        }
        found
    }
}

/// What a folder may depend on.
fn rule(folder: &str) -> Option<&'static [&'static str]> {
    let exact = ALLOWED.iter().find(|(pattern, _)| *pattern == folder);
    let found = exact.or_else(|| ALLOWED.iter().find(|(pattern, _)| matches(pattern, folder)));
    found.map(|(_, allowed)| *allowed)
}

fn matches(pattern: &str, folder: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => folder.starts_with(prefix),
        None => folder == pattern,
    }
}

fn graph() -> Graph {
    Graph::of(&Workspace::load().unwrap().metadata).unwrap()
}

#[test]
fn every_arrow_is_allowed() {
    let violations = graph().violations();
    assert!(
        violations.is_empty(),
        "arrows that the table does not allow:\n{}",
        violations.join("\n")
    );
}

#[test]
fn the_graph_is_the_real_one() {
    let graph = graph();
    assert!(graph.reach("exokernel/exo-kernel").contains("exokernel/exo-abi"));
    assert!(graph.inside["tests"].contains("qemu"));
    assert!(graph.outside["qemu"].contains("clap"));
    assert!(!graph.inside.contains_key("clap"));
}

/// Plants one arrow and sees it reported.
#[track_caller]
fn assert_caught(from: &str, to: &str) {
    let mut planted = graph();
    planted.inside.entry(from.to_owned()).or_default().insert(to.to_owned());
    let violations = planted.violations();
    let arrow = format!("{from} -> {to}");
    assert!(violations.contains(&arrow), "{arrow} was planted, and {violations:?} was reported");
}

#[test]
fn planted_arrows_are_caught() {
    assert_caught("exokernel/exo-abi", "exokernel/exo-core");
    assert_caught("exokernel/exo-kernel", "libos-net");
    assert_caught("libos-net", "libos-posix");
    assert_caught("libos-net", "secure-bindings");
    assert_caught("packet-filters", "exokernel/exo-core");
    assert_caught("apps/web", "exokernel/exo-core");
    assert_caught("apps/some-new-app", "secure-bindings");
    assert_caught("tests", "exokernel/exo-kernel");
}

#[test]
fn an_arrow_over_a_detour_is_caught() {
    let mut planted = graph();
    planted.inside.entry("exokernel/exo-user".into()).or_default().insert("secure-bindings".into());
    let violations = planted.violations();
    assert!(violations.contains(&"apps/web reaches secure-bindings".to_owned()), "{violations:?}");
}

#[test]
fn two_libraries_under_one_program_are_caught() {
    let mut planted = graph();
    let both = BTreeSet::from(["libos-net".to_owned(), "libos-posix".to_owned()]);
    planted.inside.insert("apps/both".to_owned(), both);
    assert!(planted.violations().iter().any(|line| line.starts_with("apps/both stands on")));
}

#[test]
fn a_package_without_a_line_and_a_crate_from_outside_are_caught() {
    let mut planted = graph();
    planted.inside.insert("attic".to_owned(), BTreeSet::new());
    planted.outside.entry("exokernel/exo-core".to_owned()).or_default().insert("rand".to_owned());
    let violations = planted.violations();
    assert!(violations.contains(&"attic has no line in the table".to_owned()));
    assert!(violations.contains(&"exokernel/exo-core -> rand, from outside".to_owned()));
}
