//! A hostile program for each rule, beside an honest one that must not notice.
//!
//! The programs are in `tests/guest/src/bin`. Each ends with 0 when its rule held, or is ended by
//! the kernel if that is the rule. Whether all that they held is free again, the harness checks.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use system_tests::guest::{Setup, program};
use system_tests::{Board, Guest, Outcome, Wire, http};

/// The codes with which `init` reports programs that the kernel has ended.
const NO_UPCALL_STACK: u64 = 180;
const OVERRUN: u64 = 181;
/// The code of a program that `init` does not load.
const NOT_LOADED: u64 = 126;
/// How long programs may take that make half a million calls each.
const MANY_CALLS: Duration = Duration::from_secs(240);

/// Boots the witness and hostile programs, and looks at how each has ended: with 0, unless `ended`
/// says otherwise.
fn all_end(setup: Setup<'_>, count: usize, ended: &[(&str, u64)]) -> Result<Outcome> {
    let outcome = setup.boot()?.finish()?;
    judge(&outcome, count, ended)?;
    Ok(outcome)
}

fn judge(outcome: &Outcome, count: usize, ended: &[(&str, u64)]) -> Result<()> {
    for (name, found) in &outcome.exits {
        let expected = ended.iter().find(|(other, _)| other == name).map_or(0, |(_, code)| *code);
        let said = |line: &&String| line.contains(&format!("[{name}] "));
        let last = outcome.transcript.iter().rev().find(said);
        ensure!(*found == expected, "{name} ended with {found}, not {expected}: {last:?}");
    }
    let (exits, folder) = (outcome.exits.len(), outcome.folder.display());
    ensure!(exits == count, "{exits} programs have ended, not {count}: {folder}");
    let unharmed = outcome.transcript.iter().any(|line| line.contains("[witness] unharmed"));
    ensure!(unharmed, "the witness was harmed: {folder}");
    Ok(())
}

/// Boots these programs, all of which end with 0.
fn hold<const N: usize>(programs: [&str; N]) -> Result<()> {
    all_end(Guest::with(programs), N, &[]).map(|_| ())
}

#[test]
fn bindings_hold() -> Result<()> {
    hold([
        "witness",
        "bind_foreign",
        "bind_misaligned",
        "kernel_address",
        "kernel_frame",
        "write_execute",
        "stale_mapping",
        "fresh_frames",
        "lists_unmapped",
        "huge_lists",
    ])
}

#[test]
fn who_sleeps_until_words_hold_wakes_then() -> Result<()> {
    hold(["witness", "predicate_lies"])
}

#[test]
fn what_the_kernel_shows_is_read_only() -> Result<()> {
    hold(["witness", "write_read_only", "spoil_tables", "read_kernel"])
}

#[test]
fn names_and_rights_hold() -> Result<()> {
    hold([
        "witness",
        "forge_capability",
        "revoked_name",
        "foreign_env",
        "stale_name",
        "yield_to_stale",
        "revoke_no_right",
        "below_floor",
        "grant_too_much",
        "early_epoch",
        "unknown_calls",
        "bad_request",
        "bad_start",
    ])
}

#[test]
fn frames_are_given_away_once() -> Result<()> {
    hold(["witness", "double_free", "donate_in_use", "free_pinned", "ring_foreign"])
}

#[test]
fn upcalls_find_a_place_or_end_their_owner() -> Result<()> {
    let entries = ["nowhere", "kernel", "hole", "shared", "data"];
    let stacks = [
        "nowhere",
        "kernel",
        "shared",
        "everything",
        "hole",
        "inverted",
        "empty",
        "tiny",
        "constant",
        "narrowed",
        "narrowed-fault",
    ];
    let [e, s] = ["upcall_entry", "upcall_stack"];
    let mut setup = Guest::with([
        "witness",
        "fault_in_handler",
        "stack_overflow",
        "control_lies",
        e,
        e,
        e,
        e,
        e,
        s,
        s,
        s,
        s,
        s,
        s,
        s,
        s,
        s,
        s,
        s,
    ]);
    let mut ended = vec![("fault_in_handler".to_owned(), NO_UPCALL_STACK)];
    for (program, key, values) in [(e, "entry", &entries[..]), (s, "stack", &stacks[..])] {
        for (index, value) in values.iter().enumerate() {
            let label =
                if index == 0 { program.to_owned() } else { format!("{program}-{}", index + 1) };
            setup = setup.args(&label, &format!("{key}={value}"));
            ended.push((label, NO_UPCALL_STACK));
        }
    }
    let ended: Vec<(&str, u64)> = ended.iter().map(|(name, code)| (&**name, *code)).collect();
    all_end(setup, 4 + entries.len() + stacks.len(), &ended).map(|_| ())
}

