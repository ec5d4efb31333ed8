//! The boot module: what the kernel finds beside itself in memory.
//!
//! One file, page-aligned: a header page, then pages as they shall stand in the first program's
//! memory: its own, its stack's, and those of an archive that the kernel does not look into. The host
//! tool writes it, so that neither an ELF loader nor an archive reader has to be trusted.

/// `"exo-boot"` in the first word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"exo-boot");
/// The version of this layout.
pub const MODULE_VERSION: u64 = 2;
/// The most segments.
pub const SEGMENTS: usize = 10;
/// The most pages of a segment.
pub const SEGMENT_PAGES: u64 = 1 << 16;

/// Pages in a row. All fields are words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ModuleSegment {
    /// The address of the first, a multiple of the page size.
    pub address: u64,
    /// Which page of the module it is.
    pub first: u64,
    /// How many there are: 1 to [`SEGMENT_PAGES`].
    pub pages: u64,
    /// Their [`Rights`](crate::Rights).
    pub rights: u64,
    /// The part behind the root in the name that guards their frames, 1 to 255; 0 if the root guards
    /// them.
    pub guard: u64,
}

/// The first page of the module. All fields are words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ModuleHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`MODULE_VERSION`].
    pub version: u64,
    /// Where the first program starts.
    pub entry: u64,
    /// Its stack pointer.
    pub stack: u64,
    /// Its start argument.
    pub argument: u64,
    /// How many of the segments count.
    pub segment_count: u64,
    /// The segments.
    pub segments: [ModuleSegment; SEGMENTS],
}

/// The words in front of the segments, and those of each.
const FIXED_WORDS: usize = 6;
const SEGMENT_WORDS: usize = 5;
/// The words of a [`ModuleHeader`].
pub const HEADER_WORDS: usize = FIXED_WORDS + SEGMENTS * SEGMENT_WORDS;

impl ModuleHeader {
    /// The header as words, for the writer.
    pub fn to_words(&self) -> [u64; HEADER_WORDS] {
        let Self { magic, version, entry, stack, argument, segment_count, segments } = *self;
        let mut words = [0; HEADER_WORDS];
        let fixed = [magic, version, entry, stack, argument, segment_count];
        words[..FIXED_WORDS].copy_from_slice(&fixed);
        let chunks = words[FIXED_WORDS..].chunks_exact_mut(SEGMENT_WORDS);
        for (chunk, segment) in chunks.zip(segments) {
            let ModuleSegment { address, first, pages, rights, guard } = segment;
            chunk.copy_from_slice(&[address, first, pages, rights, guard]);
        }
        words
    }

    /// The header from its words, for the reader. Says nothing about whether it makes sense.
    pub fn from_words(words: &[u64; HEADER_WORDS]) -> Self {
        let mut header = Self {
            magic: words[0],
            version: words[1],
            entry: words[2],
            stack: words[3],
            argument: words[4],
            segment_count: words[5],
            ..Self::default()
        };
        let chunks = words[FIXED_WORDS..].chunks_exact(SEGMENT_WORDS);
        for (segment, chunk) in header.segments.iter_mut().zip(chunks) {
            *segment = ModuleSegment {
                address: chunk[0],
                first: chunk[1],
                pages: chunk[2],
                rights: chunk[3],
                guard: chunk[4],
            };
        }
        header
    }
}

/// Where the first program finds the archive: bound read-only from here on, its length in bytes in
/// the start argument.
pub const ARCHIVE: u64 = 0x10_0000_0000;
/// The guard of the archive's frames, so that it can be shared without sharing more.
pub const ARCHIVE_GUARD: u8 = 255;
/// The first program's stack ends here.
pub const STACK_TOP: u64 = 0x0f_0000_0000;
/// The pages of the first program's stack.
pub const STACK_PAGES: u64 = 64;

/// The verdict port of the emulator, and how a code is written to it.
pub const VERDICT_PORT: u16 = 0xf4;
/// What is added to an exit code before it is written to [`VERDICT_PORT`].
pub const VERDICT_BASE: u8 = 32;
/// The largest exit code of a machine; larger ones are written as this.
pub const VERDICT_MAX: u64 = 60;
/// The exit code of a kernel panic.
pub const VERDICT_PANIC: u64 = 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        assert_eq!(size_of::<ModuleHeader>(), HEADER_WORDS * 8);
        let mut header = ModuleHeader { magic: MAGIC, entry: 5, ..Default::default() };
        header.segments[7].rights = 9;
        assert_eq!(ModuleHeader::from_words(&header.to_words()), header);
    }
}
