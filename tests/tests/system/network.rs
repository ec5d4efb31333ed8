//! Frames that nobody should send.

use std::time::Duration;

use anyhow::{Context, Result};
use system_tests::{Guest, Wire, http};

/// Ethernet addresses in front of a frame: to everybody, from nobody in particular.
const TO_ALL: [u8; 12] = [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];

/// Numbers without a pattern, the same in every run: xorshift, Marsaglia 2003.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A request for the address of the guest, or of somebody who is not there.
fn arp_request(target: [u8; 4]) -> Vec<u8> {
    let mut frame = [&TO_ALL[..], &ARP, &[0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 9, 10, 0, 2, 99, 0, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(&target);
    frame.resize(60, 0);
    frame
}

/// A frame that looks like the start of a connection to the web server.
fn segment(link_address: &[u8]) -> Vec<u8> {
    let mut frame = [link_address, &[2, 0, 0, 0, 0, 9], &IPV4].concat();
    frame.extend_from_slice(&[0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 2, 99, 10, 0, 2, 15]);
    frame
        .extend_from_slice(&[0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0]);
    frame
}

/// Asks for the guest's link address, as any neighbour would.
fn link_address(wire: &Wire) -> Result<Vec<u8>> {
    wire.send(&arp_request([10, 0, 2, 15]))?;
    let is_reply =
        |frame: &[u8]| frame.get(12..14) == Some(&ARP) && frame.get(20..22) == Some(&[0, 2]);
    let reply = wire.recv_until(Duration::from_secs(20), is_reply)?;
    Ok(reply.context("no answer to an ARP request")?[6..12].to_vec())
}

#[test]
fn garbage_and_truncated_frames_change_nothing() -> Result<()> {
    let wire = Wire::new()?;
    let guest = Guest::with(["web", "pages"])
        .args("pages", "policy=clock pages=1024 passes=1000000")
        .wire(&wire)
        .linger()
        .boot()?;
    guest.wait_for("serving http://")?;
    let address = guest.address(80)?;
    let link = link_address(&wire)?;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let whole = [arp_request([10, 0, 2, 15]), segment(&link)];
    for round in 0..20 {
        for frame in &whole {
            for length in 1..=frame.len() {
                wire.send(&frame[..length])?;
            }
            let mut mutated = frame.clone();
            for _ in 0..50 {
                let place = numbers.below(mutated.len());
                mutated[place] = numbers.next() as u8;
                wire.send(&mutated)?;
            }
        }
        let longest = [1, 13, 14, 60, 1514, 1515, 4000][numbers.below(7)];
        let mut noise = [&TO_ALL[..], &IPV4].concat();
        noise.resize_with(longest, || numbers.next() as u8);
        wire.send(&noise)?;
        assert_eq!(http::get(address, "/")?.status, 200, "after round {round}");
    }
    assert_eq!(link_address(&wire)?, link);
    assert!(!guest.lines().iter().any(|line| line.contains("was killed")));
    guest.stop()?;
    Ok(())
}

#[test]
fn a_neighbour_who_is_not_asked_for_gets_no_answer() -> Result<()> {
    let wire = Wire::new()?;
    let guest = Guest::with(["web"]).wire(&wire).linger().boot()?;
    guest.wait_for("serving http://")?;
    wire.send(&arp_request([10, 0, 2, 77]))?;
    let link = link_address(&wire)?;
    // The answer to the second question has come, so one to the first would have, too.
    let from_guest = |frame: &[u8]| frame.get(6..12) == Some(&link[..]);
    assert_eq!(wire.recv_until(Duration::from_millis(1), from_guest)?, None);
    guest.stop()?;
    Ok(())
}
