//! The documents name tests: whatever they cite as one exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pulldown_cmark::{Event, Parser};
use qemu::workspace::Workspace;

use super::tree::files;

/// Citations of functions that are nowhere in the sources. A citation is a code span that is a path
/// ending in a name of several small words, as in `system::hostile::a_forged_name_is_refused`.
pub(super) fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let mut functions = BTreeSet::new();
    for path in files(&workspace.root, "rs")? {
        functions.extend(defined(&read(&path)?));
    }
    let mut complaints = Vec::new();
    for path in files(&workspace.root, "md")? {
        for citation in citations(&read(&path)?) {
            let name = citation.rsplit("::").next().unwrap_or(&citation);
            if !functions.contains(name) {
                let path = path.strip_prefix(&workspace.root).unwrap_or(&path);
                complaints.push(format!("{}: there is no `{citation}`", path.display()));
            }
        }
    }
    Ok(complaints)
}

/// The names of the functions that a source file defines.
fn defined(source: &str) -> impl Iterator<Item = String> {
    source.lines().filter_map(|line| {
        let (_, rest) = line.trim_start().split_once("fn ")?;
        Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_owned())
    })
}

fn citations(document: &str) -> Vec<String> {
    let spans = Parser::new(document).filter_map(|event| match event {
        Event::Code(text) => Some(text.into_string()),
        _ => None,
    });
    spans.filter(|text| is_citation(text)).collect()
}

fn is_citation(text: &str) -> bool {
    let word =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    let last = text.rsplit("::").next().unwrap_or(text);
    text.contains("::")
        && text.split("::").all(word)
        && last.contains('_')
        && last.starts_with(|first: char| first.is_lowercase())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations_are_told_from_other_code() {
        let text = "`system::web::serves_pages` `Rights::READ` `cargo xtask` `a::b` `some_name`\n\
                    ```\nsystem::not_here\n```\n";
        assert_eq!(citations(text), ["system::web::serves_pages"]);
    }

    #[test]
    fn functions_are_found() {
        let source = "    fn serves_pages() {\npub const fn other<T>(a: T) {\n// no function\n";
        assert_eq!(defined(source).collect::<Vec<_>>(), ["serves_pages", "other"]);
    }
}
