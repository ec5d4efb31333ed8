//! What of an ELF file goes into the image: the loadable segments and nothing else. The file that
//! the linker wrote stays on the host, where backtraces find its line tables.

use anyhow::{Context, Result, bail, ensure};
use object::elf::{FileHeader64, PF_R, PF_W, PF_X, PT_LOAD, ProgramFlags};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, elf};

/// Bytes in a page: segments start on pages of their own.
pub const PAGE: u64 = 4096;

/// One loadable segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it lies in the program's address space; a multiple of [`PAGE`].
    pub address: u64,
    /// What it is filled with.
    pub contents: Vec<u8>,
    /// How large it is in memory; zeros follow the contents.
    pub size: u64,
    /// The program may write to it.
    pub writable: bool,
    /// The program may run code in it.
    pub executable: bool,
}

/// A program taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Address of its first instruction.
    pub entry: u64,
    /// Its segments, in the order of the file.
    pub segments: Vec<Segment>,
}

/// Takes an executable apart.
///
/// # Errors
/// It is not a static x86-64 executable, or a segment does not start on a page of its own.
pub fn parse(file: &[u8]) -> Result<Program> {
    let header = header(file)?;
    let endian = LittleEndian;
    let mut segments = Vec::new();
    for program_header in header.program_headers(endian, file).context("program headers")? {
        if program_header.p_type(endian) != PT_LOAD || program_header.p_memsz(endian) == 0 {
            continue;
        }
        let has = |flag: ProgramFlags| program_header.p_flags(endian).0 & flag.0 != 0;
        let Ok(contents) = program_header.data(endian, file) else {
            bail!("a segment lies outside the file");
        };
        let address = program_header.p_vaddr(endian);
        ensure!(address % PAGE == 0, "a segment at {address:#x} does not start on a page");
        ensure!(has(PF_R), "the segment at {address:#x} cannot be read");
        segments.push(Segment {
            address,
            contents: contents.to_vec(),
            size: program_header.p_memsz(endian),
            writable: has(PF_W),
            executable: has(PF_X),
        });
    }
    ensure!(!segments.is_empty(), "nothing to load");
    Ok(Program { entry: header.e_entry(endian), segments })
}

/// The same executable without what is not loaded: sections, symbols, line tables.
///
/// # Errors
/// It is not a static x86-64 executable.
pub fn strip(file: &[u8]) -> Result<Vec<u8>> {
    let header = header(file)?;
    let endian = LittleEndian;
    let mut length = header.e_phoff(endian)
        + u64::from(header.e_phnum(endian)) * u64::from(header.e_phentsize(endian));
    for program_header in header.program_headers(endian, file).context("program headers")? {
        if program_header.p_type(endian) == PT_LOAD {
            let (offset, size) = program_header.file_range(endian);
            length = length.max(offset.checked_add(size).context("a segment of absurd size")?);
        }
    }
    let mut stripped =
        file.get(..usize::try_from(length)?).context("a segment outside the file")?.to_vec();
    for range in [SECTION_OFFSET, SECTION_COUNTS] {
        stripped[range].fill(0);
    }
    Ok(stripped)
}

/// Where `e_shoff` lies in a 64-bit ELF header.
const SECTION_OFFSET: std::ops::Range<usize> = 40..48;
/// Where `e_shentsize`, `e_shnum` and `e_shstrndx` lie.
const SECTION_COUNTS: std::ops::Range<usize> = 58..64;

fn header(file: &[u8]) -> Result<&FileHeader64<LittleEndian>> {
    let header = FileHeader64::<LittleEndian>::parse(file).context("not a 64-bit ELF file")?;
    let endian = LittleEndian;
    ensure!(header.is_little_endian(), "not a little-endian ELF file");
    ensure!(header.e_machine(endian) == elf::EM_X86_64, "not for x86-64");
    ensure!(
        header.e_type(endian) == elf::ET_EXEC,
        "not a static executable: was it built with the workspace's .cargo/config.toml?"
    );
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::Stub;

    #[test]
    fn a_stripped_file_loads_the_same_program() {
        let mut file = Stub::default().elf();
        file.extend_from_slice(b"line tables that nobody loads");
        let stripped = strip(&file).unwrap();
        assert!(stripped.len() < file.len());
        assert_eq!(parse(&stripped).unwrap(), parse(&file).unwrap());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(parse(b"").is_err());
        assert!(parse(b"#!/bin/sh\n").is_err());
        let mut file = Stub::default().elf();
        file.truncate(0x1001);
        assert!(parse(&file).is_err());
        assert!(strip(&file).is_err());
    }
}
