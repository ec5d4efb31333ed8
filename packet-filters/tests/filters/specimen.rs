//! Random filters and packets, from alphabets small enough that they meet, and the reference
//! answer to "who gets this packet?".

use packet_filters::{Atom, Filter, FilterSet, MAX_END, Width, witness};
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
        .prop_filter_map("not a filter", |atoms| Filter::new(&atoms).ok())
}

/// A filter with or without shifts.
pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    from_atoms(prop_oneof![4 => compare(), 1 => shift()])
}

/// A filter without shifts.
pub(crate) fn straight_filter() -> impl Strategy<Value = Filter> {
    from_atoms(compare())
}

/// A list of filters, none equal to another, with scattered ids.
pub(crate) fn filters() -> impl Strategy<Value = Vec<(u32, Filter)>> {
    let id = prop_oneof![0u32..1000, Just(u32::MAX), any::<u32>()];
    prop::collection::vec((id, filter()), 0..CAPACITY).prop_map(|list| {
        let mut unique: Vec<(u32, Filter)> = Vec::new();
        for (id, filter) in list {
            if unique.iter().all(|other| other.0 != id && other.1 != filter) {
                unique.push((id, filter));
            }
        }
        unique
    })
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
pub(crate) fn packets_around(filters: &[(u32, Filter)], packet: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = vec![packet.to_vec()];
    for (_, filter) in filters {
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

/// Who gets the packet, found by trying every filter in turn.
pub(crate) fn owner(filters: &[(u32, Filter)], packet: &[u8]) -> Option<u32> {
    let bits = |filter: &Filter| {
        let masks = filter.atoms().iter().map(|atom| match atom {
            Atom::Compare { mask, .. } => mask.count_ones(),
            Atom::Shift { .. } => 0,
        });
        masks.sum::<u32>()
    };
    let mut best: Option<(u32, u32)> = None;
    for (id, filter) in filters.iter().filter(|(_, filter)| filter.matches(packet)) {
        let better = best.is_none_or(|(other, other_id)| {
            bits(filter) > other || bits(filter) == other && *id < other_id
        });
        if better {
            best = Some((bits(filter), *id));
        }
    }
    best.map(|(_, id)| id)
}

/// The filters as a set.
pub(crate) fn set_of(filters: &[(u32, Filter)]) -> FilterSet<CAPACITY> {
    let mut set = FilterSet::new();
    for (id, filter) in filters {
        set.insert(*id, filter).expect("unique and within the capacity");
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