#[test]
fn time_is_shared_by_slices() -> Result<()> {
    let programs = [
        "witness",
        "endless_epilogue",
        "mask_for_ever",
        "exhaust_slices",
        "fault_flood",
        "time_base",
        "closed_ring",
        "sleep_for_ever",
    ];
    // Who sleeps for ever is a service, and is stopped.
    let ended = [("endless_epilogue", OVERRUN)];
    all_end(Guest::with(programs), programs.len() - 1, &ended).map(|_| ())
}

#[test]
fn control_passes_to_who_rests_for_the_caller_only() -> Result<()> {
    hold(["witness", "transfer_lies"])
}

#[test]
fn who_is_not_let_in_disturbs_nobody() -> Result<()> {
    hold(["gate_crasher", "witness"])
}

#[test]
fn batches_are_claims() -> Result<()> {
    hold(["witness", "batch_lies"])
}

#[test]
fn the_processor_is_confined() -> Result<()> {
    hold([
        "witness",
        "privileged",
        "port_io",
        "jump_into_kernel",
        "reserved_flags",
        "far_transfers",
        "interrupt_gates",
        "segment_bases",
        "syscall_at_end",
        "single_step",
    ])
}

#[test]
fn the_processor_is_confined_on_q35() -> Result<()> {
    let programs = ["witness", "privileged", "port_io", "jump_into_kernel", "vector_state"];
    all_end(Guest::with(programs).board(Board::Q35), programs.len(), &[]).map(|_| ())
}

#[test]
fn vector_registers_are_private() -> Result<()> {
    hold(["witness", "vector_state", "vector_state", "vector_state"])
}

#[test]
fn nothing_can_be_exhausted_for_others() -> Result<()> {
    hold([
        "witness",
        "exhaust_frames",
        "exhaust_envs",
        "exhaust_donation",
        "exhaust_rings",
        "exhaust_filters",
        "exhaust_shapes",
    ])
}

#[test]
fn nobody_speaks_as_another() -> Result<()> {
    let programs = ["witness", "console_flood", "forged_label"];
    let outcome = all_end(Guest::with(programs), programs.len(), &[])?;
    for line in &outcome.transcript {
        let known = ["[init] ", "[witness] ", "[console_flood] ", "[forged_label] "];
        ensure!(known.iter().any(|label| line.starts_with(label)), "whose line is {line:?}?");
        ensure!(!line.chars().any(char::is_control), "a control character in {line:?}");
    }
    let forged = outcome.exits.iter().any(|(_, code)| *code == 99);
    ensure!(!forged, "a forged report was believed");
    ensure!(outcome.tables.is_some_and(|tables| tables.get("forged").is_none()), "forged tables");
    Ok(())
}

#[test]
fn who_ends_leaves_nothing_behind() -> Result<()> {
    let programs = ["witness", "self_destruct", "exhaust_envs"];
    all_end(Guest::with(programs), programs.len(), &[("self_destruct", 33)]).map(|_| ())
}

#[test]
fn a_loss_is_final() -> Result<()> {
    hold(["witness", "remap_after_loss", "taker"])?;
    hold(["witness", "sibling_mapping", "many_mappings"])
}

#[test]
fn a_surrender_list_is_a_claim() -> Result<()> {
    let programs = ["witness", "surrender_lies", "taker"];
    let taker = "victim=surrender_lies count=4 full=130";
    all_end(Guest::with(programs).args("taker", taker), programs.len(), &[]).map(|_| ())
}

#[test]
fn the_others_go_on() -> Result<()> {
    let hostile = [
        "exhaust_frames",
        "exhaust_donation",
        "endless_epilogue",
        "fault_in_handler",
        "control_lies",
        "console_flood",
        "random_calls",
    ];
    let [a, b, c, d, e, f, g] = hostile;
    let guest = Guest::with(["web", "pages", a, b, c, d, e, f, g])
        .args("pages", "policy=clock pages=1024 passes=4")
        .args("random_calls", "calls=50000")
        .linger()
        .boot()?;
    guest.wait_for("serving http://")?;
    let address = guest.address(80)?;
    for path in ["/", "/state.json"].into_iter().cycle().take(20) {
        ensure!(http::get(address, path)?.status == 200, "{path} is not served");
    }
    for name in hostile.into_iter().chain(["pages"]) {
        guest.wait_for(&format!("@exit {name} "))?;
    }
    ensure!(http::get(address, "/")?.status == 200, "/ is not served any more");
    let outcome = guest.stop()?;
    let right = |line: &&String| line.contains("[pages]") && line.contains("checksum 0x");
    let line = outcome.transcript.iter().find(right).context("no checksum")?;
    ensure!(line.ends_with(" ok"), "{line}");
    Ok(())
}

