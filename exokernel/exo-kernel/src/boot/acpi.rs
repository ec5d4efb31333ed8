//! The processors of the machine, as firmware describes them in the MADT of ACPI.
//!
//! Layouts from the ACPI specification 6.5, sections 5.2.5 to 5.2.12. Whatever a table says of its
//! length is a claim: nothing is read outside what was claimed, a table is believed only if its
//! bytes add up to zero, and what cannot be believed means fewer processors and nothing worse.

/// The most processors that the kernel runs on.
pub(crate) const PROCESSORS: usize = 64;

/// The longest table that is looked at: the MADT of the largest machines is a tenth of it.
const LONGEST: u32 = 1 << 16;
/// The bytes of the header that each table has.
const HEADER: usize = 36;
/// Where the entries of the MADT begin.
const MADT_ENTRIES: u64 = 44;
/// The most entries of a table that are looked at.
const ENTRIES: usize = 4096;
/// In an entry of the MADT: the processor can be used.
const ENABLED: u32 = 1;

/// Physical memory: fills the bytes with those from an address on, and says whether it is there.
pub(crate) trait Memory {
    /// Reads from `address` on.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
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
    let (root, entry) = root(memory, rsdp)?;
    let length = table(memory, root, if entry == 8 { b"XSDT" } else { b"RSDT" })?;
    let places = (root + HEADER as u64..).step_by(entry).take(ENTRIES);
    let madt = places
        .take_while(|place| place + entry as u64 <= root + length)
        .filter_map(|place| {
            let mut address = [0; 8];
            memory.read(place, &mut address[..entry]).then_some(u64::from_le_bytes(address))
        })
        .find_map(|address| Some((address, table(memory, address, b"APIC")?)));
    let (madt, length) = madt?;
    let mut processors = Processors::none();
    let mut place = MADT_ENTRIES;
    while let Some(entry) = MadtEntry::read(memory, madt, length, place) {
        if let Some(identity) = entry.processor() {
            processors.add(identity);
        }
        place += u64::from(entry.length);
    }
    Some(processors)
}

/// The address of the table of tables, and the bytes of each of its entries.
fn root(memory: &impl Memory, rsdp: u64) -> Option<(u64, usize)> {
    let pointer: [u8; 36] = {
        let mut bytes = [0; 36];
        // The first version has 20 bytes, and nothing need be behind them.
        (memory.read(rsdp, &mut bytes) || memory.read(rsdp, &mut bytes[..20])).then_some(bytes)?
    };
    if &pointer[..8] != b"RSD PTR " || sum(&pointer[..20]) != 0 {
        return None;
    }
    let extended = word(&pointer, 24) | word(&pointer, 28) << 32;
    if pointer[15] >= 2 && extended != 0 && sum(&pointer) == 0 {
        return Some((extended, 8));
    }
    Some((word(&pointer, 16), 4))
}

/// The length of the table at an address, if its signature and the sum of its bytes are right.
fn table(memory: &impl Memory, address: u64, signature: &[u8; 4]) -> Option<u64> {
    let mut header = [0; HEADER];
    if !memory.read(address, &mut header) || &header[..4] != signature {
        return None;
    }
    let length = word(&header, 4);
    if length < HEADER as u64 || length > u64::from(LONGEST) {
        return None;
    }
    // Nothing is read behind the end of the address space.
    address.checked_add(length)?;
    let mut total = 0u8;
    let mut part = [0; 64];
    for offset in (0..length).step_by(part.len()) {
        let size = part.len().min((length - offset) as usize);
        if !memory.read(address + offset, &mut part[..size]) {
            return None;
        }
        total = total.wrapping_add(sum(&part[..size]));
    }
    (total == 0).then_some(length)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

/// The word of 32 bits at an offset; 0 if it isn't there.
fn word(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |&word| u32::from_le_bytes(word).into())
}

/// An entry of the MADT: a kind, a length, and as much of the rest as any processor's has.
struct MadtEntry {
    length: u8,
    bytes: [u8; 16],
}

impl MadtEntry {
    /// The entry at an offset into the table; `None` where the entries end or make no sense.
    fn read(memory: &impl Memory, table: u64, table_length: u64, place: u64) -> Option<Self> {
        let rest = table_length.checked_sub(place)?;
        let mut bytes = [0; 16];
        if rest < 2 || !memory.read(table + place, &mut bytes[..2]) {
            return None;
        }
        let length = bytes[1];
        if length < 2 || u64::from(length) > rest {
            return None;
        }
        let size = bytes.len().min(length.into());
        memory.read(table + place, &mut bytes[..size]).then_some(Self { length, bytes })
    }

    /// The number of the processor's interrupt controller, if it is a processor that can be used.
    fn processor(&self) -> Option<u32> {
        let (identity, flags, nobody) = match (self.bytes[0], self.length) {
            // Processor Local APIC.
            (0, 8..) => (u32::from(self.bytes[3]), word(&self.bytes, 4), 0xff),
            // Processor Local x2APIC.
            (9, 16..) => (word(&self.bytes, 4) as u32, word(&self.bytes, 8), u32::MAX),
            _ => return None,
        };
        (flags as u32 & ENABLED != 0 && identity != nobody).then_some(identity)
    }
}
