//! Lines from what is typed, byte by byte.
//!
//! Nothing is echoed: the console shows whole lines only, and the terminal at its other end has
//! its own echo.

use alloc::string::String;

/// The longest line, in bytes. What is typed beyond it is dropped.
const LONGEST: usize = 256;

/// What was typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Typed {
    /// A line, without its end.
    Line(String),
    /// Ctrl-C: the line is given up.
    Interrupt,
    /// Ctrl-D on an empty line: there will be no more.
    End,
}

/// Gathers what is typed into lines: printable ASCII, backspace, Ctrl-U, and either line end.
#[derive(Debug, Default)]
pub struct LineEditor {
    line: String,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    returned: bool,
}

impl LineEditor {
    /// Takes one byte.
    pub fn take(&mut self, byte: u8) -> Option<Typed> {
        let returned = core::mem::replace(&mut self.returned, byte == b'\r');
        match byte {
            b'\n' if returned => {}
            b'\r' | b'\n' => return Some(Typed::Line(core::mem::take(&mut self.line))),
            0x03 => {
                self.line.clear();
                return Some(Typed::Interrupt);
            }
            0x04 if self.line.is_empty() => return Some(Typed::End),
            0x08 | 0x7f => {
                self.line.pop();
            }
            0x15 => self.line.clear(),
            b' '..=b'~' if self.line.len() < LONGEST => self.line.push(char::from(byte)),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut editor = LineEditor::default();
        let line = |byte: &u8| match editor.take(*byte) {
            Some(Typed::Line(line)) => Some(line),
            _ => None,
        };
        bytes.iter().filter_map(line).collect()
    }

    #[test]
    fn every_line_end_ends_one_line() {
        assert_eq!(lines(b"one\ntwo\rthree\r\n\nx"), ["one", "two", "three", ""]);
    }

    #[test]
    fn backspace_takes_back_and_stops_at_the_start() {
        assert_eq!(lines(b"\x7fax\x08b\x7f\x7f\x7fcd\nxyz\x15e\n"), ["cd", "e"]);
    }

    #[test]
    fn control_characters_do_what_they_do_elsewhere() {
        let mut editor = LineEditor::default();
        assert_eq!(editor.take(0x04), Some(Typed::End));
        editor.take(b'a');
        assert_eq!(editor.take(0x04), None);
        assert_eq!(editor.take(0x1b), None);
        assert_eq!(editor.take(0x03), Some(Typed::Interrupt));
        assert_eq!(editor.take(b'\n'), Some(Typed::Line(String::new())));
    }

    proptest! {
        #[test]
        fn lines_are_printable_and_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            for line in lines(&bytes) {
                prop_assert!(line.len() <= LONGEST && line.bytes().all(|b| (b' '..=b'~').contains(&b)));
            }
        }
    }
}