#[test]
fn a_million_random_calls_harm_nobody() -> Result<()> {
    let programs = ["witness", "random_calls", "random_calls"];
    // Two reservations for one port would overlap.
    let other_port = |program: &mut qemu::manifest::Program| {
        program.ports = vec![qemu::manifest::Port::Udp(4091)];
    };
    let guest = Guest::with(programs).contract("random_calls-2", other_port).boot()?;
    let outcome = guest.finish_within(MANY_CALLS)?;
    judge(&outcome, programs.len(), &[])?;
    let calls = outcome.transcript.iter().filter(|line| line.contains("500000 calls, "));
    ensure!(calls.count() == 2, "both make all their calls: {}", outcome.folder.display());
    Ok(())
}

/// A UDP datagram in a frame of this length, whose last byte is 0x5a.
fn datagram(port: u16, length: u16) -> Vec<u8> {
    let mut frame = vec![0; length.into()];
    frame[..6].fill(255);
    frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 9, 8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(length - 14).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame[38..40].copy_from_slice(&(length - 34).to_be_bytes());
    *frame.last_mut().unwrap_or(&mut 0) = 0x5a;
    frame
}

#[test]
fn rings_and_filters_hold() -> Result<()> {
    let wire = Wire::new()?;
    let programs = [
        "witness",
        "filter_beyond",
        "filter_foreign",
        "filter_malformed",
        "ring_lies",
        "send_no_right",
        "send_no_right",
    ];
    let licensed = |program: &mut qemu::manifest::Program| {
        program.rights.push(qemu::manifest::Right::Network);
    };
    let guest = Guest::with(programs)
        .args("send_no_right-2", "licensed=yes")
        .contract("send_no_right-2", licensed)
        .wire(&wire)
        .boot()?;
    guest.wait_for("[filter_beyond] ready")?;
    // All of these end before the byte that the filter wants.
    for length in (60..1514).step_by(97).chain([1513]) {
        wire.send(&datagram(4001, length))?;
    }
    // With that packet filter_beyond ends, and its port is nobody's: the one that claims it has to
    // be done before.
    guest.wait_for("@exit filter_foreign ")?;
    wire.send(&datagram(4001, 1514))?;
    // It asks for packets whenever those that it asked for have come.
    for turn in 1..=10 {
        guest.wait_for_times("[ring_lies] ready", turn)?;
        for length in 100..120 {
            wire.send(&datagram(4004, length))?;
        }
    }
    judge(&guest.finish()?, programs.len(), &[])
}

#[test]
fn thousands_of_filters_get_what_is_theirs() -> Result<()> {
    const PROGRAM: &str = "filter_many";
    let wire = Wire::new()?;
    let programs = ["witness", PROGRAM, PROGRAM];
    let second = |program: &mut qemu::manifest::Program| {
        program.ports = vec![qemu::manifest::Port::Udp(4021)];
    };
    let guest = Guest::with(programs)
        .args(PROGRAM, "port=4020")
        .args("filter_many-2", "port=4021")
        .contract("filter_many-2", second)
        .wire(&wire)
        .boot()?;
    guest.wait_for("[filter_many] ready")?;
    guest.wait_for("[filter_many-2] ready")?;
    let from = |port: u16| {
        move |frame: &[u8]| {
            frame.get(23) == Some(&17) && frame.get(34..36) == Some(&port.to_be_bytes())
        }
    };
    for packet in 0..500 {
        for port in [4020, 4021] {
            let mut frame = datagram(port, 60);
            frame[34..36].copy_from_slice(&(10_000 + packet * 37 % 5_000_u16).to_be_bytes());
            wire.send(&frame)?;
        }
        if packet % 20 == 19 {
            // Either may be the first to say that it has the burst.
            let mut heard = [false; 2];
            while heard != [true; 2] {
                let frame = wire.recv(Duration::from_secs(20))?.context("a burst was lost")?;
                heard[0] |= from(4020)(&frame);
                heard[1] |= from(4021)(&frame);
            }
        }
    }
    judge(&guest.finish()?, programs.len(), &[])
}

