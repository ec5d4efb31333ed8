//! The receive ring against producers that keep to the protocol, and against others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use exo_user::abi::ring::{CONSUMED, Descriptor, HEADER_WORDS, PRODUCED, SLOT_SIZE};
use libos_net::ring::Ring;
use proptest::prelude::*;

const SLOTS: u64 = 8;

/// The kernel's side of a ring, and the memory of both.
struct Producer {
    header: &'static [AtomicU64],
    packets: *mut u8,
    produced: u64,
}

impl Producer {
    /// A producer that has counted to `start`. The memory is never freed: the ring may be anywhere.
    fn new(start: u64) -> (Self, Ring) {
        let header: Vec<AtomicU64> =
            (0..HEADER_WORDS as u64 + SLOTS).map(|_| AtomicU64::new(0)).collect();
        let header: &'static [AtomicU64] = header.leak();
        let packets = vec![0u8; (SLOTS * SLOT_SIZE) as usize].leak().as_mut_ptr();
        header[PRODUCED].store(start, Ordering::Relaxed);
        // SAFETY: the memory is there for ever, and `put` writes as the kernel would.
        let ring = unsafe { Ring::new(header, packets, SLOTS) };
        (Self { header, packets, produced: start }, ring)
    }

    fn put(&mut self, filter: u32, bytes: &[u8]) -> bool {
        let consumed = self.header[CONSUMED].load(Ordering::Acquire);
        if self.produced.wrapping_sub(consumed) >= SLOTS {
            return false;
        }
        let slot = self.produced % SLOTS;
        // SAFETY: the slot is inside the memory, and the ring has released it.
        unsafe {
            let place = self.packets.add((slot * SLOT_SIZE) as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
        }
        self.describe(slot, Descriptor { length: bytes.len() as u16, filter }.to_word());
        self.publish(self.produced.wrapping_add(1));
        true
    }

    fn describe(&self, slot: u64, word: u64) {
        self.header[HEADER_WORDS + slot as usize].store(word, Ordering::Relaxed);
    }

    fn publish(&mut self, produced: u64) {
        self.produced = produced;
        self.header[PRODUCED].store(produced, Ordering::Release);
    }
}

proptest! {
    #[test]
    fn packets_come_out_as_they_went_in(
        steps in prop::collection::vec((any::<bool>(), 1..1514usize, any::<u32>()), 1..200),
        start in prop::sample::select(vec![0, 5, u64::MAX - 7]),
    ) {
        let (mut producer, mut ring) = Producer::new(start);
        let mut expected = VecDeque::new();
        for (put, length, filter) in steps {
            if put {
                let bytes = vec![length as u8; length];
                let full = expected.len() as u64 == SLOTS;
                prop_assert_eq!(producer.put(filter, &bytes), !full);
                if !full {
                    expected.push_back((filter, bytes));
                }
            } else {
                let arrival = ring.peek().map(|arrival| (arrival.filter.0, arrival.frame.to_vec()));
                prop_assert_eq!(arrival, expected.pop_front());
                ring.release();
            }
        }
        prop_assert_eq!(ring.skipped(), 0);
    }

    #[test]
    fn a_producer_that_lies_harms_nothing(
        steps in prop::collection::vec((0..3u8, any::<u64>(), any::<u64>()), 1..200),
    ) {
        let (mut producer, mut ring) = Producer::new(0);
        for (step, number, word) in steps {
            match step {
                0 => producer.publish(number),
                1 => producer.describe(number % SLOTS, word),
                _ => {
                    let near = producer.produced.wrapping_add(number % (2 * SLOTS));
                    producer.publish(near);
                }
            }
            // Whatever it says: a bounded number of packets, and none longer than its slot.
            let mut seen = 0;
            while let Some(arrival) = ring.peek() {
                prop_assert!(!arrival.frame.is_empty());
                prop_assert!(arrival.frame.len() as u64 <= SLOT_SIZE);
                ring.release();
                seen += 1;
                prop_assert!(seen <= SLOTS);
            }
        }
        // And afterwards the ring works with whoever behaves.
        while ring.peek().is_some() {
            ring.release();
        }
        prop_assert!(producer.put(7, b"frame"));
        prop_assert_eq!(ring.peek().map(|arrival| arrival.filter.0), Some(7));
    }
}

#[test]
fn releasing_nothing_does_nothing() {
    let (mut producer, mut ring) = Producer::new(0);
    ring.release();
    assert!(producer.put(1, b"one"));
    assert_eq!(ring.peek().unwrap().frame, b"one");
    assert_eq!(ring.peek().unwrap().frame, b"one", "looking does not take");
    ring.release();
    ring.release();
    assert!(ring.peek().is_none());
}
