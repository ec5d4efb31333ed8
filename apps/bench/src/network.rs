//! Echoes: by the program, and by its handler at arrival. The host sends packets, each when it has the
//! echo of the one before, and a short one at last.

use crate::measurement::Measurement;
use crate::memory::Pages;
use crate::{mark, peer};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use libos_posix::exo_user::abi::name::PAGE_SIZE;
use libos_posix::exo_user::abi::ring::{
    CONSUMED, Descriptor, HEADER_WORDS, PRODUCED, SLOT_SIZE, SLOTS, SLOTS_PER_FRAME,
};
use libos_posix::exo_user::abi::upcall::Event;
use libos_posix::exo_user::packet::{self, Packet};
use libos_posix::exo_user::{
    Error, capability, control, environment, filter, handler, layout, ring, tables,
};

/// How many packets the host sends.
const PACKETS: u64 = 200;
/// Those that are shorter than this are no echoes.
const SHORTEST: usize = 60;
/// The pages of the ring's slots; the header is before them, the handler's page behind.
const FRAMES: u64 = 4;

/// UDP to port 4030 over IPv4, not fragmented, as bytes.
#[rustfmt::skip]
const FILTER: [u8; 36] = [
    1, 5,
    2, 0, 12, 0xff, 0xff, 0x08, 0x00,
    2, 0, 20, 0x1f, 0xff, 0x00, 0x00,
    1, 0, 23, 0xff, 17,
    0x10, 0, 14, 0x0f, 2,
    2, 0, 16, 0xff, 0xff, 4030_u16.to_be_bytes()[0], 4030_u16.to_be_bytes()[1],
    0, 0, 0,
];
/// Its bytes; what is behind them fills the array.
const FILTER_LENGTH: usize = 33;

/// The program does it, which looks at nothing else: it exchanges addresses and ports in the ring, and
/// sends from there.
pub(crate) fn echo_user(measurement: &mut Measurement) -> Result<(), Error> {
    Echo::new()?.measure(measurement)
}

/// Its handler does the same, and passes the last packet on.
pub(crate) fn handler_echo(measurement: &mut Measurement) -> Result<(), Error> {
    Echo::new()?.with_handler()?.measure(measurement)
}

/// As [`echo_user`], but the program sleeps until a packet comes, and another has the processor.
pub(crate) fn echo_asleep(measurement: &mut Measurement) -> Result<(), Error> {
    Echo::new()?.beside_another()?.measure(measurement)
}

/// As [`handler_echo`], with the owner asleep, and another that has the processor.
pub(crate) fn handler_asleep(measurement: &mut Measurement) -> Result<(), Error> {
    Echo::new()?.with_handler()?.beside_another()?.measure(measurement)
}

/// A ring for the packets.
struct Echo {
    pages: Pages,
    ring: u32,
    sleeps: bool,
}

impl Echo {
    fn new() -> Result<Self, Error> {
        let pages = Pages::touched(2 + FRAMES)?;
        // SAFETY: what is in the pages is read as atomics, or by address.
        let ring = unsafe { ring::create(&pages.frames[..1 + FRAMES as usize])? };
        filter::install(&FILTER[..FILTER_LENGTH], ring)?;
        Ok(Self { pages, ring, sleeps: false })
    }

    /// Gives the ring the handler that echoes.
    fn with_handler(self) -> Result<Self, Error> {
        let program = handler();
        let state = self.pages.frames[1 + FRAMES as usize];
        // SAFETY: nothing refers to the page.
        unsafe { handler::install(self.ring, capability::NETWORK, program.as_flattened(), state)? };
        Ok(self)
    }

    /// Waits for packets asleep, once the other program runs.
    fn beside_another(self) -> Result<Self, Error> {
        peer::find()?;
        Ok(Self { sleeps: true, ..self })
    }

    /// Counts everything from the message that packets may come to the last of them, and ends the ring.
    fn measure(self, measurement: &mut Measurement) -> Result<(), Error> {
        let mut ready = Ok(());
        measurement.marked(|| {
            mark::begin();
            ready = self.ready();
            while ready.is_ok() && !self.answer() {
                self.wait();
            }
            mark::end();
            PACKETS
        });
        ready.and(ring::destroy(self.ring))
    }

