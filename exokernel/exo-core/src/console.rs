//! The console, which programs share by the line.

use crate::call::{Answer, Span};
use crate::kernel::Kernel;
use crate::machine::{Devices, Machine};
use exo_abi::layout::{CONSOLE_MAX, LABEL};
use exo_abi::upcall::Event;
use exo_abi::{Error, Rights};

/// The longest line that stays in one piece, in bytes.
const LINE: usize = 240;
/// How many typed bytes wait for a reader.
const INPUT: usize = 256;

/// The part of a line that waits for its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    bytes: [u8; LINE],
    length: usize,
}

impl Line {
    pub(crate) const EMPTY: Self = Self { bytes: [0; LINE], length: 0 };

    /// Adds a byte; says whether the line is complete.
    fn push(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            return true;
        }
        let printable = byte == b'\t' || (b' '..=b'~').contains(&byte) || byte >= 0x80;
        // U+0080 to U+009F in UTF-8: terminals obey these too.
        let before = self.length.checked_sub(1).map(|last| self.bytes[last]);
        let control = before == Some(0xc2) && (0x80..0xa0).contains(&byte);
        let shown = if printable && !control { byte } else { b'?' };
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = shown;
            self.length += 1;
        }
        self.length == LINE
    }

    fn take(&mut self) -> Self {
        core::mem::replace(self, Self::EMPTY)
    }
}

/// What was typed and not yet read.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: [u8; INPUT],
    count: usize,
    /// Who reads: whoever last asked with the right to.
    reader: Option<u16>,
}

impl Default for Input {
    fn default() -> Self {
        Self { bytes: [0; INPUT], count: 0, reader: None }
    }
}

impl Input {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.count) {
            *place = byte;
            self.count += 1;
        }
    }

    fn forget(&mut self, count: usize) {
        self.bytes.copy_within(count..self.count, 0);
        self.count -= count;
    }

    /// The reader has ended.
    pub(crate) fn leave(&mut self, slot: u16) {
        if self.reader == Some(slot) {
            self.reader = None;
        }
    }
}

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn console_write(&mut self, caller: u16, span: Span) -> Answer {
        if span.count > CONSOLE_MAX {
            return Err(Error::TooLong);
        }
        let mut bytes = [0; CONSOLE_MAX as usize];
        let bytes = &mut bytes[..span.count as usize];
        self.read_user(caller, span.start, bytes)?;
        for &byte in bytes.iter() {
            if self.environment_mut(caller).line.push(byte) {
                self.flush_line(caller);
            }
        }
        Ok(0)
    }

    /// Writes the line of an environment out, with its label.
    fn flush_line(&mut self, slot: u16) {
        let line = self.environment_mut(slot).line.take();
        let label = self.board.cell(slot).label();
        let label = label.split(|&byte| byte == 0).next().unwrap_or(&[]);
        let mut text = [0; LABEL + LINE + 4];
        let mut length = 0;
        for piece in [b"[".as_slice(), label, b"] ", &line.bytes[..line.length], b"\n"] {
            text[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        self.devices.console_write(&text[..length]);
    }

    /// Writes what an ending environment has left of a line.
    pub(crate) fn flush_rest(&mut self, slot: u16) {
        if self.environment(slot).line.length > 0 {
            self.flush_line(slot);
        }
    }

    pub(crate) fn console_read(&mut self, caller: u16, capability: u32, span: Span) -> Answer {
        if span.count > CONSOLE_MAX {
            return Err(Error::TooLong);
        }
        self.check_own(caller, capability, Rights::CONSOLE)?;
        let count = self.input.count.min(span.count as usize);
        self.write_user(caller, span.start, &self.input.bytes[..count])?;
        self.input.forget(count);
        self.input.reader = Some(caller);
        Ok(count as u64)
    }

    /// Takes what was typed from the device.
    pub fn console_input(&mut self) {
        let mut any = false;
        for _ in 0..INPUT {
            let Some(byte) = self.devices.console_read() else { break };
            self.input.push(byte);
            any = true;
        }
        if let (true, Some(reader)) = (any, self.input.reader) {
            self.post(reader, Event::Console);
        }
    }
}
