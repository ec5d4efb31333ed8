//! What filters cost on this machine, beside others that do the same.
//!
//! Everything is timed over the same kind of trace: 4,096 frames of 60 bytes, each in a line of the
//! cache, drawn at random from what the filters want. Cases take turns, many times, and the best of
//! each counts: what disturbs a run only makes it slower. Tables are warm, as far as the caches of
//! the machine go; `cold` figures are over 131,072 frames, so that a table's line is never met again
//! soon.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use filter_language::Builder;
use memmap2::{Advice, MmapMut};
use packet_filters::{Atom, Filter, Width};
use serde::{Deserialize, Serialize};

use crate::libpcap::Libpcap;
use crate::merged::Merged;
use crate::residual::translate;
use crate::trace::{Segment, Sequence};

/// Frames of a trace.
const FRAMES: usize = 4_096;
/// Frames of one that is cold.
const COLD_FRAMES: usize = 131_072;
/// How often cases take turns.
const TURNS: usize = 160;
/// About how many packets a turn is.
const TURN: usize = 1 << 18;
/// How many connections are inserted at a time.
const FRESH: u64 = 1_000;
const LINE: usize = 64;
const LARGE_PAGE: usize = 2 << 20;
const LOCAL: [u8; 4] = [10, 0, 2, 15];

/// One figure, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// What was measured.
    pub name: String,
    /// Who did it: `ours`, or another.
    pub by: String,
    /// How many filters there were; 0 for eBPF.
    pub filters: usize,
    /// Of how many shapes.
    pub shapes: usize,
    /// For one packet, or one change.
    pub nanoseconds: f64,
}

/// Frames in one piece of memory, on large pages if there are any.
struct Trace {
    memory: MmapMut,
    start: usize,
    frames: usize,
}

impl Trace {
    fn new(frames: impl ExactSizeIterator<Item = Vec<u8>>) -> Result<Self> {
        let count = frames.len();
        let room = (count * LINE).next_multiple_of(LARGE_PAGE) + LARGE_PAGE;
        let mut memory = MmapMut::map_anon(room).context("no memory for a trace")?;
        let _ = memory.advise(Advice::HugePage);
        let start = memory.as_ptr().align_offset(LARGE_PAGE);
        for (place, frame) in frames.enumerate() {
            memory[start + place * LINE..][..frame.len()].copy_from_slice(&frame);
        }
        Ok(Self { memory, start, frames: count })
    }

    fn get(&self, place: usize) -> &[u8] {
        &self.memory[self.start + place * LINE..][..60]
    }
}

/// Says whether it accepts a packet.
type Accepts<'a> = Box<dyn FnMut(&[u8]) -> bool + 'a>;

/// Something to be timed.
struct Case<'a> {
    name: String,
    by: &'static str,
    size: (usize, usize),
    trace: &'a Trace,
    accepts: Box<dyn FnMut(&Trace) -> usize + 'a>,
    best: f64,
}

/// A case that goes through the trace and says how many packets were accepted.
fn case<'a>(
    name: &str,
    by: &'static str,
    size: (usize, usize),
    trace: &'a Trace,
    mut accepts: impl FnMut(&[u8]) -> bool + 'a,
) -> Case<'a> {
    let run = move |trace: &Trace| (0..trace.frames).filter(|at| accepts(trace.get(*at))).count();
    Case { name: name.to_owned(), by, size, trace, accepts: Box::new(run), best: f64::MAX }
}

/// Times cases in turns.
fn time(mut cases: Vec<Case<'_>>, turns: usize) -> Vec<Timing> {
    for _ in 0..turns {
        for case in &mut cases {
            let rounds = (TURN / case.trace.frames).max(1);
            let start = Instant::now();
            for _ in 0..rounds {
                black_box((case.accepts)(case.trace));
            }
            let each = start.elapsed().as_nanos() as f64 / (rounds * case.trace.frames) as f64;
            case.best = case.best.min(each);
        }
    }
    let timing = |case: Case<'_>| Timing {
        name: case.name,
        by: case.by.to_owned(),
        filters: case.size.0,
        shapes: case.size.1,
        nanoseconds: case.best,
    };
    cases.into_iter().map(timing).collect()
}

/// The filter of TCP to port 80 as one would write it.
#[inline(never)]
fn hand_written(packet: &[u8]) -> bool {
    if packet.len() < 38 || packet[12..14] != [8, 0] || packet[23] != 6 {
        return false;
    }
    if u16::from_be_bytes([packet[20], packet[21]]) & 0x1fff != 0 {
        return false;
    }
    let port = 14 + 4 * usize::from(packet[14] & 15) + 2;
    packet.get(port..port + 2) == Some(&[0, 80])
}

