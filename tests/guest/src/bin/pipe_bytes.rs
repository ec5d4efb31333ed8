//! Rule: what goes into a pipe comes out of it, all of it and in order, both ways.
#![no_std]
#![no_main]

use exo_user::pipe::{End, PipeError, Side};
use exo_user::{EnvName, Start, child, environment, println, time};
use guest_probes::random::Random;
use guest_probes::{peer, rule};

exo_user::program!(main);

const BYTES: usize = 1 << 20;
const ROUND_TRIPS: u64 = 20_000;
/// The most bytes of one read or write.
const CHUNK: u64 = 5000;

/// Bytes that only the seed knows, and their sum.
struct Stream {
    bytes: Random,
    sum: u64,
    left: usize,
}

impl Stream {
    fn new(seed: u64) -> Self {
        Self { bytes: Random::new(seed), sum: 1, left: BYTES }
    }

    fn add(&mut self, byte: u8) {
        self.sum = self.sum.wrapping_mul(31).wrapping_add(byte.into());
    }

    fn next(&mut self) -> u8 {
        let byte = (self.bytes.next() >> 40) as u8;
        self.add(byte);
        byte
    }
}

/// Sends what `seed` makes, in pieces of random lengths, and receives what `other_seed` makes.
fn exchange(end: &mut End, seed: u64, other_seed: u64) {
    let (mut output, mut input) = (Stream::new(seed), Stream::new(other_seed));
    let mut lengths = Random::new(seed + other_seed);
    let mut buffer = [0; CHUNK as usize];
    while output.left > 0 || input.left > 0 {
        // Less than a ring holds: both may be writing at the same time.
        let length = (1 + lengths.below(900) as usize).min(output.left);
        buffer[..length].fill_with(|| output.next());
        rule::same("a write", end.write_all(&buffer[..length], time::NEVER), Ok(()));
        output.left -= length;
        let wanted = input.left.min(length.max(1));
        let mut got = 0;
        while got < wanted {
            match end.read(&mut buffer[..(wanted - got)], time::NEVER) {
                Ok(count) if count > 0 => {
                    for &byte in &buffer[..count] {
                        rule::same("a byte", byte, input.next());
                    }
                    got += count;
                }
                other => rule::same("a read", other, Ok(1)),
            }
        }
        input.left -= got;
    }
    let sum = output.sum.to_le_bytes();
    rule::same("the sum", end.write_all(&sum, time::NEVER), Ok(()));
    let mut other_sum = [0; 8];
    for byte in &mut other_sum {
        rule::same("its bytes", end.read(core::slice::from_mut(byte), time::NEVER), Ok(1));
    }
    rule::same("the other's sum", u64::from_le_bytes(other_sum), input.sum);
}

/// One way at full speed: the ring is full or empty most of the time.
fn pour(end: &mut End) {
    let (mut stream, mut buffer) = (Stream::new(5), [0; CHUNK as usize]);
    let mut lengths = Random::new(6);
    while stream.left > 0 {
        let length = (1 + lengths.below(CHUNK - 1) as usize).min(stream.left);
        buffer[..length].fill_with(|| stream.next());
        rule::same("a write", end.write_all(&buffer[..length], time::NEVER), Ok(()));
        stream.left -= length;
    }
}

fn drain(end: &mut End) {
    let (mut stream, mut buffer) = (Stream::new(5), [0; CHUNK as usize]);
    while let Ok(count @ 1..) = end.read(&mut buffer, time::NEVER) {
        buffer[..count].iter().for_each(|&byte| rule::same("a byte", byte, stream.next()));
        stream.left -= count;
    }
    rule::same("what is left", stream.left, 0);
}

extern "sysv64" fn other(parent: u64) -> ! {
    // SAFETY: the parent has bound the page for this.
    let mut end = unsafe { End::new(peer::SHARED, Side::Second, EnvName(parent)) };
    let mut byte = [0];
    for _ in 0..ROUND_TRIPS {
        rule::same("a byte", end.read(&mut byte, time::NEVER), Ok(1));
        rule::same("its way back", end.write(&byte, time::NEVER), Ok(1));
    }
    exchange(&mut end, 3, 4);
    drain(&mut end);
    environment::exit(0)
}

extern "sysv64" fn silent(parent: u64) -> ! {
    // SAFETY: as above.
    let mut end = unsafe { End::new(peer::SHARED, Side::Second, EnvName(parent)) };
    let mut byte = [0];
    rule::same("a byte", end.read(&mut byte, time::NEVER), Ok(1));
    rule::same("another", end.read(&mut byte, time::NEVER), Ok(1));
    environment::exit(0)
}

fn main(start: &Start<'_>) -> u64 {
    peer::keep_one_slice();
    peer::bind_shared();
    // With a slice of its own it runs at the same time, on another CPU if there is one.
    let child = peer::create("other", 1, start.number("slices", 0));
    peer::share(child);
    // SAFETY: the page was bound for this.
    let mut end = unsafe { End::new(peer::SHARED, Side::First, child) };
    peer::start(child, other);
    for turn in 0..ROUND_TRIPS {
        let mut back = [0];
        rule::same("a byte", end.write(&[turn as u8], time::NEVER), Ok(1));
        rule::same("the way back", end.read(&mut back, time::NEVER), Ok(1));
        rule::same("the byte", back[0], turn as u8);
    }
    exchange(&mut end, 4, 3);
    pour(&mut end);
    end.close();
    peer::join(child);

    let child = peer::create("silent", 2, 1);
    guest_probes::ground::bound(peer::SHARED, guest_probes::ground::DATA);
    peer::share(child);
    // SAFETY: as above.
    let mut end = unsafe { End::new(peer::SHARED, Side::First, child) };
    peer::start(child, silent);
    rule::same("a byte", end.write(&[1], time::NEVER), Ok(1));
    let until = time::now() + 3 * time::MILLISECOND;
    rule::same("silence", end.read(&mut [0], until), Err(PipeError::Deadline));
    rule::same("a last byte", end.write(&[2], time::NEVER), Ok(1));
    rule::same("the end", end.read(&mut [0], time::NEVER), Err(PipeError::Ended));
    child::remove(child);
    println!("{BYTES} bytes each way");
    0
}
