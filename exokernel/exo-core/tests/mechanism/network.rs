//! Rings and filters.

use crate::accounts::{allocate, write_list};
use crate::environments::{create, start};
use crate::fake::{Bench, DATA};
use ebpf_tools::assembler::assemble;
use exo_abi::control::ControlWord;
use exo_abi::request::SEND_WORDS;
use exo_abi::ring::{CONSUMED, Descriptor, HEADER_WORDS, PRODUCED};
use exo_abi::tables::{EnvWord, NO_RING, SEND_TEMPLATE, SEND_TEMPLATES};
use exo_abi::upcall::Event;
use exo_abi::{Call, EnvName, Error, FrameNumber};
use exo_core::SHAPES_EACH;
use packet_filters::{Atom, Filter, Width};
use secure_bindings::FrameMemory;
use std::sync::atomic::Ordering;

const LIST: u64 = DATA + 0x1000;
const FILTER: u64 = DATA + 0x2000;

pub(crate) fn filter(ethertype: u32) -> Filter {
    Filter::new(&[Atom::exact(12, Width::Two, ethertype)]).unwrap()
}

pub(crate) fn install(
    bench: &mut Bench,
    environment: EnvName,
    filter: &Filter,
    ring: u64,
) -> Result<u64, Error> {
    let bytes = filter_language::encode(filter);
    let bytes = bytes.as_ref();
    for (index, chunk) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        bench.poke(FILTER + 8 * index as u64, &[u64::from_le_bytes(word)]);
    }
    let length = bytes.len() as u64;
    bench.call(Call::FilterInstall { environment, capability: 0, address: FILTER, length, ring })
}

fn ring(bench: &mut Bench, frames: usize) -> (u64, Vec<u32>) {
    let frames = allocate(bench, frames);
    write_list(bench, &frames);
    let count = frames.len() as u64;
    (bench.call(Call::RingCreate { list: LIST, count }).unwrap(), frames)
}

fn packet(ethertype: u16) -> [u8; 60] {
    let mut packet = [0; 60];
    packet[12..14].copy_from_slice(&ethertype.to_be_bytes());
    packet
}

#[test]
fn packets_reach_the_ring_of_the_filter_that_matches() {
    let mut bench = Bench::new();
    install(&mut bench, EnvName::NONE, &filter(0x0800), NO_RING).unwrap();
    let (id, frames) = ring(&mut bench, 3);
    let installed = install(&mut bench, EnvName::NONE, &filter(0x0800), id).unwrap();
    bench.kernel.received(&packet(0x0806));
    bench.kernel.received(&packet(0x0800));
    let header = bench.machine.page(FrameNumber(frames[0]));
    assert_eq!(header[PRODUCED].load(Ordering::Relaxed), 1);
    let descriptor = Descriptor::from_word(header[HEADER_WORDS].load(Ordering::Relaxed));
    assert_eq!(descriptor, Descriptor { length: 60, filter: installed as u32 });
}

#[test]
fn a_full_ring_drops_and_lies_about_it_harm_only_their_author() {
    let mut bench = Bench::new();
    install(&mut bench, EnvName::NONE, &filter(0x0800), NO_RING).unwrap();
    let (id, frames) = ring(&mut bench, 2);
    install(&mut bench, EnvName::NONE, &filter(0x0800), id).unwrap();
    let consumed = |bench: &Bench, value| {
        let header = bench.machine.page(FrameNumber(frames[0]));
        header[CONSUMED].store(value, Ordering::Relaxed);
        header[PRODUCED].store(u64::MAX, Ordering::Relaxed);
    };
    for lie in [0, 5, u64::MAX, u64::MAX / 2, 2] {
        consumed(&bench, lie);
        for _ in 0..5 {
            bench.kernel.received(&packet(0x0800));
        }
    }
    write_list(&mut bench, &frames);
    let call = Call::FrameFree { list: LIST, count: 2 };
    assert_eq!(bench.call(call), Err(Error::FramePinned));
    bench.call(Call::RingDestroy { ring: id as u32 }).unwrap();
    write_list(&mut bench, &frames);
    bench.call(call).unwrap();
    assert_eq!(bench.call(Call::RingDestroy { ring: id as u32 }), Err(Error::NoRing));
    bench.kernel.received(&packet(0x0800));
}

