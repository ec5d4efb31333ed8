//! The console: lines out, bytes in.

use crate::call::{address, call};
use core::fmt::{self, Write};
use exo_abi::layout::CONSOLE_MAX;
use exo_abi::{Call, Error};

/// Writes bytes. The kernel keeps the lines of different programs apart.
pub fn write(bytes: &[u8]) {
    for chunk in bytes.chunks(CONSOLE_MAX as usize) {
        let (address, length) = (address(chunk), chunk.len() as u64);
        // SAFETY: the bytes are read only. A console that refuses them leaves nobody to tell.
        let _ = unsafe { call(Call::ConsoleWrite { address, length }) };
    }
}

/// Reads what has been typed, and returns how many bytes there were. Does not wait. The capability
/// needs `CONSOLE`. From now on the caller gets the console event.
///
/// # Errors
/// `NoCapability`, `NotDominated`.
pub fn read(bytes: &mut [u8], capability: u32) -> Result<usize, Error> {
    let length = bytes.len().min(CONSOLE_MAX as usize) as u64;
    let address = bytes.as_mut_ptr() as u64;
    // SAFETY: the kernel writes only the bytes, which are borrowed for it.
    unsafe { call(Call::ConsoleRead { capability, address, length }) }.map(|count| count as usize)
}

/// Formats text and writes it, as a rule with one call.
pub fn print(arguments: fmt::Arguments<'_>) {
    let mut buffer = Buffer { bytes: [0; 256], length: 0, full: write };
    // A formatter that fails has already written what it could.
    let _ = buffer.write_fmt(arguments);
    write(buffer.filled());
}

/// Gathers text, and hands it over whenever it is full.
struct Buffer<F> {
    bytes: [u8; 256],
    length: usize,
    full: F,
}

impl<F> Buffer<F> {
    fn filled(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<F: FnMut(&[u8])> Write for Buffer<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let room = self.bytes.len() - self.length;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes[self.length..][..now.len()].copy_from_slice(now);
            self.length += now.len();
            if self.length == self.bytes.len() {
                (self.full)(&self.bytes);
                self.length = 0;
            }
            rest = later;
        }
        Ok(())
    }
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {
        $crate::console::print(::core::format_args!($($argument)*))
    };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => {
        $crate::print!("{}\n", ::core::format_args!($($argument)*))
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;

    #[test]
    fn text_passes_the_buffer_whole() {
        let mut out = Vec::new();
        let text: String = (0..1000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
        let mut buffer = Buffer {
            bytes: [0; 256],
            length: 0,
            full: |bytes: &[u8]| out.extend_from_slice(bytes),
        };
        write!(buffer, "{}{}", &text[..100], &text[100..]).unwrap();
        let rest = buffer.filled().to_vec();
        out.extend(rest);
        assert_eq!(out, text.as_bytes());
    }
}
