//! The merged set as it changes, against every filter tried in turn.

use filter_language::{Builder, Connection};
use packet_filters::{Filter, InsertError, Width, lines_for, overlaps};
use proptest::prelude::*;

use crate::execution::classify;
use crate::specimen::{
    CAPACITY, empty_set, filter, filters, ipv4, owner, packet, packets_around, set_in, set_of,
    set_with,
};

fn udp(port: u16) -> Filter {
    Builder::udp_port(port).build().expect("a filter")
}

fn connection(number: u32) -> Filter {
    let [a, b, c, d] = number.to_be_bytes();
    let connection = Connection {
        remote_ip: [10, a, b, c],
        remote_port: 1024 + u16::from(d),
        local_ip: [10, 0, 2, 15],
        local_port: 80,
    };
    Builder::tcp_connection(connection).build().expect("a filter")
}

/// A key near a simple fraction of 2^64 makes the sums of ports in a row lie in a few heaps.
#[test]
fn ports_in_a_row_find_room_whatever_the_key() {
    for denominator in [1, 2, 3, 7, 50] {
        for near in [1 << 36, 1 << 44, 0x1357_9bdf_0246] {
            let key = |place: usize| (u64::MAX / denominator).wrapping_add(near + place as u64);
            let mut set = set_with(lines_for(16_128), 16_128, 8, &std::array::from_fn(key));
            for port in 10_000..15_000 {
                let filter = Builder::udp_port(4020).source_port(port).build().expect("a filter");
                assert!(
                    set.insert(&filter).is_ok(),
                    "port {port} with 2^64/{denominator} + {near}"
                );
            }
        }
    }
}

#[test]
fn the_most_specific_filter_wins() {
    let mut set = empty_set(4, 4);
    let port = Builder::tcp_port(80);
    let build = |builder: Builder| builder.build().expect("a filter");
    let mut insert = |filter: &Filter| set.insert(filter).expect("room");
    let any = insert(&Filter::ANY);
    let listener = insert(&build(port));
    let from = insert(&build(port.source_port(9)));
    let marked = insert(&build(port.transport_compare(8, Width::Two, 0)));
    let mut other = ipv4(6, 5, 8, 80);
    other.extend([0; 2]);
    other[42] = 1;
    assert_eq!(classify(&mut set, &other), Some(listener));
    // Two that pin the same number of bits: the one that takes fewer loads.
    let mut both = ipv4(6, 5, 9, 80);
    both.extend([0; 2]);
    assert_eq!(classify(&mut set, &both), Some(from));
    assert_eq!(classify(&mut set, &ipv4(6, 5, 9, 81)), Some(any));
    set.remove(from).expect("installed");
    assert_eq!(classify(&mut set, &both), Some(marked));
    set.remove(any).expect("installed");
    assert_eq!(classify(&mut set, &[]), None);
}

#[test]
fn insertion_errors_change_nothing() {
    let mut set = empty_set(2, 1);
    assert_eq!(set.insert(&udp(7)), Ok(0));
    assert_eq!(set.insert(&udp(7)), Err(InsertError::Duplicate(0)));
    assert_eq!(set.insert(&Filter::ANY), Err(InsertError::TooManyShapes));
    assert_eq!(set.insert(&udp(8)), Ok(1));
    assert_eq!(set.insert(&udp(9)), Err(InsertError::Full));
    assert_eq!(set.remove(9), None);
    assert_eq!((set.remove(0), set.get(0)), (Some(udp(7)), None));
    assert_eq!((set.remove(0), set.get(1)), (None, Some(udp(8))));
    // The place of a shape is free for another only when code that knows it has been replaced.
    set.remove(1).expect("installed");
    assert_eq!(set.insert(&Filter::ANY), Err(InsertError::TooManyShapes));
    set.compile(&mut [0; 4096]).expect("large enough");
    assert_eq!(set.insert(&Filter::ANY), Ok(1));
    assert_eq!(empty_set(0, 1).insert(&Filter::ANY), Err(InsertError::Full));
    assert_eq!(set_in(0, 9, 9).insert(&Filter::ANY), Err(InsertError::Full));
}

#[test]
fn a_table_that_is_too_small_fills_up() {
    let mut set = set_in(5 + 10 * 5 + 4, 1000, 2);
    let room = (0..1000).take_while(|number| set.insert(&connection(*number)).is_ok()).count();
    assert!((20..=50).contains(&room), "{room} in ten buckets, two of which are homes");
    let all: Vec<u32> = (0..room as u32).collect();
    assert!(all.iter().all(|id| set.get(*id) == Some(connection(*id))));
    assert!(all.iter().all(|id| set.remove(*id).is_some()));
    // No count of who passed a bucket is left.
    let again = (0..1000).take_while(|number| set.insert(&connection(*number)).is_ok()).count();
    assert_eq!(again, room);
}

#[test]
fn a_table_of_the_recommended_size_has_room() {
    let mut set = empty_set(20_000, 2);
    for number in 0..20_000 {
        assert_eq!(set.insert(&connection(number)), Ok(number));
    }
    assert_eq!(set.insert(&connection(20_000)), Err(InsertError::Full));
    let general = Builder::tcp_port(80).build().expect("a filter");
    assert_eq!(set.overlap(&general, |id| id == 77), Some(77));
    assert_eq!(set.overlap(&connection(5), |_| true), Some(5));
    assert_eq!(set.overlap(&connection(20_000), |_| true), None);
    assert_eq!(set.overlap(&udp(80), |_| true), None);
}

proptest! {
    #[test]
    fn overlap_agrees_with_asking_every_filter(filters in filters(), other in filter()) {
        let set = set_of(&filters);
        let asked = filters.first().into_iter().chain([&other]);
        for filter in asked {
            for (id, member) in (0..).zip(&filters) {
                let found = set.overlap(filter, |candidate| candidate == id);
                prop_assert_eq!(found.is_some(), overlaps(member, filter));
            }
        }
    }

    #[test]
    fn churn_leaves_exactly_what_was_not_removed(
        pool in filters(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0..3), 0..80),
        packet in packet(),
    ) {
        let mut set = empty_set(6, CAPACITY);
        let mut model: Vec<(u32, Filter)> = Vec::new();
        let mut code = vec![0; packet_filters::code_for(CAPACITY)];
        for (pick, step) in steps.into_iter().filter(|_| !pool.is_empty()) {
            let filter = pool[pick.index(pool.len())];
            let place = model.iter().position(|(_, other)| *other == filter);
            match (step, place) {
                (0, _) => drop(set.compile(&mut code)),
                (1, Some(place)) => prop_assert_eq!(set.remove(model.remove(place).0), Some(filter)),
                (_, Some(place)) => {
                    let of = model[place].0;
                    prop_assert_eq!(set.insert(&filter), Err(InsertError::Duplicate(of)));
                }
                (_, None) if model.len() == 6 => {
                    prop_assert_eq!(set.insert(&filter), Err(InsertError::Full));
                }
                (_, None) => match set.insert(&filter) {
                    Ok(id) => model.push((id, filter)),
                    Err(error) => prop_assert_eq!(error, InsertError::TooManyShapes),
                },
            }
        }
        let filters: Vec<Filter> = model.iter().map(|(_, filter)| *filter).collect();
        for (id, filter) in &model {
            prop_assert_eq!(set.get(*id), Some(*filter));
        }
        for packet in packets_around(&filters, &packet) {
            let expected = owner(&filters, &packet).map(|place| model[place as usize].0);
            prop_assert_eq!(classify(&mut set, &packet), expected);
        }
    }
}
