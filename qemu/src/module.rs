//! The boot module as bytes: the layout of [`exo_abi::boot`], written.

use anyhow::{Result, ensure};
use exo_abi::Rights;
use exo_abi::boot::{
    ARCHIVE, ARCHIVE_GUARD, MAGIC, MODULE_VERSION, ModuleHeader, ModuleSegment, SEGMENT_PAGES,
    SEGMENTS, STACK_PAGES, STACK_TOP,
};

use crate::elf::{PAGE, Program, Segment};

/// The pages of a module.
struct Writer {
    bytes: Vec<u8>,
    segments: Vec<ModuleSegment>,
}

impl Writer {
    /// Adds a segment: its contents, and zeros up to its size.
    fn add(&mut self, address: u64, contents: &[u8], size: u64, rights: Rights, guard: u8) {
        if size == 0 {
            return;
        }
        let (first, pages) = (self.bytes.len() as u64 / PAGE, size.div_ceil(PAGE));
        self.bytes.extend_from_slice(contents);
        self.bytes.resize(((first + pages) * PAGE) as usize, 0);
        let (rights, guard) = (rights.bits().into(), guard.into());
        self.segments.push(ModuleSegment { address, first, pages, rights, guard });
    }
}

/// Lays out the first program, its stack and the archive as the kernel wants them: a page with the
/// header, then the pages of each.
///
/// # Errors
/// The program has more segments than the header has room for, a larger one than the kernel takes, or
/// one that is writable and executable.
pub fn encode(init: &Program, archive: &[u8]) -> Result<Vec<u8>> {
    let mut writer = Writer { bytes: vec![0; usize::try_from(PAGE)?], segments: Vec::new() };
    for segment in &init.segments {
        let contents = &segment.contents;
        // Nobody would mend a fault on them.
        let rights = rights(segment)? | Rights::WIRED;
        writer.add(segment.address, contents, segment.size, rights, 0);
    }
    let stack = STACK_PAGES * PAGE;
    let rights = Rights::READ | Rights::WRITE | Rights::WIRED;
    writer.add(STACK_TOP - stack, &[], stack, rights, 0);
    writer.add(ARCHIVE, archive, archive.len() as u64, Rights::READ, ARCHIVE_GUARD);
    let Writer { mut bytes, segments } = writer;
    ensure!(segments.len() <= SEGMENTS, "the first program has more than {SEGMENTS} segments");
    let large = segments.iter().find(|segment| segment.pages > SEGMENT_PAGES);
    ensure!(large.is_none(), "more than {SEGMENT_PAGES} pages in a row: {large:x?}");
    let mut header = ModuleHeader {
        magic: MAGIC,
        version: MODULE_VERSION,
        entry: init.entry,
        stack: STACK_TOP,
        argument: archive.len() as u64,
        segment_count: segments.len() as u64,
        ..ModuleHeader::default()
    };
    header.segments[..segments.len()].copy_from_slice(&segments);
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
        assert_eq!((header.magic, header.entry, header.segment_count), (MAGIC, 0x40_0010, 4));
        assert_eq!((header.stack, header.argument), (STACK_TOP, 7));
        let part = |segment: ModuleSegment| {
            let (first, pages) = (segment.first as usize, segment.pages as usize);
            &bytes[first * PAGE as usize..][..pages * PAGE as usize]
        };
        let all = |segment: ModuleSegment, contents: &[u8], rights: Rights| {
            assert_eq!(segment.rights, u64::from(rights.bits()));
            assert_eq!(part(segment)[..contents.len()], *contents);
            assert!(part(segment)[contents.len()..].iter().all(|&byte| byte == 0));
        };
        let [first, second, stack, last, ..] = header.segments;
        all(first, &text, Rights::READ | Rights::EXECUTE | Rights::WIRED);
        all(second, b"data", Rights::READ | Rights::WRITE | Rights::WIRED);
        all(stack, b"", Rights::READ | Rights::WRITE | Rights::WIRED);
        all(last, b"archive", Rights::READ);
        assert_eq!((second.address, second.pages), (0x50_0000, 3));
        assert_eq!(stack.address + stack.pages * PAGE, STACK_TOP);
        assert_eq!((last.address, last.guard), (ARCHIVE, ARCHIVE_GUARD.into()));
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
