//! Frames, limits and the abort protocol.

use crate::fake::{Bench, DATA};
use exo_abi::contract::Kind;
use exo_abi::tables::{EnvWord, FrameState};
use exo_abi::{Call, EnvName, Error, FrameNumber, Rights};

const LIST: u64 = DATA + 0x1000;
const MILLISECOND: u64 = 1_000_000;

/// Writes a list of frame numbers at [`LIST`].
pub(crate) fn write_list(bench: &mut Bench, frames: &[u32]) {
    for (index, pair) in frames.chunks(2).enumerate() {
        let high = pair.get(1).copied().unwrap_or(0);
        bench.poke(LIST + 8 * index as u64, &[u64::from(pair[0]) | u64::from(high) << 32]);
    }
}

/// Reads the list back.
pub(crate) fn read_list(bench: &mut Bench, count: usize) -> Vec<u32> {
    (0..count)
        .map(|index| (bench.peek(LIST + 4 * index as u64) >> (index % 2 * 32)) as u32)
        .collect()
}

/// Takes frames for whoever runs.
pub(crate) fn allocate(bench: &mut Bench, count: usize) -> Vec<u32> {
    write_list(bench, &vec![FrameNumber::ANY.0; count]);
    bench.call(Call::FrameAllocate { list: LIST, count: count as u64, capability: 0 }).unwrap();
    read_list(bench, count)
}

/// Binds frames from `page` on in an environment.
pub(crate) fn bind(
    bench: &mut Bench,
    environment: EnvName,
    page: u64,
    frames: &[u32],
    rights: Rights,
) -> Result<u64, Error> {
    for (index, &frame) in frames.iter().enumerate() {
        let words = [(page + 4096 * index as u64) | u64::from(rights.bits()), frame.into()];
        bench.poke(LIST + 16 * index as u64, &words);
    }
    let count = frames.len() as u64;
    bench.call(Call::Bind { environment, capability: 0, list: LIST, count })
}

#[test]
fn frames_are_taken_by_number_and_come_back() {
    let mut bench = Bench::new();
    let free = bench.environment(0, EnvWord::Frames);
    write_list(&mut bench, &[1000, FrameNumber::ANY.0]);
    bench.call(Call::FrameAllocate { list: LIST, count: 2, capability: 0 }).unwrap();
    let frames = read_list(&mut bench, 2);
    assert_eq!(frames[0], 1000);
    assert_eq!(bench.frame(1000).state, FrameState::Held as u8);
    assert_eq!(bench.environment(0, EnvWord::Frames), free + 2);
    write_list(&mut bench, &frames);
    bench.call(Call::FrameFree { list: LIST, count: 2 }).unwrap();
    assert_eq!(bench.frame(1000).state, FrameState::Free as u8);
    assert_eq!(bench.environment(0, EnvWord::Frames), free);
}

#[test]
fn a_refused_list_changes_nothing() {
    let mut bench = Bench::new();
    let held = bench.environment(0, EnvWord::Frames);
    write_list(&mut bench, &[1000, 1000]);
    let call = Call::FrameAllocate { list: LIST, count: 2, capability: 0 };
    assert_eq!(bench.call(call), Err(Error::FrameTaken));
    assert_eq!(bench.frame(1000).state, FrameState::Free as u8, "rolled back");
    assert_eq!(bench.environment(0, EnvWord::Frames), held);
    let frames = allocate(&mut bench, 1);
    write_list(&mut bench, &[frames[0], frames[0]]);
    let call = Call::FrameFree { list: LIST, count: 2 };
    assert_eq!(bench.call(call), Err(Error::BadArgument), "a frame named twice");
    write_list(&mut bench, &[frames[0], 3]);
    assert!(bench.call(call).is_err(), "a frame of the kernel's");
    assert_eq!(bench.frame(frames[0]).state, FrameState::Held as u8);
}

#[test]
fn freed_memory_cannot_be_reached_and_comes_back_empty() {
    let mut bench = Bench::new();
    let frames = allocate(&mut bench, 1);
    let page = 0x7000_0000;
    bind(&mut bench, EnvName::NONE, page, &frames, Rights::READ | Rights::WRITE).unwrap();
    bench.poke(page, &[42]);
    write_list(&mut bench, &frames);
    bench.call(Call::FrameFree { list: LIST, count: 1 }).unwrap();
    assert!(bench.hardware(page).is_none(), "the binding is broken");
    write_list(&mut bench, &frames);
    bench.call(Call::FrameAllocate { list: LIST, count: 1, capability: 0 }).unwrap();
    bind(&mut bench, EnvName::NONE, page, &frames, Rights::READ).unwrap();
    assert_eq!(bench.peek(page), 0, "cleared");
}

#[test]
fn nobody_binds_what_is_not_dominated() {
    let mut bench = Bench::new();
    let page = 0x7000_0000;
    assert!(bind(&mut bench, EnvName::NONE, page, &[3], Rights::READ).is_err(), "the kernel's");
    let frames = allocate(&mut bench, 1);
    let both = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    let result = bind(&mut bench, EnvName::NONE, page, &frames, both);
    assert_eq!(result, Err(Error::WriteExecute));
    for bad in [0, 0x7e80_0000_0000, 0xffff_8000_0000_0000, 0x8000_0000_0000] {
        let result = bind(&mut bench, EnvName::NONE, bad, &frames, Rights::READ);
        assert_eq!(result, Err(Error::BadAddress), "{bad:#x}");
    }
}

#[test]
fn a_debt_that_is_not_paid_is_collected_and_told() {
    let mut bench = Bench::new();
    let child = crate::environments::create(&mut bench, 300, 100, 100);
    let frames = allocate(&mut bench, 100);
    write_list(&mut bench, &frames);
    let transfer =
        Call::FrameTransfer { environment: child, capability: 0, list: LIST, count: 100 };
    bench.call(transfer).unwrap();
    let held = bench.environment(1, EnvWord::Frames);
    assert_eq!(held, 200);
    let revoke = |count| Call::Revoke {
        environment: child,
        capability: 0,
        kind: Kind::Frames,
        count,
        own: 5 * MILLISECOND,
        wall: 5 * MILLISECOND,
    };
    assert_eq!(bench.call(revoke(201)), Err(Error::BelowFloor));
    assert_eq!(bench.call(revoke(150)), Ok(50), "the rest was unused limit");
    bench.tick(4 * MILLISECOND);
    assert_eq!(bench.environment(1, EnvWord::Frames), held, "not before the deadline");
    for _ in 0..4 {
        bench.tick(MILLISECOND);
    }
    assert_eq!(bench.environment(1, EnvWord::Frames), 150);
    assert_eq!(bench.environment(1, EnvWord::Repossessed), 50);
    let lost = frames.iter().filter(|&&frame| bench.frame(frame).state == FrameState::Free as u8);
    assert_eq!(lost.count(), 50);
}

#[test]
fn slices_are_counted_where_their_holder_reads_it() {
    use exo_abi::contract::{ACCOUNT_WORDS, ACCOUNTS_WORD, Kind};
    let mut bench = Bench::new();
    let word = ACCOUNTS_WORD + Kind::Slices as usize * ACCOUNT_WORDS + 1;
    let held = exo_abi::layout::CONTRACT + 8 * word as u64;
    let before = bench.peek(held);
    let take = |environment| Call::Slice { cpu: 0, position: 5, environment, capability: 0 };
    bench.call(take(exo_abi::EnvName::NONE)).unwrap();
    assert_eq!(bench.peek(held), before + 1);
    bench.call(take(exo_abi::request::NOBODY)).unwrap();
    assert_eq!(bench.peek(held), before);
}
