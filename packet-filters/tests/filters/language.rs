//! One filter: validity, canonical form, text, bytes, builder, and what it matches.

use filter_language::{Builder, Connection, ParseProblem, show};
use packet_filters::{Atom, DecodeError, Filter, FilterError, MAX_ATOMS, MAX_ENCODED, Width};
use proptest::prelude::*;

use crate::specimen::{filter, ipv4, matching, packet};

fn parse(text: &str) -> Filter {
    filter_language::parse(text).expect(text)
}

fn problem(text: &str) -> (usize, ParseProblem) {
    let error = filter_language::parse(text).expect_err(text);
    (error.at, error.problem)
}

#[test]
fn invalid_atoms_are_named() {
    let compare = |offset, width, mask, value| Atom::Compare { offset, width, mask, value };
    let shift = |offset, mask, shift| Atom::Shift { offset, mask, shift };
    let fine = Atom::exact(0, Width::One, 1);
    let cases: [(&[Atom], FilterError); 9] = [
        (&[fine; MAX_ATOMS + 1], FilterError::TooManyAtoms),
        (&[fine, compare(4, Width::Two, 0, 0)], FilterError::EmptyMask(1)),
        (&[compare(4, Width::One, 0x100, 0)], FilterError::MaskTooWide(0)),
        (&[compare(4, Width::One, 1, 2)], FilterError::ValueOutsideMask(0)),
        (&[Atom::exact(2045, Width::Four, 0)], FilterError::OffsetTooLarge(0)),
        (&[shift(2048, 1, 0), fine], FilterError::OffsetTooLarge(0)),
        (&[shift(0, 1, 8), fine], FilterError::ShiftTooLarge(0)),
        (&[fine, Atom::exact(0, Width::Two, 0x0203)], FilterError::Contradiction(1)),
        (&[fine, shift(0, 1, 0)], FilterError::TrailingShift),
    ];
    for (atoms, error) in cases {
        assert_eq!(filter_language::filter(atoms), Err(error));
    }
    let mut shifts = [shift(0, 1, 0); 6];
    shifts[5] = fine;
    assert_eq!(filter_language::filter(&shifts), Err(FilterError::TooManyShifts));
    assert!(filter_language::filter(&shifts[1..]).is_ok());
    // Fourteen sparse masks need more loads than a filter has room for.
    let sparse: Vec<Atom> = (0..14).map(|i| compare(8 * i, Width::Four, 0xff00_00ff, 0)).collect();
    assert_eq!(filter_language::filter(&sparse), Err(FilterError::TooManyAtoms));
}

#[test]
fn canonical_form_is_one_for_one_meaning() {
    let same = [
        ("13:1=0 12:1=8", "12:2=0x0800"),
        ("12:2=0x800 12:2=0x800", "12:2=0x0800"),
        ("12:4&0xff=7", "15:1=0x07"),
        ("12:4&0xff00ff00=0x01000200", "12:1=0x01 14:1=0x02"),
        ("3:1=4 1:2=0x0203", "1:2=0x0203 3:1=0x04"),
        ("0:1&0xf0=0x40 0:1&0x0f=5", "0:1=0x45"),
        ("4:4=10.0.2.15 shift(0,15,2) 1:1=1 0:1=0", "4:4=0x0a00020f shift(0,0x0f,2) 0:2=0x0001"),
        (" any ", "any"),
    ];
    for (written, canonical) in same {
        assert_eq!(show(&parse(written)).to_string(), canonical);
    }
}

#[test]
fn text_errors_name_the_place() {
    assert_eq!(problem(""), (0, ParseProblem::Empty));
    assert_eq!(problem("any 1:1=1"), (0, ParseProblem::ExpectedNumber));
    assert_eq!(problem("1:1=1 2;1=1"), (7, ParseProblem::Expected(':')));
    assert_eq!(problem("1:3=1"), (2, ParseProblem::UnknownWidth));
    assert_eq!(problem("65536:1=1"), (0, ParseProblem::NumberTooLarge));
    assert_eq!(problem("1:4=0x"), (6, ParseProblem::ExpectedNumber));
    assert_eq!(problem("1:4=99999999999999999999999"), (4, ParseProblem::NumberTooLarge));
    assert_eq!(problem("1:2=10.0.2.15"), (4, ParseProblem::QuadNeedsFourBytes));
    assert_eq!(problem("1:4=10.0.2"), (10, ParseProblem::Expected('.')));
    assert_eq!(problem("1:4=10.0.2.256"), (11, ParseProblem::NumberTooLarge));
    assert_eq!(problem("1:1=1shift(1,1,1)"), (5, ParseProblem::Expected(' ')));
    assert_eq!(problem("shift(1,1,1"), (11, ParseProblem::Expected(')')));
    let trailing = ParseProblem::Invalid(FilterError::TrailingShift);
    assert_eq!(problem("shift(1,1,1)"), (12, trailing));
    let many = "1:1=1 ".repeat(17);
    assert_eq!(problem(&many), (84, ParseProblem::Invalid(FilterError::TooManyAtoms)));
}

