//! Machine code as it grows: a buffer, labels and jumps. Both compilers of the crate, that of the
//! filters and that of eBPF, write through it.

use super::BufferTooSmall;

/// Machine code as it grows. It counts on when the buffer is full, so that the error can say how
/// much was needed. What both compilers emit is bounded by their inputs, far below 2 GiB.
pub(crate) struct Code<'b> {
    buffer: &'b mut [u8],
    length: usize,
}

/// A place in the code that jumps go to before it is known.
///
/// The jumps form a chain through their own displacement fields: until it is bound, each holds the position of the
/// field before it, zero ends the chain. (No field stands at position zero: an opcode does.)
#[derive(Debug, Default)]
pub(crate) struct Label {
    last: usize,
}

impl Label {
    /// Nothing jumps to it yet.
    pub(crate) const fn new() -> Self {
        Label { last: 0 }
    }

    /// Whether anything jumps to it.
    pub(crate) fn is_used(&self) -> bool {
        self.last != 0
    }
}

/// When a jump is taken: the low byte of its two-byte opcode (Intel SDM, volume 2, `Jcc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(crate) enum Condition {
    Below = 0x82, NotBelow = 0x83, Equal = 0x84, NotEqual = 0x85, NotAbove = 0x86, Above = 0x87,
    Less = 0x8c, NotLess = 0x8d, NotGreater = 0x8e, Greater = 0x8f,
}

impl<'b> Code<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Code { buffer, length: 0 }
    }

    /// The length of the code, if all of it found room.
    pub(crate) fn finish(self) -> Result<usize, BufferTooSmall> {
        let fits = self.length <= self.buffer.len();
        if fits { Ok(self.length) } else { Err(BufferTooSmall { needed: self.length }) }
    }

    /// Jumps to a label, always or on a condition.
    pub(crate) fn jump(&mut self, condition: impl Into<Option<Condition>>, to: &mut Label) {
        self.jump_opcode(condition.into());
        let before = core::mem::replace(&mut to.last, self.length);
        self.emit(&(before as u32).to_le_bytes());
    }

    /// Where the next instruction begins.
    pub(crate) fn position(&self) -> usize {
        self.length
    }

    /// Jumps to a position that has been reached.
    pub(crate) fn jump_back(&mut self, condition: impl Into<Option<Condition>>, to: usize) {
        self.jump_opcode(condition.into());
        let distance = to.wrapping_sub(self.length + 4) as i32;
        self.emit(&distance.to_le_bytes());
    }

    fn jump_opcode(&mut self, condition: Option<Condition>) {
        match condition {
            Some(condition) => self.emit(&[0x0f, condition as u8]),
            None => self.emit(&[0xe9]),
        }
    }

    /// The label is here: completes all jumps to it.
    pub(crate) fn bind(&mut self, label: Label) {
        let mut field = label.last;
        while field != 0 {
            let distance = (self.length - (field + 4)) as i32;
            let bytes = self.buffer.get_mut(field..).and_then(<[u8]>::first_chunk_mut);
            let Some(bytes) = bytes else {
                return; // Beyond the buffer: `finish` will say so.
            };
            field = u32::from_le_bytes(*bytes) as usize;
            *bytes = distance.to_le_bytes();
        }
    }

    pub(crate) fn emit(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(place) = self.buffer.get_mut(self.length..end) {
            for (place, byte) in place.iter_mut().zip(bytes) {
                *place = *byte;
            }
        }
        self.length = end;
    }
}
