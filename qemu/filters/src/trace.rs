//! Packets that are generated, the same in every run.

/// A sequence of numbers that look random (xorshift, Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Sequence(u64);

impl Sequence {
    /// The sequence of a seed, which is not zero.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What an Ethernet frame of 60 bytes says, with IPv4 and TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// From this address,
    pub source: [u8; 4],
    /// to this one,
    pub destination: [u8; 4],
    /// from this port,
    pub source_port: u16,
    /// to this one.
    pub destination_port: u16,
}

impl Segment {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.source);
        frame.extend(self.destination);
        frame.extend(self.source_port.to_be_bytes());
        frame.extend(self.destination_port.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10]);
        frame.resize(60, 0);
        frame
    }
}

const ADDRESSES: [[u8; 4]; 5] =
    [[10, 0, 2, 15], [10, 0, 2, 2], [10, 1, 9, 9], [192, 168, 1, 7], [224, 0, 0, 251]];
const PORTS: [u16; 8] = [22, 53, 80, 443, 1023, 1024, 5353, 8080];
const ADDRESSES_6: [[u8; 16]; 3] = [
    [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xff, 0xfe, 0, 0, 1],
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb],
];

/// A packet of some protocol that expressions ask for, not always well-formed.
#[must_use]
pub fn packet(sequence: &mut Sequence) -> Vec<u8> {
    let mut frame = Vec::new();
    let group = sequence.pick(&[2u8, 2, 1, 0xff]);
    frame.extend(if group == 0xff { [0xff; 6] } else { [group, 0, 0, 0, 0, 1] });
    frame.extend([2, 0, 0, 0, 0, sequence.pick(&[2u8, 3])]);
    if sequence.below(8) == 0 {
        frame.extend([0x81, 0, 0, sequence.pick(&[5u8, 7])]);
    }
    match sequence.below(8) {
        0 => arp(sequence, &mut frame),
        1 | 2 => ipv6(sequence, &mut frame),
        3 => {
            frame.extend(sequence.pick(&[[0x88, 0x64], [0x88, 0x47], [0, 40], [0x86, 0xde]]));
            noise(sequence, &mut frame, 50);
        }
        _ => ipv4(sequence, &mut frame),
    }
    if frame.len() < 60 {
        frame.resize(60, 0);
    }
    if sequence.below(6) == 0 {
        let at = sequence.below(frame.len() as u64) as usize;
        frame[at] ^= 1 << sequence.below(8);
    }
    frame
}

fn noise(sequence: &mut Sequence, frame: &mut Vec<u8>, count: u64) {
    for _ in 0..sequence.below(count + 1) {
        frame.push(sequence.below(256) as u8);
    }
}

fn arp(sequence: &mut Sequence, frame: &mut Vec<u8>) {
    frame.extend(sequence.pick(&[[8, 6], [8, 6], [0x80, 0x35]]));
    frame.extend([0, 1, 8, 0, 6, 4, 0, sequence.pick(&[1u8, 2])]);
    frame.extend([2, 0, 0, 0, 0, 2]);
    frame.extend(sequence.pick(&ADDRESSES));
    frame.extend([0; 6]);
    frame.extend(sequence.pick(&ADDRESSES));
}

fn ipv4(sequence: &mut Sequence, frame: &mut Vec<u8>) {
    let words = sequence.pick(&[5u8, 5, 5, 6, 15]);
    let fragment = sequence.pick(&[[0x40, 0], [0, 0], [0x20, 0], [0x20, 7], [0, 9]]);
    let protocol = sequence.pick(&[6u8, 6, 17, 17, 1, 2, 47, 89, 132]);
    frame.extend([8, 0, 0x40 | words, sequence.pick(&[0u8, 0xb8]), 0]);
    frame.push(sequence.pick(&[40u8, 60, 120]));
    frame.extend([0, 1]);
    frame.extend(fragment);
    frame.extend([sequence.pick(&[1u8, 64, 255]), protocol, 0, 0]);
    frame.extend(sequence.pick(&ADDRESSES));
    frame.extend(sequence.pick(&ADDRESSES));
    for _ in 5..words {
        frame.extend([1, 1, 1, 0]);
    }
    transport(sequence, frame, protocol);
}

fn ipv6(sequence: &mut Sequence, frame: &mut Vec<u8>) {
    let next = sequence.pick(&[6u8, 6, 17, 17, 58, 44, 0]);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, next, 64]);
    frame.extend(sequence.pick(&ADDRESSES_6));
    frame.extend(sequence.pick(&ADDRESSES_6));
    if next == 44 {
        frame.extend([sequence.pick(&[6u8, 17]), 0, 0, 0, 0, 0, 0, 1]);
    }
    transport(sequence, frame, next);
}

fn transport(sequence: &mut Sequence, frame: &mut Vec<u8>, protocol: u8) {
    if protocol == 1 || protocol == 58 {
        frame.extend([sequence.pick(&[0u8, 8, 3, 128, 135]), 0, 0, 0, 0, 1]);
    } else {
        frame.extend(sequence.pick(&PORTS).to_be_bytes());
        frame.extend(sequence.pick(&PORTS).to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        let offset = sequence.pick(&[0x50u8, 0x80]);
        frame.extend([offset, sequence.pick(&[0x02u8, 0x10, 0x12, 0x18, 0x11, 0x04]), 1, 0]);
        frame.extend([0; 4]);
        if offset == 0x80 {
            frame.extend([1; 12]);
        }
        frame.extend(sequence.pick(&[*b"GET /", *b"HTTP/", [0; 5]]));
    }
    noise(sequence, frame, 90);
}