#[test]
fn decoding_refuses_what_is_not_the_encoding() {
    let filter = parse("12:2=0x0800 shift(14,15,2) 16:2=80");
    let good = filter_language::encode(&filter);
    let good = good.as_ref();
    assert_eq!(Filter::decode(good), Ok(filter));
    for length in 0..good.len() {
        assert_eq!(Filter::decode(&good[..length]), Err(DecodeError::Truncated));
    }
    assert_eq!(Filter::decode(&[good, &[0]].concat()), Err(DecodeError::Trailing));
    assert_eq!(Filter::decode(&[2, 0]), Err(DecodeError::UnknownVersion));
    assert_eq!(Filter::decode(&[1, 1, 3]), Err(DecodeError::UnknownAtom(0)));
    let too_many = DecodeError::Invalid(FilterError::TooManyAtoms);
    assert_eq!(Filter::decode(&[1, 17]), Err(too_many));
    let empty = DecodeError::Invalid(FilterError::EmptyMask(0));
    assert_eq!(Filter::decode(&[1, 1, 1, 0, 0, 0, 0]), Err(empty));
    // Byte 0 is 1, written as a masked load of two bytes.
    let loose = [1, 1, 2, 0, 0, 0xff, 0, 1, 0];
    assert_eq!(Filter::decode(&loose), Err(DecodeError::Invalid(FilterError::NotCanonical(0))));
}

#[test]
fn loads_need_every_byte() {
    // The width counts, not only the offset: a frame that ends inside the load does not match.
    for text in ["4:1=0", "4:2=0", "4:4=0", "4:4=0 shift(8,1,0) 3:4=0"] {
        let filter = parse(text);
        let whole = matching(&filter).expect(text);
        assert!(filter.matches(&whole));
        for length in 0..whole.len() {
            assert!(!filter.matches(&whole[..length]), "{text} at {length}");
        }
    }
    assert!(Filter::ANY.matches(&[]));
}

#[test]
fn shifts_move_the_base() {
    let filter = Builder::tcp_port(80).build().expect("a filter");
    for words in 5..16 {
        assert!(filter.matches(&ipv4(6, words, 4000, 80)), "{words}");
        assert!(!filter.matches(&ipv4(6, words, 80, 4000)), "{words}");
    }
    // A header that claims to reach past the packet.
    let mut short = ipv4(6, 5, 4000, 80);
    short[14] = 0x4f;
    assert!(!filter.matches(&short));
}

#[test]
fn builder_makes_the_usual_filters() {
    const WEB: Result<Filter, FilterError> =
        Builder::tcp_port(80).destination_ip([10, 0, 2, 15]).build();
    let web = WEB.expect("a filter");
    let text =
        "12:2=0x0800 20:2&0x1fff=0x0000 23:1=0x06 30:4=0x0a00020f shift(14,0x0f,2) 16:2=0x0050";
    assert_eq!(show(&web).to_string(), text);
    assert!(web.matches(&ipv4(6, 5, 4000, 80)));
    assert!(!web.matches(&ipv4(17, 5, 4000, 80)));

    let connection = Connection {
        remote_ip: [10, 0, 2, 2],
        remote_port: 4000,
        local_ip: [10, 0, 2, 15],
        local_port: 80,
    };
    let connection = Builder::tcp_connection(connection).build().expect("a filter");
    assert!(connection.matches(&ipv4(6, 6, 4000, 80)));
    assert!(!connection.matches(&ipv4(6, 6, 4001, 80)));
    assert!(connection.bits() > web.bits());

    let udp = Builder::udp_port(7).build().expect("a filter");
    assert!(udp.matches(&ipv4(17, 5, 1, 7)));
    let mut fragment = ipv4(17, 5, 1, 7);
    fragment[21] = 1;
    assert!(!udp.matches(&fragment));
    assert!(Builder::icmp().build().expect("a filter").matches(&ipv4(1, 5, 0, 0)));

    let arp = Builder::arp_target([10, 0, 2, 15]).build().expect("a filter");
    assert_eq!(show(&arp).to_string(), "12:2=0x0806 38:4=0x0a00020f");
    let mac = Builder::new().destination_mac([2, 0, 0, 0, 0, 9]).build().expect("a filter");
    assert_eq!(show(&mac).to_string(), "0:4=0x02000000 4:2=0x0009");
    let both = Builder::tcp_port(80).destination_port(81).build();
    assert_eq!(both, Err(FilterError::Contradiction(5)));
    let many = (0..40).fold(Builder::new(), |b, i| b.compare(Atom::exact(i, Width::One, 0)));
    assert_eq!(many.build(), Err(FilterError::TooManyAtoms));
}

