//! Programs in ELF objects, as clang and rustc make them for eBPF.
//!
//! The program begins at a global function; the functions that it calls are put behind it. Calls of
//! helpers are calls of undefined functions with the helpers' names, or by number. There are no
//! variables, maps or constants in sections of their own: who refers to one is told which.

use std::fmt;

use object::read::elf::ElfFile64;
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolIndex, SymbolKind,
};
use packet_filters::ebpf::{Helper, Profile};

/// Why no program came out of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectError {
    /// It is no 64-bit little-endian ELF object.
    NoObject(String),
    /// It was not compiled for eBPF.
    WrongMachine,
    /// It has no global function of this name; without a name, not exactly one.
    NoFunction {
        /// The name that was asked for.
        wanted: Option<String>,
        /// The global functions that there are.
        there: Vec<String>,
    },
    /// The function refers to something other than a function.
    Reference {
        /// The function.
        function: String,
        /// What it refers to.
        to: String,
    },
    /// The function lies outside of its section, or is no whole number of instructions.
    BrokenFunction(String),
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObject(error) => write!(f, "not an ELF object: {error}"),
            Self::WrongMachine => f.write_str("not compiled for eBPF (`--target=bpfel`)"),
            Self::NoFunction { there, .. } if there.is_empty() => {
                f.write_str("there is no global function")
            }
            Self::NoFunction { wanted: Some(name), there } => {
                write!(f, "there is no global function {name:?}, but {}", there.join(", "))
            }
            Self::NoFunction { wanted: None, there } => {
                write!(f, "which function is it? `--entry` takes one of {}", there.join(", "))
            }
            Self::Reference { function, to } => {
                write!(
                    f,
                    "{function:?} refers to {to:?}: there are no variables, and the profile has no such helper"
                )
            }
            Self::BrokenFunction(name) => write!(f, "the function {name:?} is broken"),
        }
    }
}

impl std::error::Error for ObjectError {}

type Elf<'d> = ElfFile64<'d, LittleEndian>;

/// Takes the program that begins at the function `entry`, or at the only global function, out of an
/// object. The helpers of the profile can be called by name.
pub fn program(
    data: &[u8],
    entry: Option<&str>,
    profile: &Profile<'_>,
) -> Result<Vec<u8>, ObjectError> {
    let elf = Elf::parse(data).map_err(|error| ObjectError::NoObject(error.to_string()))?;
    if elf.architecture() != object::Architecture::Bpf {
        return Err(ObjectError::WrongMachine);
    }
    let globals = elf.symbols().filter(|symbol| {
        symbol.is_global() && symbol.is_definition() && symbol.kind() == SymbolKind::Text
    });
    let globals: Vec<_> =
        globals.filter_map(|symbol| Some((symbol.name().ok()?, symbol.index()))).collect();
    let first = match entry {
        Some(entry) => globals.iter().find(|(name, _)| *name == entry),
        None => globals.first().filter(|_| globals.len() == 1),
    };
    let Some((_, first)) = first else {
        let there = globals.iter().map(|(name, _)| (*name).to_owned()).collect();
        return Err(ObjectError::NoFunction { wanted: entry.map(str::to_owned), there });
    };
    let mut linker = Linker { elf: &elf, profile, functions: Vec::new(), code: Vec::new() };
    linker.add(*first)?;
    linker.link()
}

struct Linker<'d, 'e, 'p> {
    elf: &'e Elf<'d>,
    profile: &'p Profile<'p>,
    /// The functions that are part of the program, and the slot at which each begins.
    functions: Vec<(SymbolIndex, usize)>,
    code: Vec<u8>,
}