#[test]
fn handlers_answer_and_reach_nothing_else() -> Result<()> {
    let wire = Wire::new()?;
    let programs = ["witness", "handler_echo", "handler_hostile"];
    let guest = Guest::with(programs).wire(&wire).boot()?;
    let echo = |frame: &[u8]| {
        frame.get(..6) == Some(&[2, 0, 0, 0, 0, 9])
            && frame.get(34..36) == Some(&4011_u16.to_be_bytes())
    };
    guest.wait_for("[handler_echo] ready")?;
    for length in 100..120 {
        let mut frame = datagram(4011, length);
        // What is sent to the machine's own address may be echoed from there.
        frame[..6].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        wire.send(&frame)?;
        let answer = wire.recv_until(Duration::from_secs(20), echo)?;
        assert_eq!(answer.map(|frame| frame.len()), Some(length.into()), "the echo");
    }
    wire.send(&datagram(4011, 41))?;
    guest.wait_for("[handler_echo] silent")?;
    for length in 100..120 {
        wire.send(&datagram(4011, length))?;
    }
    for turn in 1..=4 {
        guest.wait_for_times("[handler_hostile] ready", turn)?;
        for length in 100..120 {
            wire.send(&datagram(4012, length))?;
        }
    }
    let verdict = guest.finish()?;
    assert_eq!(wire.recv_until(Duration::from_millis(1), echo)?, None, "sent without the right");
    judge(&verdict, programs.len(), &[])
}

/// A field of an ELF file: its offset from a place and its bytes.
type Field = (usize, &'static [u8]);

/// Where the first program header's fields are, from its beginning.
const FLAGS: usize = 4;
const OFFSET: usize = 8;
const ADDRESS: usize = 16;
const FILE_SIZE: usize = 32;
const MEMORY_SIZE: usize = 40;
const KERNEL: &[u8] = &0xffff_ffff_8010_0000_u64.to_le_bytes();
const HUGE: &[u8] = &(u64::MAX - 4095).to_le_bytes();

/// What is wrong with an image: in the header of its first segment.
const BAD_SEGMENTS: [(&str, Field); 10] = [
    ("elf-kernel", (ADDRESS, KERNEL)),
    ("elf-null", (ADDRESS, &[0; 8])),
    ("elf-shared", (ADDRESS, &0x7e80_0000_0000_u64.to_le_bytes())),
    ("elf-hole", (ADDRESS, &0x8000_0000_0000_u64.to_le_bytes())),
    ("elf-overlap", (MEMORY_SIZE, &0x10_0000_u64.to_le_bytes())),
    ("elf-huge", (MEMORY_SIZE, HUGE)),
    ("elf-large", (MEMORY_SIZE, &(1_u64 << 40).to_le_bytes())),
    ("elf-file-size", (FILE_SIZE, HUGE)),
    ("elf-offset", (OFFSET, HUGE)),
    ("elf-rights", (FLAGS, &[7, 0, 0, 0])),
];

/// Where the program header of the first segment to load is.
fn first_segment(file: &[u8]) -> Option<usize> {
    const LOAD: &[u8] = &[1, 0, 0, 0];
    let headers = *file.get(32)? as usize;
    (headers..headers + 16 * 56).step_by(56).find(|&at| file.get(at..at + 4) == Some(LOAD))
}

#[test]
fn images_that_are_none_are_not_loaded() -> Result<()> {
    let good = qemu::elf::strip(&fs::read(program("unknown_calls")?)?)?;
    let first = first_segment(&good).context("no segment")?;
    let mut setup = Guest::with(["witness"]);
    for (name, (field, bytes)) in BAD_SEGMENTS {
        let mut bad = good.clone();
        bad[first + field..][..bytes.len()].copy_from_slice(bytes);
        setup = setup.crafted(name, bad);
    }
    let with = |place: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[place..][..bytes.len()].copy_from_slice(bytes);
        bad
    };
    let files = [
        ("elf-empty", Vec::new()),
        ("elf-magic", good[..4].to_vec()),
        ("elf-header", good[..63].to_vec()),
        ("elf-headers", good[..first + 20].to_vec()),
        ("elf-half", good[..good.len() / 2].to_vec()),
        ("elf-noise", vec![0x7f; 5000]),
        ("elf-entry", with(24, KERNEL)),
        ("elf-table", with(32, HUGE)),
        ("elf-count", with(56, &[255; 2])),
        ("elf-machine", with(18, &[3, 0])),
    ];
    let count = 1 + BAD_SEGMENTS.len() + files.len();
    let mut ended: Vec<(&str, u64)> = BAD_SEGMENTS.map(|(name, _)| (name, NOT_LOADED)).to_vec();
    for (name, file) in files {
        setup = setup.crafted(name, file);
        ended.push((name, NOT_LOADED));
    }
    all_end(setup, count, &ended).map(|_| ())
}
