//! A line editor, as small as it can be.

use alloc::string::String;

/// The longest line, in bytes.
const LONGEST: usize = 256;

/// What a byte has led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// Nothing to see.
    Nothing,
    /// The byte belongs to the line and is to be shown.
    Echo(u8),
    /// The last byte of the line is gone, and its picture is to be wiped.
    Erase,
    /// The line is complete.
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
    pub fn take(&mut self, byte: u8) -> Reaction {
        let returned = core::mem::replace(&mut self.returned, byte == b'\r');
        match byte {
            b'\n' if returned => Reaction::Nothing,
            b'\r' | b'\n' => Reaction::Line(core::mem::take(&mut self.line)),
            0x03 => {
                self.line.clear();
                Reaction::Interrupt
            }
            0x04 if self.line.is_empty() => Reaction::End,
            0x08 | 0x7f => self.line.pop().map_or(Reaction::Nothing, |_| Reaction::Erase),
            b' '..=b'~' if self.line.len() < LONGEST => {
                self.line.push(char::from(byte));
                Reaction::Echo(byte)
            }
            _ => Reaction::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::ToOwned;
    use std::vec::Vec;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut editor = LineEditor::default();
        let line = |byte: &u8| match editor.take(*byte) {
            Reaction::Line(line) => Some(line),
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
        assert_eq!(lines(b"\x7fax\x08b\x7f\x7f\x7fcd\n"), ["cd"]);
        let mut editor = LineEditor::default();
        assert_eq!(editor.take(0x7f), Reaction::Nothing);
        assert_eq!(editor.take(b'a'), Reaction::Echo(b'a'));
        assert_eq!(editor.take(0x08), Reaction::Erase);
    }

    #[test]
    fn control_characters_do_what_they_do_elsewhere() {
        let mut editor = LineEditor::default();
        assert_eq!(editor.take(0x04), Reaction::End);
        editor.take(b'a');
        assert_eq!(editor.take(0x04), Reaction::Nothing);
        assert_eq!(editor.take(0x1b), Reaction::Nothing);
        assert_eq!(editor.take(0x03), Reaction::Interrupt);
        assert_eq!(editor.take(b'\n'), Reaction::Line("".to_owned()));
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
