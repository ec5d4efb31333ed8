//! A kernel of a few dozen instructions, made here byte by byte: it counts, prints, and ends or
//! hangs. `doctor` boots it to learn whether an accelerator is any good, and the tests of this
//! crate boot it to see the console, the verdict and the deadlines work without the real kernel.

use exo_abi::boot::{VERDICT_BASE, VERDICT_PORT};

/// What the stub does, in this order.
#[derive(Clone, Debug, Default)]
pub struct Stub {
    /// Counts down from here first. A processor does a hundred million in well under a second.
    pub count: u32,
    /// Prints this to the serial port.
    pub text: String,
    /// Then waits until this byte comes in on the serial port.
    pub wait_for: Option<u8>,
    /// Ends with this code, or hangs.
    pub code: Option<u8>,
}

/// Where the stub is loaded: the first address above the holes of the first megabyte.
const ADDRESS: u32 = 0x10_0000;
/// Where its code starts in the file and how far above [`ADDRESS`] in memory.
const CODE: usize = 0x1000;
/// Where its PVH note starts in the file.
const NOTE: usize = 0x200;
/// The type of the note that holds the 32-bit entry point.
const PVH_ENTRY: u32 = 18;
const SERIAL: u16 = 0x3f8;

impl Stub {
    /// The stub as an ELF file that QEMU's `-kernel` starts through its PVH note.
    #[must_use]
    pub fn elf(&self) -> Vec<u8> {
        let code = self.code();
        let entry = ADDRESS + 0x1000;
        let mut note = Vec::new();
        for word in [4, 4, PVH_ENTRY] {
            note.extend_from_slice(&u32::to_le_bytes(word));
        }
        note.extend_from_slice(b"Xen\0");
        note.extend_from_slice(&entry.to_le_bytes());

        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        for half in [2_u16, 62] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        file.extend_from_slice(&1_u32.to_le_bytes());
        for long in [u64::from(entry), 64, 0] {
            file.extend_from_slice(&long.to_le_bytes());
        }
        file.extend_from_slice(&0_u32.to_le_bytes());
        for half in [64_u16, 56, 2, 0, 0, 0] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        program_header(&mut file, 1, 5, CODE, u64::from(entry), code.len());
        program_header(&mut file, 4, 4, NOTE, 0, note.len());
        file.resize(NOTE, 0);
        file.extend_from_slice(&note);
        file.resize(CODE, 0);
        file.extend_from_slice(&code);
        file
    }

    /// 32-bit code, as PVH starts it.
    fn code(&self) -> Vec<u8> {
        let mut code = Vec::new();
        // mov ecx, count; dec ecx; jns -3
        code.push(0xb9);
        code.extend_from_slice(&self.count.to_le_bytes());
        code.extend_from_slice(&[0x49, 0x79, 0xfd]);
        for byte in self.text.bytes() {
            output(&mut code, SERIAL, byte);
        }
        if let Some(byte) = self.wait_for {
            // mov dx, line status; in al, dx; test al, 1; jz -5
            code.extend_from_slice(&[0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb]);
            // mov dx, data; in al, dx; cmp al, byte; jne to the start of the wait
            code.extend_from_slice(&[0x66, 0xba, 0xf8, 0x03, 0xec, 0x3c, byte, 0x75, 0xee]);
        }
        if let Some(value) = self.code {
            output(&mut code, VERDICT_PORT, (value & 0x3f) + VERDICT_BASE);
        }
        // cli; hlt; jmp -3
        code.extend_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
        code
    }
}

/// Appends `mov dx, port; mov al, value; out dx, al`.
fn output(code: &mut Vec<u8>, port: u16, value: u8) {
    code.extend_from_slice(&[0x66, 0xba]);
    code.extend_from_slice(&port.to_le_bytes());
    code.extend_from_slice(&[0xb0, value, 0xee]);
}

fn program_header(
    file: &mut Vec<u8>,
    kind: u32,
    flags: u32,
    offset: usize,
    address: u64,
    size: usize,
) {
    file.extend_from_slice(&kind.to_le_bytes());
    file.extend_from_slice(&flags.to_le_bytes());
    for long in [offset as u64, address, address, size as u64, size as u64, 4] {
        file.extend_from_slice(&long.to_le_bytes());
    }
}