#[test]
fn a_filter_must_be_reserved_and_must_not_overlap() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    let taken = install(&mut bench, child, &filter(0x0800), NO_RING).unwrap();
    let (id, _) = ring(&mut bench, 2);
    let told = |bench: &Bench, number| {
        let control = bench.board.cells[0].control(bench.machine);
        assert_eq!(control[ControlWord::Overlaps as usize].swap(9, Ordering::Relaxed), number);
    };
    let result = install(&mut bench, EnvName::NONE, &filter(0x0800), id);
    assert_eq!(result, Err(Error::FilterOverlaps));
    told(&bench, taken);
    let result = install(&mut bench, EnvName::NONE, &filter(0x0806), id);
    assert_eq!(result, Err(Error::NotReserved));
    told(&bench, 9);
    let result = install(&mut bench, EnvName::NONE, &Filter::ANY, NO_RING);
    assert_eq!(result, Err(Error::FilterOverlaps), "it covers the child's");
    told(&bench, taken);
    install(&mut bench, EnvName::NONE, &filter(0x0801), NO_RING).unwrap();
    let own = install(&mut bench, EnvName::NONE, &filter(0x0801), id).unwrap();
    let result = install(&mut bench, EnvName::NONE, &filter(0x0801), id);
    assert_eq!(result, Err(Error::FilterOverlaps), "the same again");
    told(&bench, own);
    let call = Call::FilterRemove { filter: taken as u32, capability: 9 };
    assert_eq!(bench.call(call), Err(Error::NoFilter), "the child's");
}

/// A filter within that of 0x0800, with a shape of its own for each mask.
fn masked(mask: u32, value: u32) -> Filter {
    let compare = Atom::Compare { offset: 20, width: Width::Two, mask, value };
    Filter::new(&[Atom::exact(12, Width::Two, 0x0800), compare]).unwrap()
}

#[test]
fn nobody_brings_more_shapes_than_its_share() {
    let mut bench = Bench::new();
    install(&mut bench, EnvName::NONE, &filter(0x0800), NO_RING).unwrap();
    let (id, _) = ring(&mut bench, 2);
    let add = |bench: &mut Bench, filter: Filter| install(bench, EnvName::NONE, &filter, id);
    let mut fresh = (0x8080..).map(|mask| masked(mask, 0));
    let share = [(); SHAPES_EACH].map(|()| add(&mut bench, fresh.next().unwrap()).unwrap());
    let next = fresh.next().unwrap();
    assert_eq!(add(&mut bench, next), Err(Error::OverLimit));
    // One more filter of a shape that is there is none more of these.
    for value in [0x80, 0x8000] {
        assert!(add(&mut bench, masked(0x8080, value)).is_ok());
    }
    assert_eq!(add(&mut bench, next), Err(Error::OverLimit));
    // The share is what is there, not what ever was.
    bench.call(Call::FilterRemove { filter: share[3] as u32, capability: 0 }).unwrap();
    assert!(add(&mut bench, next).is_ok());
    assert_eq!(add(&mut bench, fresh.next().unwrap()), Err(Error::OverLimit));
    assert_eq!(bench.environment(0, EnvWord::Filters), 1 + SHAPES_EACH as u64 + 2);
}

#[test]
fn who_rules_packets_leads_them_and_nobody_else() {
    let mut bench = Bench::new();
    let (own, child) = (bench.name(0), create(&mut bench, 300, 0, 100));
    let reservation = install(&mut bench, child, &filter(0x0806), NO_RING).unwrap() as u32;
    let (id, frames) = ring(&mut bench, 2);
    let led = install(&mut bench, own, &filter(0x0800), id).unwrap() as u32;
    bench.kernel.received(&packet(0x0800));
    let header = bench.machine.page(FrameNumber(frames[0]));
    assert_eq!(header[PRODUCED].load(Ordering::Relaxed), 1, "nobody has reserved it");
    let overlapping = install(&mut bench, own, &filter(0x0806), id);
    assert_eq!(overlapping, Err(Error::FilterOverlaps), "the child's");
    assert_eq!(install(&mut bench, child, &filter(0x0801), id), Err(Error::NoRing), "not its ring");
    let length = filter_language::encode(&filter(0x0806)).as_ref().len() as u64;
    let (address, ring) = (FILTER, id);
    let call = Call::FilterInstall { environment: own, capability: 9, address, length, ring };
    assert_eq!(bench.call(call), Err(Error::NoCapability));
    let remove = |filter, capability| Call::FilterRemove { filter, capability };
    assert_eq!(bench.call(remove(reservation, 9)), Err(Error::NoFilter), "without the right");
    assert_eq!(bench.environment(1, EnvWord::Filters), 1);
    bench.call(remove(reservation, 0)).unwrap();
    assert_eq!(bench.environment(1, EnvWord::Filters), 0);
    assert_eq!(bench.call(remove(reservation, 0)), Err(Error::NoFilter), "it is gone");
    bench.call(remove(led, 9)).unwrap();
    for filter in [16_384, u32::MAX] {
        assert_eq!(bench.call(remove(filter, 0)), Err(Error::NoFilter));
    }
}

