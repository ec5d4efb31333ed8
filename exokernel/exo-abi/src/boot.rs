//! The boot module: what the kernel finds beside itself in memory.
//!
//! One file, page-aligned: a header page, then the first program's segments as they stand in
//! memory, then an archive that the kernel does not look into. The host tool writes it, so that
//! neither an ELF loader nor an archive reader has to be trusted.

/// `"exo-boot"` in the first word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"exo-boot");
/// The version of this layout.
pub const MODULE_VERSION: u64 = 1;
/// The most segments of the first program.
pub const SEGMENTS: usize = 8;

/// A segment of the first program. All fields are words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ModuleSegment {
    /// The address that it is linked to, a multiple of the page size.
    pub address: u64,
    /// Where its bytes are in the module, a multiple of the page size.
    pub offset: u64,
    /// How many bytes there are.
    pub file_size: u64,
    /// How many bytes it has in memory; those beyond the file are zero.
    pub memory_size: u64,
    /// Its [`Rights`](crate::Rights).
    pub rights: u64,
}

/// The first page of the module. All fields are words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ModuleHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`MODULE_VERSION`].
    pub version: u64,
    /// The length of the whole module in bytes.
    pub length: u64,
    /// Where the first program starts.
    pub entry: u64,
    /// Where the archive is in the module, a multiple of the page size.
    pub archive_offset: u64,
    /// The length of the archive in bytes.
    pub archive_length: u64,
    /// How many of the segments count.
    pub segment_count: u64,
    /// The segments.
    pub segments: [ModuleSegment; SEGMENTS],
}

/// The words of a [`ModuleHeader`].
pub const HEADER_WORDS: usize = 7 + SEGMENTS * 5;

impl ModuleHeader {
    /// The header as words, for the writer.
    pub fn to_words(&self) -> [u64; HEADER_WORDS] {
        let mut words = [0; HEADER_WORDS];
        let fields = [
            self.magic,
            self.version,
            self.length,
            self.entry,
            self.archive_offset,
            self.archive_length,
            self.segment_count,
        ];
        words[..7].copy_from_slice(&fields);
        for (chunk, segment) in words[7..].chunks_exact_mut(5).zip(&self.segments) {
            chunk.copy_from_slice(&[
                segment.address,
                segment.offset,
                segment.file_size,
                segment.memory_size,
                segment.rights,
            ]);
        }
        words
    }

    /// The header from its words, for the reader. Says nothing about whether it makes sense.
    pub fn from_words(words: &[u64; HEADER_WORDS]) -> Self {
        let mut header = Self {
            magic: words[0],
            version: words[1],
            length: words[2],
            entry: words[3],
            archive_offset: words[4],
            archive_length: words[5],
            segment_count: words[6],
            ..Self::default()
        };
        for (segment, chunk) in header.segments.iter_mut().zip(words[7..].chunks_exact(5)) {
            *segment = ModuleSegment {
                address: chunk[0],
                offset: chunk[1],
                file_size: chunk[2],
                memory_size: chunk[3],
                rights: chunk[4],
            };
        }
        header
    }
}

/// Where the first program finds the archive: bound read-only from here on, its length in bytes in
/// the start argument.
pub const ARCHIVE: u64 = 0x10_0000_0000;
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