impl Linker<'_, '_, '_> {
    fn name(&self, symbol: SymbolIndex) -> String {
        let symbol = self.elf.symbol_by_index(symbol);
        symbol.ok().and_then(|symbol| symbol.name().ok().map(str::to_owned)).unwrap_or_default()
    }

    /// The slot at which a function begins; it becomes a part of the program.
    fn add(&mut self, index: SymbolIndex) -> Result<usize, ObjectError> {
        if let Some((_, slot)) = self.functions.iter().find(|(known, _)| *known == index) {
            return Ok(*slot);
        }
        let broken = || ObjectError::BrokenFunction(self.name(index));
        let symbol = self.elf.symbol_by_index(index).map_err(|_| broken())?;
        let section = symbol.section_index().ok_or_else(broken)?;
        let section = self.elf.section_by_index(section).map_err(|_| broken())?;
        let data = section.data().map_err(|_| broken())?;
        let start = symbol.address() as usize;
        let end = start.checked_add(symbol.size() as usize);
        let code = end.and_then(|end| data.get(start..end));
        let code = code.filter(|code| code.len() % 8 == 0).ok_or_else(broken)?;
        let slot = self.code.len() / 8;
        self.functions.push((index, slot));
        self.code.extend_from_slice(code);
        Ok(slot)
    }

    /// Resolves the calls of each function, which may add more functions.
    fn link(mut self) -> Result<Vec<u8>, ObjectError> {
        let mut next = 0;
        while let Some(&(function, slot)) = self.functions.get(next) {
            let end = self.functions.get(next + 1).map_or(self.code.len() / 8, |(_, slot)| *slot);
            self.resolve(function, slot, end)?;
            next += 1;
        }
        Ok(self.code)
    }

    fn resolve(
        &mut self,
        function: SymbolIndex,
        slot: usize,
        end: usize,
    ) -> Result<(), ObjectError> {
        let broken = || ObjectError::BrokenFunction(self.name(function));
        let symbol = self.elf.symbol_by_index(function).map_err(|_| broken())?;
        let section = symbol.section_index().ok_or_else(broken)?;
        let section = self.elf.section_by_index(section).map_err(|_| broken())?;
        let start = symbol.address();
        let mut resolved = Vec::new();
        for (offset, relocation) in section.relocations() {
            let Some(at) = offset.checked_sub(start).map(|at| slot + at as usize / 8) else {
                continue;
            };
            if at < end {
                resolved.push(at);
                self.relocate(function, at, relocation.target())?;
            }
        }
        // Calls in the same section may come without a relocation, as distances.
        for at in slot..end {
            let code = self.slot(at);
            if code[0] == 0x85 && code[1] >> 4 == 1 && !resolved.contains(&at) {
                let by = i32::from_le_bytes([code[4], code[5], code[6], code[7]]);
                let address = start as i64 + 8 * ((at - slot) as i64 + 1 + i64::from(by));
                self.call_address(function, at, section.index(), address)?;
            }
        }
        Ok(())
    }

    fn slot(&mut self, at: usize) -> &mut [u8; 8] {
        self.code[8 * at..].first_chunk_mut().expect("slots of the program")
    }

    /// Resolves what the slot refers to: a function of the object, or a helper.
    fn relocate(
        &mut self,
        function: SymbolIndex,
        at: usize,
        target: RelocationTarget,
    ) -> Result<(), ObjectError> {
        let RelocationTarget::Symbol(index) = target else {
            return Err(ObjectError::BrokenFunction(self.name(function)));
        };
        let to = self.name(index);
        let reference = || ObjectError::Reference { function: self.name(function), to: to.clone() };
        let symbol = self.elf.symbol_by_index(index).map_err(|_| reference())?;
        let code = *self.code[8 * at..].first_chunk::<8>().expect("a slot of the program");
        if code[0] != 0x85 {
            return Err(reference());
        }
        if symbol.is_undefined() {
            let named = |helper: &Option<Helper>| helper.is_some_and(|helper| helper.name == to);
            let number = self.profile.helpers.iter().position(named).ok_or_else(reference)?;
            let slot = self.slot(at);
            slot[1] = 0;
            slot[4..].copy_from_slice(&(number as u32).to_le_bytes());
            return Ok(());
        }
        if symbol.kind() == SymbolKind::Section {
            // The distance is counted from the start of the section, and one too small.
            let by = i32::from_le_bytes([code[4], code[5], code[6], code[7]]);
            let section = symbol.section_index().ok_or_else(reference)?;
            return self.call_address(function, at, section, 8 * (i64::from(by) + 1));
        }
        self.call(at, index)
    }

    /// Calls the function at this address of a section.
    fn call_address(
        &mut self,
        function: SymbolIndex,
        at: usize,
        section: object::SectionIndex,
        address: i64,
    ) -> Result<(), ObjectError> {
        let called = self.elf.symbols().find(|symbol| {
            symbol.section_index() == Some(section)
                && symbol.kind() == SymbolKind::Text
                && i64::try_from(symbol.address()) == Ok(address)
        });
        let called = called.ok_or_else(|| ObjectError::BrokenFunction(self.name(function)))?;
        self.call(at, called.index())
    }

    fn call(&mut self, at: usize, function: SymbolIndex) -> Result<(), ObjectError> {
        let target = self.add(function)?;
        let by = target as i32 - at as i32 - 1;
        let slot = self.slot(at);
        slot[1] = 0x10;
        slot[4..].copy_from_slice(&by.to_le_bytes());
        Ok(())
    }
}
