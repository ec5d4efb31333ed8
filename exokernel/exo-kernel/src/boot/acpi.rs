//! The processors of the machine, as firmware describes them in the MADT of ACPI.
//!
//! Layouts from the ACPI specification 6.5, sections 5.2.5 to 5.2.12. Whatever a table says of its
//! length is a claim: nothing is read outside what was claimed, a table is believed only if its
//! bytes add up to zero, and what cannot be believed means fewer processors and nothing worse.

/// The most processors that the kernel runs on.
pub(crate) const PROCESSORS: usize = 64;

/// The longest table that is looked at: the MADT of the largest machines is a tenth of it.
const LONGEST: usize = 1 << 16;
/// The bytes of the header that each table has.
const HEADER: usize = 36;
/// Where the entries of the MADT begin.
const MADT_ENTRIES: usize = 44;
/// The most entries of a table that are looked at.
const ENTRIES: usize = 4096;
/// In an entry of the MADT: the processor can be used.
const ENABLED: u64 = 1;

/// Physical memory, which nobody writes to meanwhile.
pub(crate) trait Memory {
    /// So many bytes from `address` on, if that is memory.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// The processors that can be used.
#[derive(Debug)]
pub(crate) struct Processors {
    identities: [u32; PROCESSORS],
    count: usize,
    /// How many there are beyond those that the kernel can use.
    pub(crate) beyond: usize,
}

impl Processors {
    /// No processors.
    pub(crate) const fn none() -> Self {
        Self { identities: [0; PROCESSORS], count: 0, beyond: 0 }
    }

    /// The numbers of their local interrupt controllers, in firmware's order. Each is there once.
    pub(crate) fn identities(&self) -> &[u32] {
        &self.identities[..self.count]
    }

    fn add(&mut self, identity: u32) {
        if self.identities().contains(&identity) {
            return;
        }
        match self.identities.get_mut(self.count) {
            Some(place) => {
                *place = identity;
                self.count += 1;
            }
            None => self.beyond += 1,
        }
    }
}

/// The processors by the tables that the root pointer at `rsdp` leads to; `None` if it leads to
/// none that can be believed.
pub(crate) fn processors(memory: &impl Memory, rsdp: u64) -> Option<Processors> {
    let (root, signature, width) = root(memory, rsdp)?;
    let places = table(memory, root, signature)?.get(HEADER..)?.chunks_exact(width);
    let madt = places.take(ENTRIES).find_map(|place| table(memory, number(place), b"APIC"))?;
    let mut entries = madt.get(MADT_ENTRIES..).unwrap_or_default();
    let mut processors = Processors::none();
    // An entry is a kind, a length, and what it says.
    while let Some(&length @ 2..) = entries.get(1)
        && let Some((entry, rest)) = entries.split_at_checked(length.into())
    {
        processor(entry).inspect(|&identity| processors.add(identity));
        entries = rest;
    }
    Some(processors)
}

/// The address of the table of tables, its signature, and the bytes of each of its entries.
fn root(memory: &impl Memory, rsdp: u64) -> Option<(u64, &'static [u8; 4], usize)> {
    // The first version has 20 bytes, and nothing need be behind them.
    let first = memory.bytes(rsdp, 20)?;
    if &first[..8] != b"RSD PTR " || sum(first) != 0 {
        return None;
    }
    let second = memory.bytes(rsdp, 36).filter(|pointer| pointer[15] >= 2 && sum(pointer) == 0);
    let extended = second.map_or(0, |pointer| number(&pointer[24..32]));
    Some(if extended != 0 { (extended, b"XSDT", 8) } else { (number(&first[16..20]), b"RSDT", 4) })
}

/// The table at an address, if its signature and the sum of its bytes are right.
fn table<'m>(memory: &'m impl Memory, address: u64, signature: &[u8; 4]) -> Option<&'m [u8]> {
    let header = memory.bytes(address, HEADER)?;
    let length = number(&header[4..8]) as usize;
    if &header[..4] != signature || !(HEADER..=LONGEST).contains(&length) {
        return None;
    }
    memory.bytes(address, length).filter(|table| sum(table) == 0)
}

/// The number of the processor's interrupt controller, if an entry of the MADT is one that can be
/// used.
fn processor(entry: &[u8]) -> Option<u32> {
    let (identity, flags, nobody) = match (entry[0], entry.len()) {
        // Processor Local APIC.
        (0, 8..) => (entry[3].into(), &entry[4..8], 0xff),
        // Processor Local x2APIC.
        (9, 16..) => (number(&entry[4..8]) as u32, &entry[8..12], u32::MAX),
        _ => return None,
    };
    (number(flags) & ENABLED != 0 && identity != nobody).then_some(identity)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

/// What the bytes say, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