/// The connection of a number, of a shape of 16: the remote address is known to 25 to 32 bits, with
/// the port or without.
fn connection(number: u64, shape: usize) -> (Segment, Filter) {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let source = [scattered[0], scattered[1], scattered[2], scattered[3]];
    let source_port = 1024 + (number % 60_000) as u16;
    let segment = Segment { source, destination: LOCAL, source_port, destination_port: 80 };
    let mask = u32::MAX << (shape / 2);
    let value = u32::from_be_bytes(source) & mask;
    let mut builder = Builder::tcp_port(80).destination_ip(LOCAL).compare(Atom::Compare {
        offset: 26,
        width: Width::Four,
        mask,
        value,
    });
    if shape.is_multiple_of(2) {
        builder = builder.source_port(source_port);
    }
    (segment, builder.build().expect("six compares and a shift"))
}

/// So many connections of so many shapes, merged, and what they send.
fn connections(count: usize, shapes: usize) -> Result<(Merged, Vec<Segment>)> {
    let mut merged = Merged::new(count + FRESH as usize);
    let mut segments = Vec::new();
    for number in 1.. {
        let (segment, filter) = connection(number, number as usize % shapes);
        // Two addresses may be the same in all the bits that a shape knows.
        if merged.set.insert(&filter).is_ok() {
            segments.push(segment);
        }
        if segments.len() == count {
            break;
        }
    }
    merged.compile()?;
    Ok((merged, segments))
}

/// Frames drawn at random from what these send.
fn drawn(segments: &[Segment], frames: usize) -> Result<Trace> {
    let mut sequence = Sequence::new(frames as u64);
    Trace::new((0..frames).map(|_| sequence.pick(segments).frame()))
}

/// Measures everything; `progress` is told what comes next.
///
/// # Errors
/// libpcap is not installed, or there is no memory.
pub fn all(progress: &mut dyn FnMut(&str)) -> Result<Vec<Timing>> {
    let mut timings = Vec::new();
    progress("one filter");
    timings.extend(one_filter()?);
    progress("connections");
    timings.extend(many()?);
    progress("connections tried in turn by libpcap");
    timings.push(in_turn()?);
    progress("inserting and deleting");
    timings.extend(changes()?);
    progress("eBPF");
    timings.extend(crate::bytecode::all()?);
    Ok(timings)
}

/// One TCP port; half of the packets are for it.
fn one_filter() -> Result<Vec<Timing>> {
    let libpcap = Libpcap::load()?;
    let program = libpcap.compile("ip and tcp dst port 80")?;
    let interpreter = libpcap.interpreter(&program)?;
    let merged = Merged::of([Builder::tcp_port(80).build().expect("a port")].iter())?;
    // The same for every frame here, since all have 60 bytes.
    let bytecode = [&[0xb7, 2, 0, 0, 60, 0, 0, 0], &translate(&program)[..]].concat();
    let mut machine = rbpf::EbpfVmRaw::new(Some(&bytecode)).context("rbpf")?;
    machine.jit_compile().context("rbpf")?;
    let mut sequence = Sequence::new(80);
    let trace = Trace::new((0..FRAMES).map(|number| {
        let destination_port = sequence.pick(&[80, 81]);
        let segment = connection(number as u64, 0).0;
        Segment { destination_port, ..segment }.frame()
    }))?;
    fn one<'a>(by: &'static str, trace: &'a Trace, accepts: Accepts<'a>) -> Case<'a> {
        case("one_filter", by, (1, 1), trace, accepts)
    }
    let jit = move |packet: &[u8]| {
        // SAFETY: rbpf only wants a mutable slice, and the program writes nothing.
        let packet =
            unsafe { std::slice::from_raw_parts_mut(packet.as_ptr().cast_mut(), packet.len()) };
        // SAFETY: the program checks each load against the length.
        unsafe { machine.execute_program_jit(packet) }.is_ok_and(|value| value != 0)
    };
    Ok(time(
        vec![
            one("ours", &trace, Box::new(move |packet| merged.classify(packet).is_some())),
            one("hand_written", &trace, Box::new(hand_written)),
            one("rbpf", &trace, Box::new(jit)),
            one("libpcap", &trace, Box::new(move |packet| interpreter.accepts(packet))),
        ],
        TURNS,
    ))
}

