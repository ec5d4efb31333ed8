//! The kernel's reader of ACPI tables, on the host: on tables in order and on tables that lie.
//!
//! The file is the kernel's own; the kernel itself does not build for the host.

#[path = "../../exokernel/exo-kernel/src/boot/acpi.rs"]
mod acpi;

use std::cell::Cell;

use acpi::{Memory, PROCESSORS, processors};

/// Where the tables are in [`Tables`].
const RSDP: usize = 0x100;
const ROOT: usize = 0x200;
const MADT: usize = 0x400;
const SIZE: usize = 0x1000;
/// The most reads that any tables may cause.
const READS: usize = 100_000;

/// Memory that is all there is: what is outside cannot be read.
struct Tables {
    bytes: Vec<u8>,
    reads: Cell<usize>,
}

impl Memory for Tables {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() < READS, "reading does not end");
        let start = usize::try_from(address).ok()?;
        self.bytes.get(start..start.checked_add(length)?)
    }
}

impl Tables {
    fn read(&self) -> Option<Vec<u32>> {
        self.reads.set(0);
        processors(self, RSDP as u64).map(|found| found.identities().to_vec())
    }
}

/// Makes the bytes add up to zero.
fn balance(bytes: &mut [u8], place: usize) {
    bytes[place] = 0;
    bytes[place] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
}

fn table(signature: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 36];
    bytes[..4].copy_from_slice(signature);
    bytes[4..8].copy_from_slice(&(36 + contents.len() as u32).to_le_bytes());
    bytes.extend_from_slice(contents);
    balance(&mut bytes, 9);
    bytes
}

fn local(identity: u8, flags: u32) -> Vec<u8> {
    [&[0, 8, identity, identity][..], &flags.to_le_bytes()].concat()
}

fn local_x2(identity: u32, flags: u32) -> Vec<u8> {
    [&[9, 16, 0, 0][..], &identity.to_le_bytes(), &flags.to_le_bytes(), &[0; 4]].concat()
}

/// Tables with these entries of the MADT, by way of the old root table or the new.
fn tables(new: bool, entries: &[Vec<u8>]) -> Tables {
    let mut bytes = vec![0; SIZE];
    let mut rsdp = [0; 36];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[15] = if new { 2 } else { 0 };
    rsdp[16..20].copy_from_slice(&(if new { 0 } else { ROOT as u32 }).to_le_bytes());
    rsdp[24..32].copy_from_slice(&(ROOT as u64).to_le_bytes());
    balance(&mut rsdp[..20], 8);
    balance(&mut rsdp, 32);
    bytes[RSDP..RSDP + 36].copy_from_slice(&rsdp);
    // The first entry leads to a table of another kind.
    let root = if new {
        table(b"XSDT", &[ROOT as u64, MADT as u64].map(u64::to_le_bytes).concat())
    } else {
        table(b"RSDT", &[ROOT as u32, MADT as u32].map(u32::to_le_bytes).concat())
    };
    bytes[ROOT..ROOT + root.len()].copy_from_slice(&root);
    let madt = table(b"APIC", &[vec![0; 8], entries.concat()].concat());
    bytes[MADT..MADT + madt.len()].copy_from_slice(&madt);
    Tables { bytes, reads: Cell::new(0) }
}

#[test]
fn enabled_processors_are_found_in_order() {
    let entries = [
        local(0, 1),
        vec![1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
        local(2, 1),
        local(3, 0),
        local(4, 2),
        local(2, 1),
        local(255, 1),
        local_x2(300, 1),
        local_x2(301, 0),
        local_x2(u32::MAX, 1),
    ];
    for new in [false, true] {
        assert_eq!(tables(new, &entries).read(), Some(vec![0, 2, 300]));
    }
}

#[test]
fn processors_beyond_the_last_are_counted() {
    let entries: Vec<_> = (0..100).map(|identity| local(identity, 1)).collect();
    let tables = tables(true, &entries);
    let found = processors(&tables, RSDP as u64).unwrap();
    assert_eq!((found.identities().len(), found.beyond), (PROCESSORS, 100 - PROCESSORS));
}

#[test]
fn entries_that_lie_about_their_length_end_the_table() {
    for length in [0, 1, 9, 255] {
        let mut lie = local(1, 1);
        lie[1] = length;
        assert_eq!(tables(true, &[local(0, 1), lie]).read(), Some(vec![0]), "{length}");
    }
    // Too short for what it says it is, but in order: it is passed over.
    assert_eq!(tables(true, &[vec![0, 4, 1, 1], local(2, 1)]).read(), Some(vec![2]));
}

#[test]
fn tables_whose_bytes_do_not_add_up_are_not_believed() {
    for address in [RSDP + 17, ROOT + 40, MADT + 50] {
        let mut tables = tables(true, &[local(0, 1)]);
        tables.bytes[address] ^= 1;
        assert_eq!(tables.read(), None, "{address:#x}");
    }
}

#[test]
fn lengths_that_lie_are_harmless() {
    for at in [ROOT, MADT] {
        for length in [0, 1, 35, 36, 37, 44, 46, SIZE as u32, 1 << 16, u32::MAX] {
            let mut tables = tables(true, &[local(0, 1)]);
            tables.bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
            let end = (at + length as usize).min(SIZE);
            if length > 9 {
                balance(&mut tables.bytes[at..end], 9);
            }
            assert!(tables.read().is_none_or(|found| found.len() <= 1), "{at:#x} {length}");
        }
    }
}

/// A small generator: which numbers does not matter, that they are the same each time does.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn garbage_means_fewer_processors_and_nothing_worse() {
    let entries: Vec<_> = (0..8).map(|identity| local(identity, 1)).collect();
    let mut state = 1;
    for round in 0..20_000 {
        let mut tables = tables(round % 2 == 0, &entries);
        for _ in 0..1 + next(&mut state) % 4 {
            let place = [RSDP, ROOT, MADT][next(&mut state) as usize % 3];
            let offset = next(&mut state) as usize % 64;
            tables.bytes[place + offset] = next(&mut state) as u8;
        }
        // Right sums, so that what is behind them is read.
        balance(&mut tables.bytes[RSDP..RSDP + 20], 8);
        balance(&mut tables.bytes[RSDP..RSDP + 36], 32);
        for place in [ROOT, MADT] {
            let length = &tables.bytes[place + 4..place + 8];
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
            if (10..SIZE - place).contains(&length) {
                balance(&mut tables.bytes[place..place + length], 9);
            }
        }
        assert!(tables.read().is_none_or(|found| found.len() <= PROCESSORS));
    }
}