proptest! {
    #[test]
    fn bytes_and_text_are_exact(filter in filter()) {
        let encoded = filter_language::encode(&filter);
        prop_assert!(encoded.as_ref().len() <= MAX_ENCODED);
        prop_assert_eq!(Filter::decode(encoded.as_ref()), Ok(filter));
        prop_assert_eq!(parse(&show(&filter).to_string()), filter);
        prop_assert_eq!(filter_language::filter(filter.atoms()), Ok(filter));
        prop_assert_eq!(Filter::new(filter.atoms()), Ok(filter));
    }

    #[test]
    fn any_bytes_are_refused_or_are_the_encoding(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        head in prop::option::of(0u8..=16),
        packet in packet(),
    ) {
        if let (Some(count), Some(start)) = (head, bytes.get_mut(..3)) {
            start.copy_from_slice(&[1, count, [1, 2, 4, 0x10][usize::from(count % 4)]]);
        }
        if let Ok(filter) = Filter::decode(&bytes) {
            prop_assert!(filter_language::encode(&filter).as_ref() == bytes);
            filter.matches(&packet);
        }
    }

    #[test]
    fn damaged_encodings_are_refused_or_are_the_encoding(
        filter in filter(), at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let mut bytes = filter_language::encode(&filter).as_ref().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Filter::decode(&bytes) {
            prop_assert_ne!(other, filter);
            prop_assert!(filter_language::encode(&other).as_ref() == bytes);
        }
    }

    #[test]
    fn any_text_is_refused_or_exact(text in "[0-9x:&=shift(),. a-f]{0,40}|\\PC{0,40}") {
        if let Ok(filter) = filter_language::parse(&text) {
            prop_assert_eq!(parse(&show(&filter).to_string()), filter);
        }
    }

    #[test]
    fn canonical_form_keeps_the_meaning(
        atoms in prop::collection::vec((0u16..6, any::<u8>(), any::<u8>()), 0..8),
        packet in packet(),
    ) {
        // One-byte atoms have no slack in their length, so they are an exact reference.
        let raw: Vec<Atom> = atoms
            .iter()
            .filter(|(_, mask, _)| *mask != 0)
            .map(|&(offset, mask, value)| Atom::Compare {
                offset,
                width: Width::One,
                mask: mask.into(),
                value: (value & mask).into(),
            })
            .collect();
        let holds = |atom: &Atom| match *atom {
            Atom::Compare { offset, mask, value, .. } => packet
                .get(usize::from(offset))
                .is_some_and(|byte| u32::from(*byte) & mask == value),
            Atom::Shift { .. } => false,
        };
        if let Ok(filter) = filter_language::filter(&raw) {
            prop_assert_eq!(filter.matches(&packet), raw.iter().all(holds));
        } else {
            prop_assert!(!raw.iter().all(holds), "only a contradiction is refused");
        }
    }
}

#[test]
fn words_of_tcpdump_make_the_builders_filters() {
    use filter_language::{ExpressionError as Error, expression};
    let web = Builder::tcp_port(80).source_ip([10, 0, 2, 2]).source_port(1234);
    for (text, builder) in [
        ("udp port 7", Builder::udp_port(7)),
        (" udp  and dst port 7 ", Builder::udp_port(7)),
        ("tcp port 80 and src host 10.0.2.2 and src port 1234", web),
        ("ip host 10.0.2.15", Builder::ethertype(0x0800).destination_ip([10, 0, 2, 15])),
        ("arp", Builder::ethertype(0x0806)),
        ("icmp", Builder::icmp()),
    ] {
        assert_eq!(expression(text), Ok(builder.build().unwrap()), "{text}");
    }
    for (text, error) in [
        ("", Error::Empty),
        ("and", Error::Empty),
        ("port 7", Error::Unknown("port")),
        ("udp harbour 7", Error::Unknown("harbour")),
        ("udp port seven", Error::Unknown("seven")),
        ("udp port 65536", Error::Unknown("65536")),
        ("udp port", Error::Incomplete("port")),
        ("udp src", Error::Incomplete("src")),
        ("icmp port 7", Error::PortOfWhat),
        ("ip host 10.0.2", Error::Unknown("10.0.2")),
        ("arp host 10.0.2.15", Error::Unknown("host")),
        ("udp port 7 port 8", Error::Invalid(FilterError::Contradiction(6))),
    ] {
        assert_eq!(expression(text), Err(error), "{text}");
    }
}
