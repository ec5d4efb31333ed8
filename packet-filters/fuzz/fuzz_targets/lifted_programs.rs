//! Classic BPF made of the bytes: what is lifted of it matches what it accepts, or more where there
//! is a residual; the residual accepts the same; and libpcap, where it is installed, says so too.
#![no_main]

use std::sync::LazyLock;

use ebpf_tools::native::{Executable, compile};
use ebpf_tools::profile::RESIDUAL;
use filter_language::{show, witness};
use filter_tools::classic::{Instruction, Program};
use filter_tools::libpcap::Libpcap;
use filter_tools::lift::{Lifted, lift};
use filter_tools::residual::translate;
use libfuzzer_sys::fuzz_target;
use packet_filters::ebpf::{Activation, Workspace, verify};

static LIBPCAP: LazyLock<Option<Libpcap>> = LazyLock::new(|| Libpcap::load().ok());

const MOST: usize = 28;
/// What operands often are: places of headers, masks, shifts, values that meet them.
#[rustfmt::skip]
const OPERANDS: [u32; 24] = [
    0, 1, 2, 3, 4, 5, 6, 12, 14, 15, 16, 17, 20, 23, 26, 31, 32, 0x3c, 0x50, 0xf0, 0xff, 0x0800,
    0xffff, 0xffff_fffc,
];

/// The bytes that decide; zero behind the last.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.next()) % choices.len()]
    }

    fn operand(&mut self) -> u32 {
        let place = usize::from(self.next());
        OPERANDS.get(place).copied().unwrap_or(place as u32 % 64)
    }

    /// One instruction; `left` come behind it.
    fn instruction(&mut self, left: usize) -> Instruction {
        let code: u16 = match self.next() % 16 {
            0..4 => self.of(&[0x20, 0x28, 0x30]),
            4 => self.of(&[0xb1, 0xb1, 0x80, 0x81]),
            5 => self.of(&[0x40, 0x48, 0x50]),
            6 | 7 => {
                let operation =
                    self.of(&[0x50, 0x50, 0x60, 0x70, 0, 0x10, 0x20, 0x30, 0x90, 0xa0, 0x40, 0x80]);
                0x04 | operation | self.of(&[0, 0, 0, 8])
            }
            8..12 => 0x05 | self.of(&[0x10, 0x10, 0x20, 0x30, 0x40]) | self.of(&[0, 0, 0, 0, 0, 8]),
            12 => self.of(&[0x05, 0x00, 0x01]),
            13 => self.of(&[0x07, 0x87, 0x07, 0x02, 0x03, 0x60, 0x61]),
            14 => self.of(&[0x06, 0x06, 0x16]),
            _ => u16::from(self.next()),
        };
        let mut skip = || if left > 1 { self.next() % left.min(8) as u8 } else { 0 };
        let (jt, jf) = if code & 7 == 5 { (skip(), skip()) } else { (0, 0) };
        let k = match code {
            0x05 if left > 1 => u32::from(self.next()) % left as u32,
            0x02 | 0x03 | 0x60 | 0x61 => u32::from(self.next() % 4),
            _ => self.operand(),
        };
        Instruction { code, jt, jf, k }
    }

    fn program(&mut self) -> Option<Program> {
        let count = usize::from(self.next()) % MOST;
        let mut instructions: Vec<_> = (0..count).map(|at| self.instruction(count - at)).collect();
        instructions.push(Instruction { code: 0x06, jt: 0, jf: 0, k: u32::from(self.next() & 1) });
        Program::new(instructions).ok()
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let Some(program) = choices.program() else { return };
    assert_eq!(Program::parse(&program.to_string()).expect("what was printed"), program);
    let lifted = lift(&program);
    let bytecode = translate(&program);
    let mut workspace = Box::new(Workspace::new());
    let mut verified = verify(&bytecode, &RESIDUAL, &mut workspace).expect("a residual");
    let residual = Executable::new(&compile(&mut verified)).expect("memory");
    // What is in memory before something is stored there, libpcap leaves open.
    let remembers = program.instructions().iter().any(|i| [0x60, 0x61].contains(&i.code));
    let libpcap = LIBPCAP.filter(|_| !remembers);
    let oracle = libpcap.map(|libpcap| libpcap.interpreter(&program).expect("libpcap"));
    for packet in packets(&lifted, choices).into_iter().filter(|packet| packet.len() >= 14) {
        let accepted = program.accepts(&packet);
        let show = || format!("{packet:02x?}\n{program}{}{:#?}", filters(&lifted), lifted.residual);
        if let Some(oracle) = &oracle {
            assert_eq!(accepted, oracle.accepts(&packet), "libpcap: {}", show());
        }
        let mut activation = Activation::new(0, [0; 5], std::ptr::null(), std::ptr::null_mut());
        activation.set_region(0, packet.as_ptr().cast_mut(), packet.len() as u64);
        // SAFETY: the region is read only, and there are no helpers.
        let value = unsafe { residual.run(&mut activation) };
        assert_eq!(value.unwrap_or(0) != 0, accepted, "the residual: {}", show());
        let matched = lifted.filters.iter().any(|filter| filter.matches(&packet));
        // A packet that ends within a load may match, as long as the bytes that are missing are such
        // as a mask leaves out.
        let cut = || (1..4).any(|more| program.accepts(&[&packet[..], &[0; 4][..more]].concat()));
        let exact = lifted.residual.is_empty();
        assert!(matched == accepted || matched && (!exact || cut()), "the filters: {}", show());
    }
});

fn filters(lifted: &Lifted) -> String {
    lifted.filters.iter().map(|filter| show(filter).to_string() + "\n").collect()
}

/// A packet of the bytes that are left, cut at every place, and one that shows each filter, as it
/// is, cut, and with a byte changed.
fn packets(lifted: &Lifted, mut choices: Choices<'_>) -> Vec<Vec<u8>> {
    let (change, value) = (usize::from(choices.next()), choices.next());
    let rest = &choices.0[..choices.0.len().min(96)];
    let mut packets: Vec<Vec<u8>> = (0..=rest.len()).map(|end| rest[..end].to_vec()).collect();
    for filter in lifted.filters.iter().take(6) {
        let mut packet = vec![0; 8192];
        let Some(length) = witness(filter, filter, &mut packet) else { continue };
        packet.truncate(length);
        packets.push(packet[..length.saturating_sub(1)].to_vec());
        packets.push([&packet, rest].concat());
        let mut changed = [&packet, rest].concat();
        if !changed.is_empty() {
            let at = change % changed.len();
            changed[at] ^= value;
        }
        packets.extend([packet, changed]);
    }
    packets
}
