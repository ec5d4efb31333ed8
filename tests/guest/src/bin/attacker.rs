//! Rule: whatever a program does with its slices, the others keep theirs.
//!
//! It and its children do one thing for ever, by the argument `deed`; `victim` measures. The
//! children are on the first processor, with the victim, and on the others.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use exo_user::abi::batch::{BatchEntry, BatchFlags};
use exo_user::abi::calls::TransferMode;
use exo_user::upcall::{self, Handlers, Interrupted};
use exo_user::{
    Call, EnvName, FrameNumber, Kind, Start, call, capability, console, contract, environment,
    frame, revocation, slice, tables, time,
};
use guest_probes::exchange::{self, Registers, Rest};
use guest_probes::fork::Fork;
use guest_probes::{attempt, code, rule};

exo_user::program!(main);

/// A name, and what then is done for ever by the child with this index.
type Deed = (&'static str, fn(u64) -> !);

/// All but those that the first program does alone.
const DEEDS: [Deed; 10] = [
    ("nothing", nothing),
    ("faults", faults),
    ("batches", batches),
    ("sleeps", sleeps),
    ("transfers", transfers),
    ("lists", lists),
    ("console", writes),
    ("yields", yields),
    ("moves", moves),
    ("epilogues", nothing),
];
const NOTHING: Registers =
    Registers { words: [0; exchange::WORDS], caller: 0, vectors: [[0; 2]; 16] };
/// How many frames are taken and given back at once.
const FRAMES: usize = 64;

/// The part of the grace for an epilogue that is used up, in nanoseconds.
const EPILOGUE: u64 = 200_000;

/// In the memory of a child: its deed.
static DEED: AtomicU64 = AtomicU64::new(0);

static LATE: Handlers =
    Handlers { exception: attempt::caught, slice_end: Some(late), ..Handlers::NONE };

/// An epilogue that ends just in time.
fn late(interrupted: &mut Interrupted) {
    let end = time::now() + EPILOGUE;
    while time::now() < end {}
    upcall::give_slice_up(interrupted);
}

#[repr(align(4096))]
struct Lists([BatchEntry; 64], [FrameNumber; FRAMES]);

fn nothing(_: u64) -> ! {
    loop {
        core::hint::black_box(());
    }
}

fn faults(_: u64) -> ! {
    loop {
        // SAFETY: it faults and changes nothing.
        unsafe { attempt::attempt(code!("ud2"), 0) };
        attempt::read(0xffff_ffff_8010_0000);
    }
}

/// How many frames it may take at once.
fn room() -> usize {
    let account = contract::account(Kind::Frames);
    account.limit.saturating_sub(account.held).min(FRAMES as u64) as usize
}

/// Many long calls with one entry to the kernel.
fn batches(_: u64) -> ! {
    let mut lists = Lists([BatchEntry::default(); 64], [FrameNumber::ANY; FRAMES]);
    loop {
        let (list, count) = (lists.1.as_mut_ptr() as u64, room() as u64);
        lists.1.fill(FrameNumber::ANY);
        for pair in lists.0.chunks_exact_mut(2) {
            let take = Call::FrameAllocate { list, count, capability: capability::OWN };
            pair[0] = BatchEntry::new(take);
            pair[1] = BatchEntry::new(Call::FrameFree { list, count });
        }
        let (list, flags) = (lists.0.as_mut_ptr() as u64, BatchFlags::empty());
        // SAFETY: the lists stay; nothing is bound to the frames.
        let _ = unsafe { call::call(Call::Batch { list, count: 64, flags }) };
    }
}

/// Long calls, one by one.
fn lists(_: u64) -> ! {
    loop {
        let mut frames = [FrameNumber::ANY; FRAMES];
        let frames = &mut frames[..room()];
        if frame::allocate(frames, capability::OWN).is_ok() {
            // SAFETY: nothing is bound to them.
            let _ = unsafe { frame::free(frames) };
        }
    }
}

/// Wakes in the midst of others' slices.
fn sleeps(index: u64) -> ! {
    loop {
        environment::sleep(time::now() + 130_000 + 17_000 * index);
    }
}

fn yields(_: u64) -> ! {
    loop {
        let _ = environment::yield_to(EnvName::NONE);
    }
}

/// Moves on in each of its slices, to the next position that comes.
fn moves(_: u64) -> ! {
    let (own, positions) = (contract::name().0, tables::system().positions as usize);
    let mut last = 0;
    loop {
        let held = tables::slices().iter().find(|(_, entry)| entry.holder == own);
        let Some((place, _)) = held else { continue };
        let (cpu, position) = (place / positions, place % positions);
        let switches = tables::counters().get(cpu).map_or(0, |counters| counters.switches);
        if switches == last {
            continue;
        }
        last = switches;
        let _ = slice::give_back(cpu as u32, position as u32, capability::OWN);
        let mut others = (position + 1..positions).chain(0..=position);
        let taken =
            |other: &usize| slice::take(cpu as u32, *other as u32, EnvName::NONE, 0).is_ok();
        rule::holds("a position is free", others.any(|other| taken(&other)));
    }
}

fn writes(_: u64) -> ! {
    loop {
        console::write(b"no end\n");
    }
}

/// Hands control to whoever takes it.
fn transfers(_: u64) -> ! {
    let mut registers = NOTHING;
    loop {
        for (_, entry) in tables::environments().iter().filter(|(slot, _)| *slot != 0) {
            let (name, until) = (EnvName(entry.name), time::now() + 200_000);
            let rest = Rest::Transfer(name, TransferMode::Synchronous, until);
            exchange::rest(&mut registers, rest, EnvName::ANYBODY);
        }
    }
}

extern "sysv64" fn child(index: u64) -> ! {
    prepare();
    deed().1(index)
}

fn deed() -> Deed {
    DEEDS[DEED.load(Relaxed) as usize]
}

fn prepare() {
    match deed().0 {
        "epilogues" => rule::granted("handlers", upcall::install_with_stack(4, &LATE)),
        _ => attempt::prepare(),
    }
}

/// Makes children that do nothing, and ends them.
fn makes_children(start: &Start<'_>) -> ! {
    loop {
        Fork::start(start, None, &[0], child, 0).end();
    }
}

/// Asks a child for frames that it does not give back.
fn takes_by_force(start: &Start<'_>) -> ! {
    loop {
        let fork = Fork::start(start, None, &[0], hoards, 0);
        environment::sleep(time::now() + 3 * time::MILLISECOND);
        let _ = revocation::revoke(fork.name, capability::REVOKE, Kind::Frames, 12, 0, 0);
        environment::sleep(time::now() + 3 * time::MILLISECOND);
        fork.end();
    }
}

extern "sysv64" fn hoards(_: u64) -> ! {
    loop {
        let _ = frame::allocate_any(capability::OWN);
    }
}

fn main(start: &Start<'_>) -> u64 {
    let name = start.argument("deed").unwrap_or("nothing");
    let index = DEEDS.iter().position(|(known, _)| *known == name);
    DEED.store(index.unwrap_or(0) as u64, Relaxed);
    prepare();
    match name {
        "children" => makes_children(start),
        "revocations" => takes_by_force(start),
        _ => rule::holds("such a deed", index.is_some()),
    }
    let (count, cpus) = (start.number("children", 3), tables::system().cpus);
    for index in 0..count {
        Fork::start(start, None, &[(index % cpus) as u32], child, index);
    }
    deed().1(count)
}
