//! Sizes: no file so long that nobody reads it, and no more trusted code than a day's reading.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use qemu::workspace::Workspace;

use super::tree::files;

/// Most lines of one source file.
const FILE: usize = 700;
/// Most lines of code that everyone has to trust, without its tests, comments and blank lines:
/// decision 0010 says why these do not count.
const TRUSTED: usize = 12_000;
/// Where that code lies.
const TRUSTED_FOLDERS: [&str; 4] = [
    "exokernel/exo-core/src",
    "exokernel/exo-kernel/src",
    "secure-bindings/src",
    "packet-filters/src",
];

/// Files and sums over their budget.
pub(super) fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in files(&workspace.root, "rs")? {
        let lines = read(&path)?.lines().count();
        if lines > FILE {
            let path = path.strip_prefix(&workspace.root).unwrap_or(&path);
            complaints.push(format!("{}: {lines} lines, {FILE} allowed: split it", path.display()));
        }
    }
    let mut trusted = 0;
    for folder in TRUSTED_FOLDERS {
        for path in files(&workspace.root.join(folder), "rs")? {
            if !is_test(&path) {
                trusted += code_without_tests(&read(&path)?);
            }
        }
    }
    if trusted > TRUSTED {
        complaints.push(format!("{trusted} lines of trusted code, {TRUSTED} allowed"));
    }
    Ok(complaints)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Test modules in files of their own are called `tests`.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// Lines of code before the test module, which stands at the end of a file.
fn code_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let module = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
    let end = lines.windows(2).position(module).unwrap_or(lines.len());
    lines[..end].iter().filter(|line| is_code(line.trim_start())).count()
}

/// Rust's and the assembler's comments are the same; documentation is a comment.
fn is_code(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count() {
        assert_eq!(code_without_tests("a\nb\n"), 2);
        assert_eq!(code_without_tests("a\n#[cfg(test)]\nmod tests {\n}\n"), 1);
        assert_eq!(code_without_tests("a\n#[cfg(test)]\nuse b;\nc\n"), 4);
        assert_eq!(code_without_tests("//! a\n\nb // c\n    /// d\n"), 1);
        assert!(
            is_test(Path::new("core/src/tests.rs")) && is_test(Path::new("core/src/tests/a.rs"))
        );
        assert!(!is_test(Path::new("core/src/contests.rs")));
    }
}