#[test]
fn rings_and_filters_are_free_when_their_owner_ends() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    install(&mut bench, child, &filter(0x0800), NO_RING).unwrap();
    assert_eq!(bench.environment(1, EnvWord::Filters), 1);
    start(&mut bench, child, 3);
    bench.call(Call::EnvironmentDestroy { environment: child, capability: 0, code: 0 }).unwrap();
    let all = bench.exposed.filters.iter().chain(bench.exposed.rings);
    assert!(all.into_iter().all(|word| word.load(Ordering::Relaxed) == 0));
}

/// Sends a packet of the first environment's.
fn send(bench: &mut Bench, packet: &[u8; 60]) -> Result<u64, Error> {
    let mut words = [0; 8];
    for (word, chunk) in words.iter_mut().zip(packet.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_le_bytes(bytes);
    }
    bench.poke(PROGRAM, &words);
    let request: [u64; SEND_WORDS] = [PROGRAM, 60];
    bench.poke(LIST, &request);
    bench.call(Call::Send { capability: 0, list: LIST, count: 1 })
}

#[test]
fn nobody_sends_what_no_template_says() {
    let mut bench = Bench::new();
    assert_eq!(send(&mut bench, &packet(0x0800)), Err(Error::NotReserved));
    let last = SEND_TEMPLATE + SEND_TEMPLATES - 1;
    for (place, ethertype) in [(SEND_TEMPLATE, 0x0800), (last, 0x0806)] {
        assert_eq!(install(&mut bench, EnvName::NONE, &filter(ethertype), place), Ok(0));
    }
    assert_eq!(send(&mut bench, &packet(0x0800)), Ok(1));
    assert_eq!(send(&mut bench, &packet(0x0806)), Ok(1));
    assert_eq!(send(&mut bench, &packet(0x0807)), Err(Error::NotReserved));
    // A template is replaced, and one that wants more of a packet takes less.
    install(&mut bench, EnvName::NONE, &filter(0x0807), last).unwrap();
    assert_eq!(send(&mut bench, &packet(0x0806)), Err(Error::NotReserved));
    assert_eq!(send(&mut bench, &packet(0x0807)), Ok(1));
    assert_eq!(bench.machine.sent.borrow().len(), 3);
}

/// Installs a handler with state `state`, and the capability in `capability`.
fn handle(
    bench: &mut Bench,
    ring: u64,
    text: &str,
    state: u32,
    capability: u32,
) -> Result<u64, Error> {
    let program = assemble(text).unwrap();
    let words: Vec<u64> =
        program.as_chunks().0.iter().map(|slot| u64::from_le_bytes(*slot)).collect();
    bench.poke(PROGRAM, &words);
    let (ring, length) = (ring as u32, program.len() as u64);
    bench.call(Call::HandlerInstall { ring, capability, address: PROGRAM, length, state })
}

const PROGRAM: u64 = DATA + 0x3000;

/// How many packets are in the ring.
fn produced(bench: &Bench, header: u32) -> u64 {
    bench.machine.page(FrameNumber(header))[PRODUCED].load(Ordering::Relaxed)
}

#[test]
fn a_handler_keeps_counts_and_replies() {
    let mut bench = Bench::new();
    install(&mut bench, EnvName::NONE, &filter(0x0800), NO_RING).unwrap();
    let (id, frames) = ring(&mut bench, 3);
    install(&mut bench, EnvName::NONE, &filter(0x0800), id).unwrap();
    install(&mut bench, EnvName::NONE, &filter(0x0800), SEND_TEMPLATE).unwrap();
    let state = allocate(&mut bench, 1)[0];
    // Counts; keeps what is long enough and has 7 there, after it was sent back, and is quiet then.
    let text = "ldxdw r0, [r3]\nadd r0, 1\nstxdw [r3], r0\nmov r6, r2\nldxb r7, [r1+20]\n\
                mov r0, 0\njne r7, 7, exit\ncall 1\nmov r1, r6\ncall 3\nmov r0, 3\nexit";
    assert_eq!(handle(&mut bench, id, text, state, 0), Ok(0));
    let mut kept = packet(0x0800);
    kept[20] = 7;
    bench.kernel.received(&packet(0x0800));
    bench.kernel.received(&kept);
    // It ends before byte 20: the handler is ended, and the packet delivered.
    bench.kernel.received(&packet(0x0800)[..20]);
    assert_eq!(produced(&bench, frames[0]), 2);
    let counter = &bench.machine.page(FrameNumber(state))[0];
    assert_eq!(counter.load(Ordering::Relaxed), 3);
    assert_eq!(*bench.machine.sent.borrow(), [kept.to_vec()]);
    // It sends what its owner could: not this any more. Then the packet is the ring's.
    install(&mut bench, EnvName::NONE, &filter(0x86dd), SEND_TEMPLATE).unwrap();
    bench.kernel.received(&kept);
    assert_eq!((produced(&bench, frames[0]), bench.machine.sent.borrow().len()), (3, 1));
    install(&mut bench, EnvName::NONE, &filter(0x0800), SEND_TEMPLATE).unwrap();
    // Nor does it without the capability.
    assert_eq!(handle(&mut bench, id, text, state, 15), Ok(0));
    bench.kernel.received(&kept);
    assert_eq!((produced(&bench, frames[0]), bench.machine.sent.borrow().len()), (4, 1));
    // One that is ended after its reply has sent none.
    bench.machine.page(FrameNumber(frames[0]))[CONSUMED].store(4, Ordering::Relaxed);
    let late = text.replace("mov r6, r2", "mov r6, r2\nmov r8, r1");
    let late = late.replace("mov r0, 3", "ldxb r0, [r8+1513]\nmov r0, 3");
    assert_eq!(handle(&mut bench, id, &late, state, 0), Ok(0));
    bench.kernel.received(&kept);
    assert_eq!((produced(&bench, frames[0]), bench.machine.sent.borrow().len()), (5, 1));
}

