//! Filters that come and go: the code of the set against every filter tried in turn, and what is
//! said of overlap and containment against what matches.
#![no_main]

use std::mem;

use filter_language::{encode, witness};
use libfuzzer_sys::fuzz_target;
use memmap2::MmapMut;
use packet_filters::{
    Atom, Classifier, Filter, FilterSet, InsertError, Line, Link, Memory, SECRET, Shape, Width,
    code_for, contains, lines_for, overlaps, verdict,
};

const FILTERS: usize = 24;
const SHAPES: usize = 12;

/// The bytes that decide.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A filter that looks at few places, so that filters have much in common.
    fn filter(&mut self) -> Option<Filter> {
        let mut atoms = Vec::new();
        for _ in 0..self.next()? % 6 {
            let kind = self.next()?;
            let offset = u16::from(self.next()? % 24);
            let (mask, value) = (self.next()?, self.next()?);
            atoms.push(if kind % 8 == 7 {
                Atom::Shift { offset, mask: mask & 15, shift: value % 3 }
            } else {
                let width = [Width::One, Width::Two, Width::Four][usize::from(kind % 3)];
                let mask = [0xff, 0xffff, 0xffff_ffff, 0x1fff, 0x00ff_00f0][usize::from(mask % 5)];
                let mask = mask & width.full_mask();
                let value = u32::from(value % 4) * 0x0101_0101 & mask;
                Atom::Compare { offset, width, mask, value }
            });
        }
        filter_language::filter(&atoms).ok()
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let (mut lines, mut links, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
    lines.resize_with(lines_for(FILTERS), Line::default);
    links.resize_with(FILTERS, || Link::FREE);
    shapes.resize_with(SHAPES, || Shape::FREE);
    let memory = Memory { lines: &lines, links: &mut links, shapes: &mut shapes };
    let secret: [u64; SECRET] =
        std::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut set = FilterSet::new(memory, &secret);
    let mut model: Vec<(u32, Filter)> = Vec::new();
    while let Some(step) = choices.next() {
        match step % 8 {
            0..5 => {
                let Some(filter) = choices.filter() else { continue };
                assert_eq!(Filter::decode(encode(&filter).as_ref()), Ok(filter));
                pairs(&model, &filter, &set);
                insert(&mut model, &mut set, filter);
            }
            5 if !model.is_empty() => {
                let (id, filter) = model.remove(usize::from(step / 8) % model.len());
                assert_eq!(set.remove(id), Some(filter));
            }
            _ => compare(&mut set, &model, choices.0),
        }
    }
});

fn insert(model: &mut Vec<(u32, Filter)>, set: &mut FilterSet<'_>, filter: Filter) {
    let same = model.iter().find(|(_, other)| *other == filter).map(|(id, _)| *id);
    match set.insert(&filter) {
        Ok(id) => {
            assert!(same.is_none() && model.iter().all(|(other, _)| *other != id));
            model.push((id, filter));
        }
        Err(InsertError::Duplicate(of)) => assert_eq!(same, Some(of)),
        Err(InsertError::Full) => assert_eq!(model.len(), FILTERS),
        Err(InsertError::TooManyShapes) => assert!(model.len() < FILTERS && same.is_none()),
    }
}

/// What is said of the filter and each other one has to be true of the packets that show it.
fn pairs(model: &[(u32, Filter)], filter: &Filter, set: &FilterSet<'_>) {
    for (id, other) in model {
        let found = set.overlap(filter, |candidate| candidate == *id);
        assert_eq!(found.is_some(), overlaps(filter, other));
        let mut packet = vec![0; 8192];
        if let Some(length) = witness(filter, other, &mut packet) {
            let packet = &packet[..length];
            assert!(filter.matches(packet) && other.matches(packet) && overlaps(filter, other));
        }
        if let Some(length) = witness(filter, filter, &mut packet) {
            assert!(!contains(other, filter) || other.matches(&packet[..length]));
        }
    }
}

/// The code against trying every filter, on the bytes that are left and on a packet for each filter.
fn compare(set: &mut FilterSet<'_>, model: &[(u32, Filter)], rest: &[u8]) {
    let mut pages = MmapMut::map_anon(code_for(SHAPES)).expect("memory");
    set.compile(&mut pages).expect("large enough");
    let pages = pages.make_exec().expect("memory that can be executed");
    // SAFETY: the pages hold the code of this set.
    let classify: Classifier = unsafe { mem::transmute(pages.as_ptr()) };
    let mut packets = vec![rest.to_vec()];
    for (_, filter) in model {
        let mut packet = vec![0; 8192];
        if let Some(length) = witness(filter, filter, &mut packet) {
            packet.truncate(length);
            packets.push(packet[..length.saturating_sub(1)].to_vec());
            packets.push([&packet, rest].concat());
            packets.push(packet);
        }
    }
    for packet in packets {
        let matching = model.iter().filter(|(_, filter)| filter.matches(&packet));
        let wanted = matching.min_by(|(_, a), (_, b)| a.precedence(b)).map(|(id, _)| *id);
        // SAFETY: the packet is as long as is said, and the table is that of the set.
        let found = unsafe { classify(packet.as_ptr(), packet.len() as u64, set.table()) };
        assert_eq!(verdict(found), wanted);
    }
}