    /// Lets the host know that packets may come.
    fn ready(&self) -> Result<(), Error> {
        let [a, b, c, d, e, f, _, _] = tables::system().link_address.to_le_bytes();
        let mut frame = [0; SHORTEST];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&[a, b, c, d, e, f]);
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = 17;
        frame[34..36].copy_from_slice(&4030_u16.to_be_bytes());
        packet::send(&[Packet::new(&frame)], capability::NETWORK).map(|_| ())
    }

    /// Waits until a packet is in the ring. Without another program not asleep: how often an idle CPU
    /// ticks depends on how long the host takes.
    fn wait(&self) {
        if self.sleeps {
            control::take(Event::Packet);
            let consumed = self.word(CONSUMED).load(Ordering::Relaxed);
            if self.word(PRODUCED).load(Ordering::Acquire) == consumed {
                environment::sleep(u64::MAX);
            }
            return;
        }
        mark::wait_until(self.word(PRODUCED), self.word(CONSUMED).load(Ordering::Relaxed) + 1);
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        // SAFETY: the header page is bound there for as long as the ring is.
        unsafe { &*(layout::FREE.start as *const AtomicU64).add(word) }
    }

    /// Answers what is in the ring; whether the last packet has come.
    fn answer(&self) -> bool {
        let produced = self.word(PRODUCED).load(Ordering::Acquire);
        let consumed = self.word(CONSUMED).load(Ordering::Relaxed);
        let mut last = false;
        for number in consumed..produced {
            let slot = number % (FRAMES * SLOTS_PER_FRAME);
            let word = self.word(HEADER_WORDS + slot as usize).load(Ordering::Relaxed);
            let length = Descriptor::from_word(word).length.into();
            let start = layout::FREE.start + PAGE_SIZE + slot * SLOT_SIZE;
            // SAFETY: the slot is bound there, and the kernel writes it again when it is consumed.
            let bytes = unsafe { core::slice::from_raw_parts_mut(start as *mut u8, length) };
            last |= length < SHORTEST;
            if length >= SHORTEST {
                exchange(bytes);
                // One that can't be sent is missed by the host.
                let _ = packet::send(&[Packet::new(bytes)], capability::NETWORK);
            }
        }
        self.word(CONSUMED).store(produced, Ordering::Release);
        last
    }
}

const _: () = assert!(SLOTS < HEADER_WORDS);

/// Exchanges addresses and ports, and leaves the checksum out.
fn exchange(frame: &mut [u8]) {
    let mut swap = |a: usize, b: usize, length: usize| {
        for byte in 0..length {
            frame.swap(a + byte, b + byte);
        }
    };
    swap(0, 6, 6);
    swap(26, 30, 4);
    swap(34, 36, 2);
    frame[40..42].fill(0);
}

/// The handler, in eBPF: one that is too short is passed on.
fn handler() -> Vec<[u8; 8]> {
    const fn slot(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
        let [o0, o1] = offset.to_le_bytes();
        let [i0, i1, i2, i3] = immediate.to_le_bytes();
        [code, from << 4 | to, o0, o1, i0, i1, i2, i3]
    }
    let mut program = Vec::from([
        slot(0xb7, 0, 0, 0, 0),                // r0 = 0
        slot(0xa5, 2, 0, 23, SHORTEST as i32), // if r2 < 60, to the exit
        slot(0xbf, 6, 2, 0, 0),                // r6 = the length
        slot(0xbf, 7, 4, 0, 0),                // r7 = the reply
        slot(0x85, 0, 0, 0, 1),                // take(packet, length)
    ]);
    // Loads and stores of four bytes, and of two.
    for (load, store, pairs) in
        [(0x61, 0x63, &[(0, 6), (26, 30)][..]), (0x69, 0x6b, &[(4, 10), (34, 36)][..])]
    {
        for (a, b) in pairs {
            program.extend([
                slot(load, 2, 7, *a, 0),
                slot(load, 3, 7, *b, 0),
                slot(store, 7, 3, *a, 0),
                slot(store, 7, 2, *b, 0),
            ]);
        }
    }
    program.extend([
        slot(0x6a, 7, 0, 40, 0), // no checksum
        slot(0xbf, 1, 6, 0, 0),
        slot(0x85, 0, 0, 0, 3), // reply(length)
        slot(0x27, 0, 0, 0, 3), // 3 if it was sent: keep it, and be quiet
        slot(0x95, 0, 0, 0, 0),
    ]);
    program
}

/// The benches of this file.
pub(crate) const BENCHES: &[crate::Bench] = &[
    ("echo_user", echo_user),
    ("handler_echo", handler_echo),
    ("echo_asleep", echo_asleep),
    ("handler_asleep", handler_asleep),
];
