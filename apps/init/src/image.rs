//! A program's image: what an ELF file asks to have in memory, believed only where it is harmless.
//!
//! Every number in the file is a claim. An [`Image`] exists only if its segments lie in order, each
//! on pages of its own, inside the file, inside the range given and within the number of pages
//! given; if none is both writable and executable; and if it starts inside an executable one.

use core::fmt;
use core::ops::Range;
use object::LittleEndian;
use object::elf::{EM_X86_64, ET_EXEC, FileHeader64, PF_R, PF_W, PF_X, PT_LOAD, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// The most segments to load.
pub const SEGMENTS: usize = 16;

/// A piece of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The address of its first byte.
    pub address: u64,
    /// What it starts with.
    pub bytes: &'a [u8],
    /// Its size in bytes; what is behind `bytes` is zero.
    pub size: u64,
    /// It can be written.
    pub writable: bool,
    /// It can be executed.
    pub executable: bool,
}

impl Segment<'_> {
    /// The addresses of its pages.
    pub fn pages(&self) -> Range<u64> {
        self.address / PAGE * PAGE..(self.address + self.size).next_multiple_of(PAGE)
    }

    /// The part of `bytes` that goes to the page at this address, and the offset in the page.
    pub fn part(&self, page: u64) -> (usize, &[u8]) {
        let end = self.bytes.len() as u64;
        let from = page.saturating_sub(self.address).min(end);
        let to = (page + PAGE).saturating_sub(self.address).min(end);
        let offset = self.address.saturating_sub(page);
        (offset as usize, &self.bytes[from as usize..to as usize])
    }
}

/// An image that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// The address of the first instruction.
    pub entry: u64,
    segments: [Segment<'a>; SEGMENTS],
    count: usize,
}

/// Why a file is no image that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is not a static ELF executable for x86-64, or its tables lie outside it.
    NotExecutable,
    /// It has no segment to load.
    Empty,
    /// It has more than [`SEGMENTS`] segments to load.
    TooManySegments,
    /// A segment's bytes lie outside the file, or there are more of them than in memory.
    Truncated {
        /// The address of the segment.
        address: u64,
    },
    /// A segment lies outside the range for images.
    OutOfRange {
        /// The address of the segment.
        address: u64,
    },
    /// A segment shares a page with the one before it, or lies below it.
    Overlap {
        /// The address of the segment.
        address: u64,
    },
    /// A segment can be written and executed, or not even read.
    BadRights {
        /// The address of the segment.
        address: u64,
    },
    /// The segments have more pages than allowed.
    TooLarge {
        /// How many.
        pages: u64,
    },
    /// The first instruction is in no executable segment.
    BadEntry {
        /// Its address.
        entry: u64,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotExecutable => write!(f, "not a static ELF executable for x86-64"),
            Self::Empty => write!(f, "nothing to load"),
            Self::TooManySegments => write!(f, "more than {SEGMENTS} segments"),
            Self::Truncated { address } => write!(f, "segment {address:#x} is truncated"),
            Self::OutOfRange { address } => write!(f, "segment {address:#x} is out of range"),
            Self::Overlap { address } => write!(f, "segment {address:#x} overlaps another"),
            Self::BadRights { address } => {
                write!(f, "segment {address:#x} has rights that none may")
            }
            Self::TooLarge { pages } => write!(f, "{pages} pages are more than allowed"),
            Self::BadEntry { entry } => write!(f, "entry {entry:#x} is not executable"),
        }
    }
}

impl core::error::Error for ImageError {}

impl<'a> Image<'a> {
    /// Judges the file of a program whose image has to lie in `range` and have at most `pages`
    /// pages.
    ///
    /// # Errors
    /// [`ImageError`]: the first rule that the file breaks.
    pub fn parse(file: &'a [u8], range: &Range<u64>, pages: u64) -> Result<Self, ImageError> {
        let header =
            FileHeader64::<LittleEndian>::parse(file).map_err(|_| ImageError::NotExecutable)?;
        let endian = header.endian().map_err(|_| ImageError::NotExecutable)?;
        if header.e_type(endian) != ET_EXEC || header.e_machine(endian) != EM_X86_64 {
            return Err(ImageError::NotExecutable);
        }
        let headers =
            header.program_headers(endian, file).map_err(|_| ImageError::NotExecutable)?;
        let nothing =
            Segment { address: 0, bytes: &[], size: 0, writable: false, executable: false };
        let mut image =
            Self { entry: header.e_entry(endian), segments: [nothing; SEGMENTS], count: 0 };
        let mut end = range.start;
        for header in headers {
            if header.p_type(endian) != PT_LOAD || header.p_memsz(endian) == 0 {
                continue;
            }
            let segment = judge(header, endian, file, range, end)?;
            end = segment.pages().end;
            *image.segments.get_mut(image.count).ok_or(ImageError::TooManySegments)? = segment;
            image.count += 1;
        }
        image.judge_whole(pages)?;
        Ok(image)
    }

