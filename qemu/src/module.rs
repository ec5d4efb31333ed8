//! The boot module as bytes: the layout of [`exo_abi::boot`], written.

use anyhow::{Result, ensure};
use exo_abi::Rights;
use exo_abi::boot::{MAGIC, MODULE_VERSION, ModuleHeader, ModuleSegment, SEGMENTS};

use crate::elf::{PAGE, Program, Segment};

/// Lays out the first program and the archive as the kernel wants them: a page with the header,
/// then each segment and the archive from a page of its own on.
///
/// # Errors
/// The program has more segments than the header has room for, or one that is writable and
/// executable.
pub fn encode(init: &Program, archive: &[u8]) -> Result<Vec<u8>> {
    ensure!(init.segments.len() <= SEGMENTS, "the first program has more than {SEGMENTS} segments");
    let page = usize::try_from(PAGE)?;
    let mut header = ModuleHeader {
        magic: MAGIC,
        version: MODULE_VERSION,
        entry: init.entry,
        segment_count: init.segments.len() as u64,
        ..ModuleHeader::default()
    };
    let mut bytes = vec![0; page];
    for (place, segment) in header.segments.iter_mut().zip(&init.segments) {
        *place = ModuleSegment {
            address: segment.address,
            offset: bytes.len() as u64,
            file_size: segment.contents.len() as u64,
            memory_size: segment.size,
            rights: rights(segment)?.bits().into(),
        };
        bytes.extend_from_slice(&segment.contents);
        bytes.resize(bytes.len().next_multiple_of(page), 0);
    }
    header.archive_offset = bytes.len() as u64;
    header.archive_length = archive.len() as u64;
    bytes.extend_from_slice(archive);
    bytes.resize(bytes.len().next_multiple_of(page), 0);
    header.length = bytes.len() as u64;
    for (place, word) in bytes.chunks_exact_mut(8).zip(header.to_words()) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Ok(bytes)
}

fn rights(segment: &Segment) -> Result<Rights> {
    let address = segment.address;
    ensure!(
        !(segment.writable && segment.executable),
        "the segment at {address:#x} is writable and executable"
    );
    let mut rights = Rights::READ;
    rights.set(Rights::WRITE, segment.writable);
    rights.set(Rights::EXECUTE, segment.executable);
    Ok(rights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(address: u64, contents: &[u8], size: u64) -> Segment {
        let contents = contents.to_vec();
        Segment { address, contents, size, writable: false, executable: false }
    }

    fn header(bytes: &[u8]) -> ModuleHeader {
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        ModuleHeader::from_words(words.first_chunk().unwrap())
    }

    #[test]
    fn everything_is_where_the_header_says() {
        let text = vec![7; 5000];
        let mut code = segment(0x40_0000, &text, 5000);
        code.executable = true;
        let mut data = segment(0x50_0000, b"data", 0x3000);
        data.writable = true;
        let init = Program { entry: 0x40_0010, segments: vec![code, data] };
        let bytes = encode(&init, b"archive").unwrap();
        let header = header(&bytes);
        assert_eq!((header.magic, header.entry, header.segment_count), (MAGIC, 0x40_0010, 2));
        assert_eq!(header.length, bytes.len() as u64);
        let part = |offset: u64, length: u64| {
            assert_eq!(offset % PAGE, 0);
            &bytes[usize::try_from(offset).unwrap()..][..usize::try_from(length).unwrap()]
        };
        let [first, second, ..] = header.segments;
        assert_eq!(part(first.offset, first.file_size), text);
        assert_eq!(first.rights, u64::from((Rights::READ | Rights::EXECUTE).bits()));
        assert_eq!(part(second.offset, second.file_size), b"data");
        assert_eq!(second.rights, u64::from((Rights::READ | Rights::WRITE).bits()));
        assert_eq!(second.memory_size, 0x3000);
        assert_eq!(part(header.archive_offset, header.archive_length), b"archive");
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_here() {
        let mut both = segment(0x40_0000, b"", 1);
        (both.writable, both.executable) = (true, true);
        assert!(encode(&Program { entry: 0, segments: vec![both] }, b"").is_err());
        let many = vec![segment(0x40_0000, b"", 1); SEGMENTS + 1];
        assert!(encode(&Program { entry: 0, segments: many }, b"").is_err());
    }
}
