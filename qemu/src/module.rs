//! The boot module as bytes.

use anyhow::{Result, ensure};

use crate::elf::{PAGE, Program};

/// Segments that the header has room for.
const SEGMENTS: usize = 8;
const MAGIC: u64 = u64::from_le_bytes(*b"EXOBOOT1");

/// Encodes.
///
/// # Errors
/// Too many segments.
pub fn encode(init: &Program, archive: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        init.segments.len() <= SEGMENTS,
        "init has more than {SEGMENTS} segments"
    );
    let page = usize::try_from(PAGE)?;
    let mut bytes = vec![0; page];
    let mut header = vec![MAGIC, 1];
    for segment in &init.segments {
        header.push(bytes.len() as u64);
        bytes.extend_from_slice(&segment.contents);
        bytes.resize(bytes.len().next_multiple_of(page), 0);
    }
    bytes.extend_from_slice(archive);
    Ok(bytes)
}
