//! A hostile program for each rule, beside an honest one that must not notice.
//!
//! The programs are in `tests/guest/src/bin`. Each ends with 0 when its rule held, or is ended by
//! the kernel if that is the rule. Whether all that they held is free again, the harness checks.

use anyhow::{Result, ensure};
use std::time::Duration;
use system_tests::{Guest, Wire};

/// The codes with which init reports programs that the kernel has ended.
const NO_UPCALL_STACK: u64 = 180;
const OVERRUN: u64 = 181;

/// Boots hostile programs beside the witness, and looks at how each has ended.
fn all_end<const N: usize>(programs: [&str; N], ended: &[(&str, u64)]) -> Result<()> {
    let guest = Guest::with(programs).boot()?;
    let outcome = guest.finish_within(Duration::from_secs(100))?;
    for name in programs {
        let expected = ended.iter().find(|(other, _)| *other == name).map_or(0, |(_, code)| *code);
        let found = outcome.exits.iter().find(|(other, _)| other == name).map(|(_, code)| *code);
        ensure!(found == Some(expected), "{name} ended with {found:?}, not {expected}");
    }
    Ok(())
}

#[test]
fn bindings_hold() -> Result<()> {
    all_end(
        [
            "witness",
            "bind_foreign",
            "bind_misaligned",
            "kernel_address",
            "kernel_frame",
            "write_execute",
            "write_read_only",
            "spoil_tables",
            "read_kernel",
            "stale_mapping",
            "fresh_frames",
            "lists_unmapped",
            "huge_lists",
        ],
        &[],
    )
}

#[test]
fn names_and_rights_hold() -> Result<()> {
    all_end(
        [
            "witness",
            "forge_capability",
            "foreign_env",
            "stale_name",
            "yield_to_stale",
            "revoke_no_right",
            "below_floor",
            "grant_too_much",
            "early_epoch",
            "double_free",
            "donate_in_use",
            "unknown_calls",
            "self_destruct",
        ],
        &[("self_destruct", 33)],
    )
}

#[test]
fn upcalls_and_slices_hold() -> Result<()> {
    all_end(
        [
            "witness",
            "bad_upcall_entry",
            "bad_upcall_stack",
            "stack_overflow",
            "fault_in_handler",
            "control_lies",
            "endless_epilogue",
            "mask_for_ever",
            "exhaust_slices",
            "single_step",
        ],
        &[
            ("bad_upcall_entry", NO_UPCALL_STACK),
            ("bad_upcall_stack", NO_UPCALL_STACK),
            ("fault_in_handler", NO_UPCALL_STACK),
            ("endless_epilogue", OVERRUN),
        ],
    )
}

#[test]
fn the_processor_is_confined() -> Result<()> {
    all_end(
        [
            "witness",
            "privileged",
            "port_io",
            "jump_into_kernel",
            "reserved_flags",
            "far_transfers",
            "interrupt_gates",
            "segment_bases",
            "syscall_at_end",
            "vector_registers",
        ],
        &[],
    )
}

#[test]
fn nothing_can_be_exhausted_for_others() -> Result<()> {
    all_end(
        [
            "witness",
            "exhaust_frames",
            "exhaust_envs",
            "exhaust_donation",
            "exhaust_rings",
            "exhaust_filters",
            "bad_request",
            "bad_start",
            "console_flood",
            "forged_label",
        ],
        &[],
    )
}

#[test]
fn rings_and_filters_hold() -> Result<()> {
    all_end(["witness", "ring_foreign", "free_pinned", "filter_malformed", "send_no_right"], &[])
}

#[test]
fn a_loss_is_final() -> Result<()> {
    all_end(["witness", "remap_after_loss", "taker"], &[])
}

#[test]
fn a_million_random_calls_harm_nobody() -> Result<()> {
    let guest = Guest::with(["random_calls", "random_calls"]).boot()?;
    guest.finish_within(Duration::from_secs(240))?;
    Ok(())
}

/// A UDP datagram in a frame of this length, whose last byte is 0x5a.
fn datagram(port: u16, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length];
    frame[..6].fill(255);
    frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 9, 8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame[38..40].copy_from_slice(&((length - 34) as u16).to_be_bytes());
    frame[length - 1] = 0x5a;
    frame
}

#[test]
fn rings_and_filters_hold_under_traffic() -> Result<()> {
    let wire = Wire::new()?;
    let programs = ["witness", "filter_beyond", "ring_lies", "filter_foreign"];
    let guest = Guest::with(programs).wire(&wire).boot()?;
    guest.wait_for_times("ready", 2)?;
    // All of these end before the byte that the filter wants.
    for length in (60..1514).step_by(97).chain([1513]) {
        wire.send(&datagram(4001, length))?;
    }
    wire.send(&datagram(4001, 1514))?;
    let ended = |guest: &Guest| {
        let lines = guest.lines();
        let end = |name| lines.iter().any(|line| line.contains(&format!("@exit {name} ")));
        end("filter_beyond") && end("ring_lies")
    };
    // The device holds 128 frames, and drops others; so they are sent until enough have come.
    for _ in 0..20_000 {
        if ended(&guest) {
            break;
        }
        wire.send(&datagram(4004, 200))?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let outcome = guest.finish()?;
    for name in programs {
        let code = outcome.exits.iter().find(|(other, _)| other == name).map(|(_, code)| *code);
        ensure!(code == Some(0), "{name} ended with {code:?}");
    }
    Ok(())
}