/// Connections: by their number, by their shapes, warm and cold.
fn many() -> Result<Vec<Timing>> {
    let mut sets = Vec::new();
    let sizes = [1, 10, 100, 1_000, 10_000, 100_000].map(|count| (count, 1));
    let shapes = [2, 4, 8, 16].map(|shapes| (100_000, shapes));
    for (count, shapes) in sizes.into_iter().chain(shapes) {
        let (merged, segments) = connections(count, shapes)?;
        let trace = drawn(&segments, FRAMES)?;
        let cold = if count < 10_000 { None } else { Some(drawn(&segments, COLD_FRAMES)?) };
        sets.push(((count, shapes), merged, trace, cold));
    }
    let warm = sets.iter().map(|(size, merged, trace, _)| {
        case("connections", "ours", *size, trace, |packet| merged.classify(packet).is_some())
    });
    let mut timings = time(warm.collect(), TURNS);
    let cold = sets.iter().filter_map(|(size, merged, _, cold)| {
        let accepts = |packet: &[u8]| merged.classify(packet).is_some();
        Some(case("connections_cold", "ours", *size, cold.as_ref()?, accepts))
    });
    timings.extend(time(cold.collect(), TURNS / 4));
    Ok(timings)
}

/// Ten thousand connections, tried one after the other by libpcap's interpreter.
fn in_turn() -> Result<Timing> {
    const COUNT: usize = 10_000;
    let libpcap = Libpcap::load()?;
    let (_, segments) = connections(COUNT, 1)?;
    let mut programs = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let Segment { source: [a, b, c, d], source_port, .. } = segment;
        let text = format!(
            "ip src {a}.{b}.{c}.{d} and dst 10.0.2.15 and tcp src port {source_port} and dst port 80"
        );
        // Compiling each would take longer than everything else: one is, the others differ in what
        // it compares with.
        let program = match programs.first() {
            None => libpcap.compile(&text)?,
            Some((first, _)) => retarget(first, &segments[0], &segments[number])?,
        };
        let interpreter = libpcap.interpreter(&program)?;
        programs.push((program, interpreter));
    }
    let trace = drawn(&segments, 16)?;
    let accepts =
        |packet: &[u8]| programs.iter().any(|(_, interpreter)| interpreter.accepts(packet));
    let case = case("connections_in_turn", "libpcap", (COUNT, 1), &trace, accepts);
    let start = Instant::now();
    let mut accepts = case.accepts;
    let accepted = accepts(&trace);
    let nanoseconds = start.elapsed().as_nanos() as f64 / trace.frames as f64;
    anyhow::ensure!(accepted == trace.frames, "libpcap accepted {accepted} of {}", trace.frames);
    Ok(Timing { name: case.name, by: case.by.to_owned(), filters: COUNT, shapes: 1, nanoseconds })
}

/// The program for another connection.
fn retarget(
    program: &crate::classic::Program,
    from: &Segment,
    to: &Segment,
) -> Result<crate::classic::Program> {
    let pairs = [
        (u32::from_be_bytes(from.source), u32::from_be_bytes(to.source)),
        (from.source_port.into(), to.source_port.into()),
    ];
    let mut instructions = program.instructions().to_vec();
    for instruction in instructions.iter_mut().filter(|instruction| instruction.code == 0x15) {
        if let Some((_, value)) = pairs.iter().find(|(value, _)| *value == instruction.k) {
            instruction.k = *value;
        }
    }
    crate::classic::Program::new(instructions)
}

/// Inserting and deleting one connection among a hundred thousand of 16 shapes. Before it is
/// inserted, it is compared with all of them for an overlap.
fn changes() -> Result<Vec<Timing>> {
    let (mut merged, _) = connections(100_000, 16)?;
    let fresh: Vec<Filter> = (0..FRESH).map(|n| connection(10_000_000 + n, 0).1).collect();
    let (mut insert, mut delete) = (f64::MAX, f64::MAX);
    for _ in 0..TURNS {
        let start = Instant::now();
        let mut ids = Vec::with_capacity(fresh.len());
        for filter in &fresh {
            black_box(merged.set.overlap(filter, |_| true));
            ids.push(merged.set.insert(filter).expect("a connection that is new"));
        }
        insert = insert.min(start.elapsed().as_nanos() as f64 / FRESH as f64);
        let start = Instant::now();
        for id in ids {
            black_box(merged.set.remove(id));
        }
        delete = delete.min(start.elapsed().as_nanos() as f64 / FRESH as f64);
    }
    anyhow::ensure!(!merged.set.is_stale(), "a change took a new compile");
    let timing = |name: &str, nanoseconds| Timing {
        name: name.to_owned(),
        by: "ours".to_owned(),
        filters: 100_000,
        shapes: 16,
        nanoseconds,
    };
    Ok(vec![timing("insert", insert), timing("delete", delete)])
}
