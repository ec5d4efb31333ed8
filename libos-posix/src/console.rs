//! The console: what is typed, and what is printed.
//!
//! The kernel reads and writes a program's memory only as far as it is bound, and any page of the
//! heap may be elsewhere. So everything passes through the stack, which is wired.

use exo_user::abi::upcall::Event;
use exo_user::{Error, capability, control, environment, time};

/// The bytes that pass at once.
const CHUNK: usize = 256;

/// Writes bytes, wherever they are.
pub fn write(bytes: &[u8]) {
    for chunk in bytes.chunks(CHUNK) {
        let mut buffer = [0; CHUNK];
        let buffer = &mut buffer[..chunk.len()];
        buffer.copy_from_slice(chunk);
        exo_user::console::write(buffer);
    }
}

/// Reads what was typed, at least one byte: waits for it. Returns how many bytes there were; 0 only
/// if there is no room for any.
///
/// # Errors
/// `NoCapability`, `NotDominated`: the contract has no right `console`.
pub fn read(into: &mut [u8]) -> Result<usize, Error> {
    let mut buffer = [0; CHUNK];
    let length = into.len().min(CHUNK);
    if length == 0 {
        return Ok(0);
    }
    loop {
        // Taken before the look, so that what is typed after it ends the sleep.
        control::take(Event::Console);
        let count = exo_user::console::read(&mut buffer[..length], capability::CONSOLE)?;
        if count > 0 {
            into[..count].copy_from_slice(&buffer[..count]);
            return Ok(count);
        }
        environment::sleep(time::NEVER);
    }
}
