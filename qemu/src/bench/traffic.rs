//! The packets that benches of the network want.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::wire::Wire;

/// The port of the guest's program, and how many packets it wants (`apps/bench/src/network.rs`).
const PORT: u16 = 4030;
const PACKETS: usize = 200;
/// The addresses of the guest's network card and of this end.
const GUEST: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];
const LENGTH: usize = 100;
/// The length of the last packet, which is no echo.
const LAST: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends packets when the guest says that it is ready, each this long after the echo of the one before
/// has come, and the last, which has none.
///
/// # Errors
/// An echo does not come, or is another packet.
pub fn echoes(wire: &Wire, pause: Duration) -> Result<()> {
    let own =
        |frame: &[u8]| frame.get(23) == Some(&17) && frame.get(34..36) == Some(&PORT.to_be_bytes());
    wire.recv_until(PATIENCE, own)?.context("the guest is not ready for packets")?;
    for number in 0..PACKETS {
        thread::sleep(pause);
        wire.send(&datagram(LENGTH))?;
        let echo = wire.recv_until(PATIENCE, own)?;
        let echo = echo.with_context(|| format!("packet {number} has no echo"))?;
        ensure!(echo.len() == LENGTH && echo[..6] == HOST, "packet {number} is echoed wrongly");
    }
    wire.send(&datagram(LAST))
}

/// A datagram of UDP over IPv4.
fn datagram(length: usize) -> Vec<u8> {
    let mut frame = vec![0; length];
    frame[..6].copy_from_slice(&GUEST);
    frame[6..12].copy_from_slice(&HOST);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[16..18].copy_from_slice(&(length as u16 - 14).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[34..38].copy_from_slice(&[0x30, 0x39, PORT.to_be_bytes()[0], PORT.to_be_bytes()[1]]);
    frame[38..40].copy_from_slice(&(length as u16 - 34).to_be_bytes());
    frame
}
