//! Random filters and packets, from alphabets small enough that they meet, and the reference
//! answer to "who gets this packet?".

use filter_language::witness;
use packet_filters::{
    Atom, Filter, FilterSet, Line, Link, MAX_END, Memory, SECRET, Shape, Width, lines_for,
};
use proptest::prelude::*;
use proptest::sample::select;

/// How many filters a random set can hold.
pub(crate) const CAPACITY: usize = 24;

pub(crate) fn width() -> impl Strategy<Value = Width> {
    select(vec![Width::One, Width::Two, Width::Four])
}

fn offset() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 0u16..8, 2 => 0u16..80, 1 => 120u16..136, 1 => MAX_END - 6..=MAX_END - 4]
}

fn compare() -> impl Strategy<Value = Atom> {
    let mask = select(vec![!0u32, !0, !0, 0xf0f0_f0f0, 0x0100_00ff, 0x00ff_ff00, 0x8000_0001]);
    let value = select(vec![0u32, 0, 0x0101_0101, 0x0100_0001, 0xff80_45ff]);
    (offset(), width(), mask, value).prop_filter_map(
        "empty mask",
        |(offset, width, mask, value)| {
            let mask = mask & width.full_mask();
            (mask != 0).then_some(Atom::Compare { offset, width, mask, value: value & mask })
        },
    )
}

fn shift() -> impl Strategy<Value = Atom> {
    (0u16..6, select(vec![0x0fu8, 0x03, 0x01, 0xff]), select(vec![0u8, 0, 1, 2, 7]))
        .prop_map(|(offset, mask, shift)| Atom::Shift { offset, mask, shift })
}

fn from_atoms(atom: impl Strategy<Value = Atom>) -> impl Strategy<Value = Filter> {
    prop::collection::vec(atom, 0..6)
        .prop_filter_map("not a filter", |atoms| filter_language::filter(&atoms).ok())
}

/// A filter with or without shifts.
pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    from_atoms(prop_oneof![4 => compare(), 1 => shift()])
}

/// A filter without shifts.
pub(crate) fn straight_filter() -> impl Strategy<Value = Filter> {
    from_atoms(compare())
}

/// A list of filters, none equal to another. Most look at the same bits as a few others.
pub(crate) fn filters() -> impl Strategy<Value = Vec<Filter>> {
    let family = (filter(), prop::collection::vec(prop::collection::vec(any::<bool>(), 6), 0..9));
    let filters = prop::collection::vec(family, 0..4).prop_map(|families| {
        let family = |(filter, siblings): (Filter, Vec<Vec<bool>>)| {
            siblings.into_iter().map(move |flips| sibling(&filter, &flips)).collect::<Vec<_>>()
        };
        families.into_iter().flat_map(family).collect::<Vec<_>>()
    });
    (filters, prop::collection::vec(filter(), 0..CAPACITY / 3)).prop_map(|(families, others)| {
        let mut unique: Vec<Filter> = Vec::new();
        for filter in families.into_iter().chain(others) {
            if unique.len() < CAPACITY && !unique.contains(&filter) {
                unique.push(filter);
            }
        }
        unique
    })
}

/// The filter with other values in some of its compares.
fn sibling(filter: &Filter, flips: &[bool]) -> Filter {
    let atoms: Vec<Atom> = filter
        .atoms()
        .iter()
        .zip(flips.iter().chain(std::iter::repeat(&false)))
        .map(|(atom, flip)| match *atom {
            Atom::Compare { offset, width, mask, value } if *flip => {
                Atom::Compare { offset, width, mask, value: !value & mask }
            }
            atom => atom,
        })
        .collect();
    filter_language::filter(&atoms).expect("as valid as the other")
}

/// Bytes from the alphabet of the filters, or any.
pub(crate) fn packet() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => select(vec![0u8, 0, 1, 0x45, 0x80, 0xff]), 1 => any::<u8>()];
    prop_oneof![
        1 => Just(Vec::new()),
        8 => prop::collection::vec(byte.clone(), 0..64),
        1 => prop::collection::vec(byte, 0..4096),
    ]
}

/// A packet that the filter matches, if one was found.
pub(crate) fn matching(filter: &Filter) -> Option<Vec<u8>> {
    let mut packet = vec![0; 4 * usize::from(MAX_END)];
    let length = witness(filter, filter, &mut packet)?;
    packet.truncate(length);
    Some(packet)
}

/// The given packet, one for each filter, and that one with a byte changed and cut off.
pub(crate) fn packets_around(filters: &[Filter], packet: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = vec![packet.to_vec()];
    for filter in filters {
        let Some(exact) = matching(filter) else {
            continue;
        };
        packets.push(exact.get(..exact.len().saturating_sub(1)).unwrap_or_default().to_vec());
        let mut changed = exact.clone();
        if let Some(byte) = changed.get_mut(packet.len() % exact.len().max(1)) {
            *byte ^= 1 << (packet.len() % 8);
        }
        packets.push(changed);
        packets.push([exact.as_slice(), packet].concat());
        packets.push(exact);
    }
    packets
}

/// Who gets the packet, found by trying every filter in turn: its place in the list.
pub(crate) fn owner(filters: &[Filter], packet: &[u8]) -> Option<u32> {
    let matching = (0..).zip(filters).filter(|(_, filter)| filter.matches(packet));
    matching.min_by(|(_, a), (_, b)| a.precedence(b)).map(|(id, _)| id)
}

/// An empty set with room for so many filters and shapes, in memory that is never freed. What was in
/// it before is nonsense.
pub(crate) fn empty_set(filters: usize, shapes: usize) -> FilterSet<'static> {
    set_in(lines_for(filters), filters, shapes)
}

/// The same, with a table of so many lines.
pub(crate) fn set_in(lines: usize, filters: usize, shapes: usize) -> FilterSet<'static> {
    let secret = std::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    set_with(lines, filters, shapes, &secret)
}

/// The same, with a secret.
pub(crate) fn set_with(
    lines: usize,
    filters: usize,
    shapes: usize,
    secret: &[u64; SECRET],
) -> FilterSet<'static> {
    let memory = Memory {
        lines: Box::leak((0..lines).map(|_| Line::default()).collect()),
        links: Box::leak((0..filters).map(|_| Link::FREE).collect()),
        shapes: Box::leak((0..shapes).map(|_| Shape::FREE).collect()),
    };
    FilterSet::new(memory, secret)
}

/// The filters as a set: the id of each is its place in the list.
pub(crate) fn set_of(filters: &[Filter]) -> FilterSet<'static> {
    let mut set = empty_set(CAPACITY, CAPACITY);
    for (id, filter) in (0..).zip(filters) {
        assert_eq!(set.insert(filter), Ok(id));
    }
    set
}

/// An Ethernet frame with an IPv4 header of `words` words and eight bytes of transport header.
pub(crate) fn ipv4(protocol: u8, words: u8, source_port: u16, destination_port: u16) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x40 | words, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend([10, 0, 2, 2, 10, 0, 2, 15]);
    frame.resize(14 + 4 * usize::from(words), 0xee);
    frame.extend(source_port.to_be_bytes());
    frame.extend(destination_port.to_be_bytes());
    frame.extend([0; 4]);
    frame
}
