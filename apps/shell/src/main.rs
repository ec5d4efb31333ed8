//! A shell on the console: shows who holds what, reads files, and asks programs for frames.
//!
//! Whatever it shows it loads from the kernel's tables; only `revoke` and `filter` are calls. With arguments, it
//! executes them, one command after each `;`, and ends.
#![no_std]
#![no_main]

extern crate alloc;

mod command;
mod filters;
mod listing;
mod revocation;

use alloc::string::String;
use command::{Outcome, Shell};
use libos_posix::descriptor::INPUT;
use libos_posix::line::{LineEditor, Typed};
use libos_posix::{Start, println};

libos_posix::program!(main);

fn main(start: &Start<'_>) -> u64 {
    let mut shell = match Shell::new(start) {
        Ok(shell) => shell,
        Err(error) => {
            println!("the boot archive: {error}");
            return 1;
        }
    };
    if !start.arguments().trim().is_empty() {
        return batch(&mut shell, start.arguments());
    }
    println!("type help for the commands, exit or Ctrl-C to end");
    interactive(&mut shell)
}

/// Executes commands until one fails. Returns the exit code.
fn batch(shell: &mut Shell<'_>, commands: &str) -> u64 {
    for line in commands.split(';') {
        match shell.execute(line.trim()) {
            Outcome::Done => {}
            Outcome::Failed => return 1,
            Outcome::Exit(code) => return code,
        }
    }
    0
}

/// Executes what is typed. Returns the exit code: Ctrl-C and Ctrl-D are ways to say that it is
/// enough, not errors.
fn interactive(shell: &mut Shell<'_>) -> u64 {
    let mut editor = LineEditor::default();
    let mut typed = [0; 64];
    loop {
        let count = match shell.descriptors().read(INPUT, &mut typed) {
            Ok(count) => count,
            Err(error) => {
                println!("the console: {error}; the contract needs rights = [\"console\"]");
                return 1;
            }
        };
        for &byte in &typed[..count] {
            match editor.take(byte) {
                Some(Typed::Line(line)) => {
                    if let Outcome::Exit(code) = shell.execute(&line) {
                        return code;
                    }
                }
                Some(Typed::Interrupt | Typed::End) => return 0,
                None => {}
            }
        }
    }
}

/// A text of digits.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| alloc::format!("{text}: not a number"))
}
