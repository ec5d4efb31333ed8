//! Listings in a book: code blocks that hold the instructions of an operation, and are written anew
//! when those have changed.
//!
//! The info string of such a block is `asm NAME until TEXT`: it goes on from where the block of that
//! name before it ended, or from the first instruction, up to the next one in whose text `TEXT` is;
//! and without `until TEXT` to the end. A comment behind an instruction (`; like this`) stays for as
//! long as the instruction does, whatever its numbers are.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::trace::Line;

/// How a block begins and ends.
const FENCE: &str = "```";
/// What its info string begins with.
const LANGUAGE: &str = "asm ";
/// What is before the text that ends it.
const UNTIL: &str = " until ";
/// The column of comments, behind the instruction.
const COMMENT: usize = 36;

/// What a block shows: which operation, and up to where.
fn block(line: &str) -> Option<(&str, Option<&str>)> {
    let info = line.strip_prefix(FENCE)?.strip_prefix(LANGUAGE)?;
    Some(match info.split_once(UNTIL) {
        Some((name, text)) => (name, Some(text)),
        None => (info, None),
    })
}

/// The operations that are shown in a text.
#[must_use]
pub fn names(markdown: &str) -> BTreeSet<&str> {
    markdown.lines().filter_map(|line| Some(block(line)?.0)).collect()
}

/// The text with all blocks as they are to be.
///
/// # Errors
/// A block without an end, or one whose end is not there among the instructions.
pub fn refresh(markdown: &str, traces: &BTreeMap<&str, Vec<Line>>) -> Result<String> {
    let mut positions = BTreeMap::new();
    let mut lines = markdown.lines();
    let mut text = String::new();
    while let Some(line) = lines.next() {
        text.push_str(line);
        text.push('\n');
        let Some((name, until)) = block(line) else { continue };
        let mut old = Vec::new();
        loop {
            match lines.next() {
                Some(FENCE) => break,
                Some(line) => old.push(line),
                None => bail!("the block `{line}` has no end"),
            }
        }
        let trace = traces.get(name).with_context(|| format!("`{name}` is not traced"))?;
        let position: &mut usize = positions.entry(name).or_default();
        let end = match until {
            Some(until) => {
                let mut rest = trace.iter().enumerate().skip(*position + 1);
                let found = rest.find(|(_, line)| tidy(&line.text).contains(until));
                found.map(|(index, _)| index).with_context(|| {
                    format!("{name}: no `{until}` behind instruction {}", *position + 1)
                })?
            }
            None => trace.len(),
        };
        let mut comments = comments(&old);
        for (index, line) in trace.iter().enumerate().take(end).skip(*position) {
            text.push_str(&shown(index + 1, &tidy(&line.text), &mut comments));
        }
        text.push_str(FENCE);
        text.push('\n');
        *position = end;
    }
    Ok(text)
}

/// An instruction with single spaces, and without addresses that change with the next build.
fn tidy(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.split_once(" [0x") {
        Some((before, rest)) => format!("{before} […{}", rest.trim_start_matches(|c| c != ']')),
        None => text,
    }
}

/// An instruction without its numbers: a field that has moved is the same field.
fn shape(text: &str) -> String {
    let mut parts = text.split("0x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shape, part| {
        shape + "#" + part.trim_start_matches(|c: char| c.is_ascii_hexdigit())
    })
}

/// The instructions of an old block, by their shape, and their comments.
fn comments<'a>(old: &[&'a str]) -> Vec<(String, &'a str)> {
    let comment = |line: &&'a str| {
        let (instruction, comment) = line.split_once(';').unwrap_or((line, ""));
        let instruction = instruction.trim().split_once(' ')?.1;
        Some((shape(&tidy(instruction)), comment.trim()))
    };
    old.iter().filter_map(comment).collect()
}

fn shown(number: usize, text: &str, comments: &mut Vec<(String, &str)>) -> String {
    let shape = shape(text);
    let old = comments.iter().position(|(instruction, _)| *instruction == shape);
    match old.map_or("", |index| comments.remove(index).1) {
        "" => format!("{number:3}  {text}\n"),
        comment => format!("{number:3}  {text:COMMENT$} ; {comment}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = "\
Text.
```asm null_call until swapgs
 1  old    ; gone
 2  syscall ; into the kernel
```
```asm null_call
```
```sh
asm null_call
```
";

    fn traces(instructions: &[&str]) -> BTreeMap<&'static str, Vec<Line>> {
        let line = |text: &&str| Line {
            function: String::new(),
            place: String::new(),
            text: (*text).to_owned(),
        };
        BTreeMap::from([("null_call", instructions.iter().map(line).collect())])
    }

    #[test]
    fn blocks_follow_one_another() {
        assert_eq!(names(BOOK), BTreeSet::from(["null_call"]));
        let traces = traces(&["lea   r11, [0x2100]", "syscall", "swapgs", "mov rax, gs:[0x10]"]);
        let text = refresh(BOOK, &traces).unwrap();
        assert!(text.contains("swapgs\n  1  lea r11, […]\n  2  syscall"), "{text}");
        assert!(text.contains("; into the kernel\n```\n"), "{text}");
        assert!(
            text.contains("```asm null_call\n  3  swapgs\n  4  mov rax, gs:[0x10]\n```\n```sh"),
            "{text}"
        );
        assert_eq!(refresh(&text, &traces).unwrap(), text, "nothing changes twice");
    }

    #[test]
    fn a_comment_stays_with_its_instruction() {
        let old = ["  1  imul rcx, 0x180    ; the size", "  2  nop ; nothing"];
        let mut comments = comments(&old);
        assert_eq!(shown(7, "ret", &mut comments), "  7  ret\n");
        assert!(shown(8, "imul rcx, 0x140", &mut comments).ends_with("; the size\n"));
        assert!(!shown(9, "imul rcx, 0x140", &mut comments).contains(';'), "once");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let error = refresh(BOOK, &traces(&["nop"])).unwrap_err().to_string();
        assert!(error.contains("`swapgs`"), "{error}");
        assert!(refresh(BOOK, &BTreeMap::new()).is_err());
        assert!(refresh("```asm null_call\n", &traces(&["nop"])).is_err());
    }
}
