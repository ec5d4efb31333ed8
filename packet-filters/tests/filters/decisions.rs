//! Overlap, witness and containment.

use filter_language::{Builder, witness};
use packet_filters::{Filter, MAX_END, contains, overlaps};
use proptest::prelude::*;

use crate::specimen::{filter, packet, packets_around, straight_filter};

fn parse(text: &str) -> Filter {
    filter_language::parse(text).expect(text)
}

#[test]
fn overlap_is_decided_by_bits() {
    let cases = [
        ("12:2=0x0800", "12:2=0x0806", false),
        ("12:1=8", "13:1=0", true),
        // The same question asked with different loads.
        ("12:4=0x08004500", "14:1=0x46", false),
        ("12:2&0xff00=0x0800", "12:2&0x00ff=0x06", true),
        ("0:1&0xf0=0x40", "0:1&0x1f=0x05", true),
        ("0:1&0xf0=0x40", "0:1&0x1f=0x15", false),
        ("any", "0:1=0", true),
        // Behind the same shift, values can be told apart; behind different ones they cannot.
        ("shift(14,15,2) 16:2=80", "shift(14,15,2) 16:2=81", false),
        ("shift(14,15,2) 16:2=80", "shift(14,15,3) 16:2=81", true),
        ("shift(14,15,2) 16:2=80", "16:2=81", true),
        ("0:1=1 shift(14,15,2) 16:2=80", "0:1=2 shift(14,15,3) 16:2=81", false),
        ("shift(0,1,0) shift(0,1,0) 5:1=1", "shift(0,1,0) shift(0,3,0) 5:1=2", true),
    ];
    for (a, b, expected) in cases {
        assert_eq!(overlaps(&parse(a), &parse(b)), expected, "{a} | {b}");
        assert_eq!(overlaps(&parse(b), &parse(a)), expected, "{b} | {a}");
        let mut packet = [0; 64];
        assert_eq!(witness(&parse(a), &parse(b), &mut packet).is_some(), expected, "{a} | {b}");
    }
}

#[test]
fn containment_authorises_and_refuses() {
    let port = Builder::tcp_port(80).build().expect("a filter");
    let cases = [
        (Builder::tcp_port(80), true),
        (Builder::tcp_port(80).destination_ip([10, 0, 2, 15]), true),
        (Builder::tcp_port(80).source_port(9), true),
        (Builder::tcp_port(81), false),
        (Builder::udp_port(80), false),
        (Builder::ipv4(6).destination_port(80), false),
        (Builder::ethertype(0x0800), false),
        (Builder::new(), false),
    ];
    for (builder, expected) in cases {
        let filter = builder.build().expect("a filter");
        assert_eq!(contains(&port, &filter), expected, "{filter:?}");
        assert!(contains(&Filter::ANY, &filter));
    }
    // Wanting the port at a fixed place, or behind another shift, is a different claim.
    assert!(!contains(&port, &parse("12:2=0x0800 20:2&0x1fff=0 23:1=6 36:2=80")));
    assert!(!contains(&parse("shift(0,1,0) 4:1=1"), &parse("shift(0,3,0) 4:1=1")));
    assert!(!contains(&parse("0:1=1"), &parse("0:1&0xfe=0")));
}

#[test]
fn witness_respects_a_pinned_shift_byte() {
    let filter = parse("14:1=0x45 shift(14,0x0f,2) 16:2=80");
    let mut packet = [0xaa; 64];
    assert_eq!(witness(&filter, &filter, &mut packet), Some(38));
    assert_eq!(packet[14], 0x45);
    assert_eq!(witness(&filter, &filter, &mut packet[..37]), None);
    // Both conditions fall on one byte whatever the shift is, which only a search could tell.
    let aliased = parse("0:1=0 3:1=1 shift(0,15,2) 3:1=2");
    assert!(overlaps(&aliased, &aliased));
    assert_eq!(witness(&aliased, &aliased, &mut packet), None);
}

proptest! {
    #[test]
    fn without_shifts_overlap_is_exact(
        a in straight_filter(), b in straight_filter(), packet in packet(),
    ) {
        let mut shown = [0; MAX_END as usize];
        match witness(&a, &b, &mut shown) {
            Some(length) => {
                prop_assert!(overlaps(&a, &b));
                prop_assert!(a.matches(&shown[..length]) && b.matches(&shown[..length]));
            }
            None => prop_assert!(!overlaps(&a, &b)),
        }
        prop_assert!(overlaps(&a, &b) || !(a.matches(&packet) && b.matches(&packet)));
    }

    #[test]
    fn answers_are_never_wrong_on_the_unsafe_side(
        a in filter(), b in filter(), packet in packet(),
    ) {
        for packet in packets_around(&[a, b], &packet) {
            let (in_a, in_b) = (a.matches(&packet), b.matches(&packet));
            prop_assert!(overlaps(&a, &b) || !(in_a && in_b));
            prop_assert!(!contains(&a, &b) || in_a || !in_b);
        }
        if contains(&a, &b) {
            prop_assert!(a.bits() <= b.bits() && b.precedence(&a).is_le());
            prop_assert!(overlaps(&a, &b));
        }
        prop_assert!(contains(&a, &a));
    }

    #[test]
    fn more_atoms_are_contained(a in filter(), b in straight_filter()) {
        // Compares of `b` put before those of `a` count from the same base as the first of `a`.
        let atoms: Vec<_> = b.atoms().iter().chain(a.atoms()).copied().collect();
        if let Ok(narrow) = filter_language::filter(&atoms) {
            prop_assert!(contains(&a, &narrow));
            prop_assert!(contains(&b, &narrow));
        }
    }
}