    fn judge_whole(&self, allowed: u64) -> Result<(), ImageError> {
        if self.count == 0 {
            return Err(ImageError::Empty);
        }
        if self.pages() > allowed {
            return Err(ImageError::TooLarge { pages: self.pages() });
        }
        let inside = |segment: &Segment<'_>| {
            segment.executable
                && (0..segment.size).contains(&self.entry.wrapping_sub(segment.address))
        };
        if !self.segments().iter().any(inside) {
            return Err(ImageError::BadEntry { entry: self.entry });
        }
        Ok(())
    }

    /// The segments, lowest first.
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments[..self.count]
    }

    /// How many pages the segments have.
    pub fn pages(&self) -> u64 {
        self.segments()
            .iter()
            .map(|segment| (segment.pages().end - segment.pages().start) / PAGE)
            .sum()
    }

    /// From the first page to behind the last.
    pub fn range(&self) -> Range<u64> {
        let first = self.segments().first().map_or(0, |segment| segment.pages().start);
        let last = self.segments().last().map_or(0, |segment| segment.pages().end);
        first..last
    }
}

/// Judges one segment; `end` is where the one before it ends, as an address of a page.
fn judge<'a>(
    header: &ProgramHeader64<LittleEndian>,
    endian: LittleEndian,
    file: &'a [u8],
    range: &Range<u64>,
    end: u64,
) -> Result<Segment<'a>, ImageError> {
    let (address, size) = (header.p_vaddr(endian), header.p_memsz(endian));
    let inside = address.checked_add(size).is_some_and(|end| end <= range.end / PAGE * PAGE);
    if !inside || address < range.start {
        return Err(ImageError::OutOfRange { address });
    }
    if address / PAGE * PAGE < end {
        return Err(ImageError::Overlap { address });
    }
    let bytes = header.data(endian, file).map_err(|()| ImageError::Truncated { address })?;
    if bytes.len() as u64 > size {
        return Err(ImageError::Truncated { address });
    }
    let has = |flag: object::elf::ProgramFlags| header.p_flags(endian).0 & flag.0 != 0;
    let (writable, executable) = (has(PF_W), has(PF_X));
    if !has(PF_R) || writable && executable {
        return Err(ImageError::BadRights { address });
    }
    Ok(Segment { address, bytes, size, writable, executable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const RANGE: Range<u64> = 0x20_0000..0x100_0000;

    /// A program header: flags, offset, address, size in the file, size in memory.
    type Header = [u64; 5];

    const TEXT: Header = [5, 0x1000, 0x20_1000, 0x10, 0x10];
    const DATA: Header = [6, 0x1010, 0x20_3800, 0x20, 0x1000];

    /// An executable with these segments, and 0x1100 bytes in all.
    fn file(entry: u64, headers: &[Header]) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [entry, 64, 0] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, headers.len() as u8, 0, 64, 0]);
        file.extend_from_slice(&[0; 4]);
        for [flags, offset, address, in_file, in_memory] in headers {
            let words = [1 | flags << 32, *offset, *address, *address, *in_file, *in_memory, PAGE];
            for word in words {
                file.extend_from_slice(&word.to_le_bytes());
            }
        }
        file.resize(0x1000, 0);
        file.extend((0..0x100).map(|byte| byte as u8));
        file
    }

    fn refusal(headers: &[Header]) -> ImageError {
        let file = file(0x20_1000, headers);
        Image::parse(&file, &RANGE, 100).unwrap_err()
    }

    #[test]
    fn a_good_image_is_what_the_file_says() {
        let file = file(0x20_1004, &[TEXT, DATA]);
        let image = Image::parse(&file, &RANGE, 3).unwrap();
        assert_eq!(image.entry, 0x20_1004);
        assert_eq!(image.pages(), 3);
        assert_eq!(image.range(), 0x20_1000..0x20_5000);
        let data = image.segments()[1];
        assert_eq!(data.part(0x20_3000), (0x800, &file[0x1010..0x1030]));
        assert_eq!(data.part(0x20_4000), (0, &[][..]));
        assert!(data.writable && !data.executable);
    }

    #[test]
    fn a_segment_is_cut_at_the_pages() {
        let bytes: Vec<u8> = (0..6000).map(|byte| byte as u8).collect();
        let segment = Segment {
            address: 0x1800,
            bytes: &bytes,
            size: 9000,
            writable: true,
            executable: false,
        };
        assert_eq!(segment.pages(), 0x1000..0x4000);
        let mut joined = Vec::new();
        for page in segment.pages().step_by(PAGE as usize) {
            let (offset, part) = segment.part(page);
            assert!(offset + part.len() <= PAGE as usize);
            joined.extend_from_slice(part);
        }
        assert_eq!(joined, bytes);
    }

    #[test]
    fn each_rule_has_its_refusal() {
        let with = |field: usize, value: u64| {
            let mut header = TEXT;
            header[field] = value;
            refusal(&[header])
        };
        let address = TEXT[2];
        assert_eq!(refusal(&[]), ImageError::Empty);
        assert_eq!(refusal(&[TEXT; SEGMENTS + 1]), ImageError::Overlap { address });
        assert_eq!(with(0, 7), ImageError::BadRights { address });
        assert_eq!(with(0, 1), ImageError::BadRights { address });
        assert_eq!(with(1, 0x10f1), ImageError::Truncated { address });
        assert_eq!(with(1, u64::MAX), ImageError::Truncated { address });
        assert_eq!(with(3, 0x11), ImageError::Truncated { address });
        assert_eq!(with(4, u64::MAX), ImageError::OutOfRange { address });
        assert_eq!(with(4, 1 << 40), ImageError::OutOfRange { address });
        assert_eq!(with(2, 0x1000), ImageError::OutOfRange { address: 0x1000 });
        let kernel = 0xffff_ffff_8000_0000;
        assert_eq!(with(2, kernel), ImageError::OutOfRange { address: kernel });
        assert_eq!(with(4, 0x10_0000), ImageError::TooLarge { pages: 0x100 });
        assert_eq!(with(0, 4), ImageError::BadEntry { entry: 0x20_1000 });
        assert_eq!(refusal(&[DATA, TEXT]), ImageError::Overlap { address });
        let shared_page = [6, 0x1000, 0x20_1800, 8, 8];
        assert_eq!(refusal(&[TEXT, shared_page]), ImageError::Overlap { address: 0x20_1800 });
        let many: Vec<Header> = (0..=SEGMENTS as u64)
            .map(|index| [5, 0x1000, 0x20_1000 + index * PAGE, 8, 8])
            .collect();
        assert_eq!(refusal(&many), ImageError::TooManySegments);
    }

    #[test]
    fn a_truncated_file_is_refused_or_whole() {
        let file = file(0x20_1000, &[TEXT, DATA]);
        for length in 0..file.len() {
            let image = Image::parse(&file[..length], &RANGE, 100);
            assert_eq!(image.is_ok(), length >= 0x1030, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_file_says_the_rules_hold(
            place in 0..64 + 2 * 56usize, value: u64, width in 0..8usize,
            entry in 0x20_0000..0x20_6000u64,
        ) {
            let mut file = file(entry, &[TEXT, DATA]);
            file[place..place + width].copy_from_slice(&value.to_le_bytes()[..width]);
            if let Ok(image) = Image::parse(&file, &RANGE, 100) {
                prop_assert!(image.pages() <= 100);
                let mut end = RANGE.start;
                for segment in image.segments() {
                    let pages = segment.pages();
                    prop_assert!(end <= pages.start && pages.end <= RANGE.end);
                    prop_assert!(segment.bytes.len() as u64 <= segment.size);
                    prop_assert!(!(segment.writable && segment.executable));
                    end = pages.end;
                }
            }
        }
    }
}