#[test]
fn a_handler_says_when_its_owner_wakes() {
    let mut bench = Bench::new();
    install(&mut bench, EnvName::NONE, &filter(0x0800), NO_RING).unwrap();
    let (id, frames) = ring(&mut bench, 3);
    install(&mut bench, EnvName::NONE, &filter(0x0800), id).unwrap();
    let state = allocate(&mut bench, 1)[0];
    // Sleep until three packets have come, the last of which is kept.
    let text = "ldxdw r1, [r3]\nadd r1, 1\nstxdw [r3], r1\nmov r0, 2\njlt r1, 3, exit\n\
                mov r0, 1\nexit";
    assert_eq!(handle(&mut bench, id, text, state, 0), Ok(0));
    let told = |bench: &Bench| {
        let control = bench.board.cell(0).control(bench.machine);
        control[ControlWord::Pending as usize].load(Ordering::Relaxed) & Event::Packet.bit() != 0
    };
    for arrived in 1..=3 {
        assert!(!told(&bench), "{arrived}");
        bench.kernel.received(&packet(0x0800));
        assert_eq!(produced(&bench, frames[0]), arrived.min(2));
    }
    assert!(told(&bench));
}

#[test]
fn what_a_handler_may_be() {
    let mut bench = Bench::new();
    let (id, _) = ring(&mut bench, 3);
    let state = allocate(&mut bench, 1)[0];
    let good = "mov r0, 0\nexit";
    assert_eq!(handle(&mut bench, 5, good, state, 0), Err(Error::NoRing));
    assert_eq!(handle(&mut bench, id, good, 4000, 0), Err(Error::NotOwner));
    assert_eq!(handle(&mut bench, id, good, u32::MAX, 0), Err(Error::NoFrame));
    for bad in ["exit", "mov r0, r1\nexit", "stb [r1], 0\nmov r0, 0\nexit", "mov r0, 0"] {
        assert_eq!(handle(&mut bench, id, bad, state, 0), Err(Error::BadProgram), "{bad}");
    }
    let dear = "mov r6, r1\n".to_owned() + &"mov r1, r6\nmov r2, 1\ncall 1\n".repeat(50);
    let dear = dear + "mov r0, 0\nexit";
    assert_eq!(handle(&mut bench, id, &dear, state, 0), Err(Error::BadProgram));
    assert_eq!(handle(&mut bench, id, good, state, 0), Ok(0));
    // The frame is pinned until the handler is taken away, another is installed, or the ring ends.
    write_list(&mut bench, &[state]);
    let free = Call::FrameFree { list: LIST, count: 1 };
    assert_eq!(bench.call(free), Err(Error::FramePinned));
    let other = allocate(&mut bench, 1)[0];
    assert_eq!(handle(&mut bench, id, good, other, 0), Ok(0));
    write_list(&mut bench, &[state]);
    assert_eq!(bench.call(free), Ok(0));
    assert_eq!(handle(&mut bench, id, "exit", other, 0), Err(Error::BadProgram));
    let (ring, address) = (id as u32, 0);
    let length = 4097;
    let long = Call::HandlerInstall { ring, capability: 0, address, length, state: other };
    assert_eq!(bench.call(long), Err(Error::TooLong));
    let none = Call::HandlerInstall { ring, capability: 0, address, length: 0, state: 0 };
    assert_eq!(bench.call(none), Ok(0));
    assert_eq!(handle(&mut bench, id, good, other, 0), Ok(0));
    bench.call(Call::RingDestroy { ring }).unwrap();
    write_list(&mut bench, &[other]);
    assert_eq!(bench.call(free), Ok(0));
}
