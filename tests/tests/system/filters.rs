//! Filters that come and go while packets do.

use std::time::Duration;

use anyhow::{Context, Result};
use qemu::manifest::Port;
use qemu::verdict::Verdict;
use system_tests::{Guest, Wire};

/// The ports of the program whose packets are counted (`tests/guest/src/bin/filter_many.rs`), and the
/// one that the shell leads elsewhere.
const OTHER: u16 = 4020;
const LED: u16 = 7;

/// A datagram of 60 bytes to a port from another.
fn datagram(port: u16, source: u16) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..12].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9]);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[16..18].copy_from_slice(&46_u16.to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[34..36].copy_from_slice(&source.to_be_bytes());
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame[38..40].copy_from_slice(&26_u16.to_be_bytes());
    frame
}

#[test]
fn filters_come_and_go_live_and_others_lose_nothing() -> Result<()> {
    let wire = Wire::new()?;
    let guest = Guest::with(["filter_many", "filter_sink", "shell"])
        .args("filter_many", "port=4020")
        .contract("filter_sink", |program| program.service = true)
        .wire(&wire)
        .boot()?;
    guest.wait_for("type help for the commands")?;
    guest.wait_for("[filter_sink] ready")?;
    guest.wait_for("[filter_many] ready")?;
    let theirs = |frame: &[u8]| {
        frame.get(23) == Some(&17) && frame.get(34..36) == Some(&OTHER.to_be_bytes())
    };
    let mut led = 0;
    for burst in 0..25_u16 {
        let (number, adds) = (usize::from(burst / 2), burst % 2 == 0);
        // The filter comes, or goes, in the middle of a burst of packets of somebody else.
        guest.type_line(&if adds {
            "filter add 'udp port 7' --to filter_sink".to_owned()
        } else {
            format!("filter remove {}", last_filter(&guest)?)
        })?;
        let send = |packets: std::ops::Range<u16>| {
            let frames = packets.map(|packet| datagram(OTHER, 10_000 + packet * 37 % 5_000));
            frames.map(|frame| wire.send(&frame)).collect::<Result<Vec<_>>>()
        };
        let first = burst * 20;
        send(first..first + 10)?;
        if !adds {
            guest.wait_for_times(" is gone: 8 matches, 0 dropped", number + 1)?;
            send_led(&wire)?;
        }
        send(first + 10..first + 20)?;
        // It answers when it has had all of them; packets stay in order.
        wire.recv_until(Duration::from_secs(20), theirs)?.context("a burst was lost")?;
        if adds {
            guest.wait_for_times(" goes to ring", number + 1)?;
            send_led(&wire)?;
            led += 8;
            guest.wait_for(&format!("[filter_sink] got {led}"))?;
            if burst == 0 {
                refuse_overlaps(&guest)?;
            }
        }
    }
    guest.type_line("filter list")?;
    guest.wait_for("20:2&0x1fff=0x0000")?;
    for (typed, answer) in [
        ("filter add 'udp port 4020' --to filter_sink", "filter_sink: "),
        ("filter add 'udp harbour 7' --to filter_sink", "harbour: not understood here"),
        ("filter add 'udp port 7' --to nobody", "nobody: no such program"),
        ("filter add 'udp port 8' --to shell", "shell: it has no ring"),
        ("filter remove 9999", "filter: "),
        ("filter", "filter list | add 'EXPRESSION' --to PROGRAM | remove ID"),
    ] {
        guest.type_line(typed)?;
        guest.wait_for(answer)?;
    }
    guest.type_line("exit")?;
    let outcome = guest.finish()?;
    assert_eq!(outcome.verdict, Verdict::Code(0), "{:#?}", outcome.transcript);
    Ok(())
}

/// What overlaps is refused, with the name of the other, and with a packet that both match if the
/// shell knows the other too: one is in the manifest, which the shell does not know.
fn refuse_overlaps(guest: &Guest) -> Result<()> {
    guest.type_line("filter add 'udp port 4020' --to filter_sink")?;
    guest.wait_for("it overlaps filter 16128 of filter_many:")?;
    guest.type_line("filter add 'udp src port 9' --to filter_many")?;
    guest.wait_for("of filter_sink:")?;
    guest.wait_for("this packet matches both:")?;
    Ok(())
}

#[test]
fn who_asks_for_what_is_taken_is_told_whose_it_is() -> Result<()> {
    let guest = Guest::with(["filter_many", "filter_sink"])
        .args("filter_many", "port=4020")
        .contract("filter_sink", |program| program.ports = vec![Port::Udp(4020)])
        .boot()?;
    guest.wait_for("filter_sink is not started: a port of its overlaps filter")?;
    guest.wait_for("of filter_many:")?;
    guest.wait_for("this packet matches both:")?;
    guest.wait_for("0010")?;
    Ok(())
}

/// Packets that are the sink's as long as the shell says so.
fn send_led(wire: &Wire) -> Result<()> {
    (0..8).try_for_each(|_| wire.send(&datagram(LED, 9)))
}

/// The id of the filter that was added last.
fn last_filter(guest: &Guest) -> Result<String> {
    let lines = guest.lines();
    let line = lines.iter().rev().find(|line| line.contains(" goes to ring"));
    let id =
        line.and_then(|line| line.split("filter ").nth(1)?.split(':').next().map(str::to_owned));
    id.context("no filter was added")
}
