//! Rings and filters.

use crate::accounts::{allocate, write_list};
use crate::environments::{create, start};
use crate::fake::{Bench, DATA};
use exo_abi::ring::{CONSUMED, Descriptor, HEADER_WORDS, PRODUCED};
use exo_abi::tables::{EnvWord, NO_RING};
use exo_abi::{Call, EnvName, Error, FrameNumber};
use packet_filters::{Atom, Filter, Width};
use secure_bindings::FrameMemory;
use std::sync::atomic::Ordering;

const LIST: u64 = DATA + 0x1000;
const FILTER: u64 = DATA + 0x2000;

fn filter(ethertype: u32) -> Filter {
    Filter::new(&[Atom::exact(12, Width::Two, ethertype)]).unwrap()
}

fn install(
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
    bench.kernel.received(&bench.machine, &packet(0x0806));
    bench.kernel.received(&bench.machine, &packet(0x0800));
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
            bench.kernel.received(&bench.machine, &packet(0x0800));
        }
    }
    write_list(&mut bench, &frames);
    let call = Call::FrameFree { list: LIST, count: 2 };
    assert_eq!(bench.call(call), Err(Error::FramePinned));
    bench.call(Call::RingDestroy { ring: id as u32 }).unwrap();
    write_list(&mut bench, &frames);
    bench.call(call).unwrap();
    assert_eq!(bench.call(Call::RingDestroy { ring: id as u32 }), Err(Error::NoRing));
    bench.kernel.received(&bench.machine, &packet(0x0800));
}

#[test]
fn a_filter_must_be_reserved_and_must_not_overlap() {
    let mut bench = Bench::new();
    let child = create(&mut bench, 300, 0, 100);
    install(&mut bench, child, &filter(0x0800), NO_RING).unwrap();
    let (id, _) = ring(&mut bench, 2);
    let result = install(&mut bench, EnvName::NONE, &filter(0x0800), id);
    assert_eq!(result, Err(Error::FilterOverlaps));
    let result = install(&mut bench, EnvName::NONE, &filter(0x0806), id);
    assert_eq!(result, Err(Error::NotReserved));
    let result = install(&mut bench, EnvName::NONE, &Filter::ANY, NO_RING);
    assert_eq!(result, Err(Error::FilterOverlaps), "it covers the child's");
    let call = Call::FilterRemove { filter: 0 };
    assert_eq!(bench.call(call), Err(Error::NoFilter), "the child's");
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
