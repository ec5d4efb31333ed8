//! The instructions of one operation, in the order in which they are executed.
//!
//! The counter writes down the last instructions before the end of what is measured. There the
//! operations have long become alike, so one of them is what is repeated at the end.

use std::path::{Path, PathBuf};

use addr2line::{Loader, demangle_auto};
use anyhow::{Context, Result, anyhow};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter, OpKind};

use super::sample::Measured;

/// From this address on, it is the kernel's.
const KERNEL_HALF: u64 = 1 << 63;
/// How many instructions there may be behind the last operation, or behind the last of a tick.
const TAIL: usize = 4096;
/// By which part an operation may be shorter than the mean, in which ticks are.
const TOLERANCE: f64 = 0.98;

/// An instruction that was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Where it is.
    pub address: u64,
    /// What it is.
    pub bytes: Vec<u8>,
}

/// The instructions of a file that the counter has written.
///
/// # Errors
/// A line that is none of the counter's.
pub fn executed(text: &str) -> Result<Vec<Executed>> {
    let parse = |line: &str| {
        let (address, bytes) = line.split_once(' ')?;
        let address = u64::from_str_radix(address, 16).ok()?;
        let digit = |index| u8::from_str_radix(bytes.get(index..index + 2)?, 16).ok();
        let bytes = (0..bytes.len()).step_by(2).map(digit).collect::<Option<_>>()?;
        Some(Executed { address, bytes })
    };
    let lines = text.lines().map(|line| parse(line).with_context(|| format!("no trace: `{line}`")));
    lines.collect()
}

/// The last operation, of those that were measured: what is there twice, one behind the other.
#[must_use]
pub fn last_operation<'a>(trace: &'a [Executed], measured: &Measured) -> Option<&'a [Executed]> {
    let mean = measured.instructions.total() / measured.operations as f64;
    let shortest = ((mean * TOLERANCE) as usize).max(1);
    (0..TAIL.min(trace.len())).find_map(|tail| {
        let trace = &trace[..trace.len() - tail];
        (shortest..=trace.len() / 2).take(2 * shortest + TAIL).find_map(|length| {
            let (before, last) = trace.split_at(trace.len() - length);
            before.ends_with(last).then_some(last)
        })
    })
}

/// An instruction for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The function of ours that it belongs to, inlined or not.
    pub function: String,
    /// Its source: file and line, where that is known.
    pub place: String,
    /// Itself, as Intel writes it.
    pub text: String,
}

/// Executables with line tables.
pub struct Sources {
    root: PathBuf,
    kernel: Loader,
    program: Loader,
}

impl Sources {
    /// Those of a kernel and of a program.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(root: &Path, kernel: &Path, program: &Path) -> Result<Self> {
        let load = |path: &Path| {
            Loader::new(path).map_err(|error| anyhow!("cannot read {}: {error}", path.display()))
        };
        Ok(Self { root: root.to_owned(), kernel: load(kernel)?, program: load(program)? })
    }

    /// These instructions for a reader.
    #[must_use]
    pub fn lines(&self, trace: &[Executed]) -> Vec<Line> {
        let line = |executed| {
            let (function, place) = self.source(executed);
            Line { function, place, text: disassembled(executed, &|target| self.name(target)) }
        };
        trace.iter().map(line).collect()
    }

    fn loader(&self, address: u64) -> &Loader {
        if address < KERNEL_HALF { &self.program } else { &self.kernel }
    }

    /// What is at an address, or a little before it.
    fn name(&self, address: u64) -> String {
        let Some(symbol) = self.loader(address).find_symbol_info(address) else {
            return format!("{address:#x}");
        };
        let name = short(&demangle_auto(symbol.name().into(), None));
        if symbol.address() == address { name } else { name + "…" }
    }

    /// The innermost function whose source is in the workspace, with the place; or else the symbol.
    fn source(&self, executed: &Executed) -> (String, String) {
        let address = executed.address;
        let loader = self.loader(address);
        let symbol = loader.find_symbol(address).unwrap_or("?");
        let symbol = || demangle_auto(symbol.into(), None).into_owned();
        let mut found = None;
        if let Ok(mut frames) = loader.find_frames(address) {
            // A table that breaks off still yields the frames before the break.
            while let Ok(Some(frame)) = frames.next() {
                let file = frame.location.as_ref().and_then(|location| location.file);
                let Some(own) = file.and_then(|file| Path::new(file).strip_prefix(&self.root).ok())
                else {
                    continue;
                };
                let number = frame.location.as_ref().and_then(|location| location.line);
                let place = || format!("{}:{}", own.display(), number.unwrap_or(0));
                let name = frame.function.and_then(|name| Some(name.demangle().ok()?.into_owned()));
                let name = short(&name.unwrap_or_else(symbol));
                let place = found.map_or_else(place, |(_, place)| place);
                let is_closure = name.starts_with('{');
                found = Some((name, place));
                // It is called as what it is in.
                if !is_closure {
                    break;
                }
            }
        }
        found.unwrap_or_else(|| (short(&symbol()), String::new()))
    }
}

