//! Links in the documents: a relative one leads to a file, and its fragment to a heading there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use qemu::workspace::Workspace;

use super::tree::files;

/// Links that lead nowhere.
pub(super) fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in files(&workspace.root, "md")? {
        for link in broken(&path)? {
            let path = path.strip_prefix(&workspace.root).unwrap_or(&path);
            complaints.push(format!("{}: `{link}` leads nowhere", path.display()));
        }
    }
    Ok(complaints)
}

fn broken(document: &Path) -> Result<Vec<String>> {
    let text = read(document)?;
    let folder = document.parent().context("a document without a folder")?;
    let mut broken = Vec::new();
    for event in Parser::new(&text) {
        let (Event::Start(Tag::Link { dest_url, .. }) | Event::Start(Tag::Image { dest_url, .. })) =
            event
        else {
            continue;
        };
        if dest_url.contains("://") || dest_url.starts_with("mailto:") {
            continue;
        }
        let (path, fragment) = match dest_url.split_once('#') {
            Some((path, fragment)) => (path, Some(fragment)),
            None => (&*dest_url, None),
        };
        let target = if path.is_empty() { document.to_owned() } else { folder.join(path) };
        let found = match fragment {
            Some(fragment) if target.extension().is_some_and(|extension| extension == "md") => {
                target.exists() && anchors(&read(&target)?).iter().any(|anchor| anchor == fragment)
            }
            _ => target.exists(),
        };
        if !found {
            broken.push(dest_url.into_string());
        }
    }
    Ok(broken)
}

/// The anchors that readers of Markdown on the web derive from headings.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors = Vec::new();
    let mut heading: Option<String> = None;
    for event in Parser::new(text) {
        match (event, &mut heading) {
            (Event::Start(Tag::Heading { .. }), _) => heading = Some(String::new()),
            (Event::End(TagEnd::Heading(_)), _) => anchors.extend(heading.take()),
            (Event::Text(words) | Event::Code(words), Some(heading)) => {
                heading.extend(words.chars().filter_map(|c| match c {
                    ' ' => Some('-'),
                    '-' | '_' => Some(c),
                    _ if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    anchors
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let text = "# One, `two`\n[a](#one-two) [b](other.md#there) [c](https://example.org/x)\n\
                    [d](gone.md) [e](#gone) [f](other.md#gone)\n```\n[g](in-code.md)\n```\n";
        fs::write(folder.path().join("a.md"), text).unwrap();
        fs::write(folder.path().join("other.md"), "## There\n").unwrap();
        let broken = broken(&folder.path().join("a.md")).unwrap();
        assert_eq!(broken, ["gone.md", "#gone", "other.md#gone"]);
    }
}