/// The name of a function without its path and its types.
fn short(name: &str) -> String {
    let name = name.split_once('<').map_or(name, |(name, _)| name);
    name.rsplit("::").next().unwrap_or(name).to_owned()
}

/// An instruction as text, with a name for the place that it branches to.
fn disassembled(executed: &Executed, name: &dyn Fn(u64) -> String) -> String {
    let mut decoder = Decoder::with_ip(64, &executed.bytes, executed.address, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_space_after_operand_separator(true);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_first_operand_char_index(6);
    let instruction = decoder.decode();
    let mut text = String::new();
    if instruction.op_count() == 1 && instruction.op0_kind() == OpKind::NearBranch64 {
        formatter.format_mnemonic(&instruction, &mut text);
        return format!("{text:5} {}", name(instruction.near_branch64()));
    }
    formatter.format(&instruction, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::Instructions;

    fn trace(addresses: &[u64]) -> Vec<Executed> {
        addresses.iter().map(|&address| Executed { address, bytes: vec![0x90] }).collect()
    }

    fn measured(operations: u64, user: f64) -> Measured {
        let instructions = Instructions { user, kernel: 0.0 };
        Measured { operations, nanoseconds: 0, instructions }
    }

    #[test]
    fn an_operation_is_what_is_repeated() {
        // Each operation has a loop of its own, and there is something behind the last.
        let trace = trace(&[9, 1, 2, 2, 2, 3, 1, 2, 2, 2, 3, 4]);
        let operation = last_operation(&trace, &measured(2, 10.0)).unwrap();
        assert_eq!(operation, &trace[6..11]);
        assert_eq!(last_operation(&trace, &measured(1, 12.0)), None);
    }

    #[test]
    fn what_the_counter_writes_is_read() {
        let read = executed("ffffffff80100000 0f05\n1000 90\n").unwrap();
        assert_eq!((read[0].address, &*read[0].bytes), (0xffff_ffff_8010_0000, &[0x0f, 5][..]));
        let text = |executed| disassembled(executed, &|target| format!("{target:#x}"));
        assert_eq!((&*text(&read[0]), &*text(&read[1])), ("syscall", "nop"));
        let jump = Executed { address: 0x1000, bytes: vec![0x74, 0x10] };
        assert_eq!(text(&jump), "je    0x1012");
        assert!(
            executed("1000").is_err() && executed("1000 9").is_err() && executed("x 90").is_err()
        );
    }

    #[test]
    fn names_are_short() {
        assert_eq!(short("exo_user::gate::exchange_raw"), "exchange_raw");
        assert_eq!(short("repeat<bench::transfer::pct_oneway::{closure_env#0}>"), "repeat");
    }
}
