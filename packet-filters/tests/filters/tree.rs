//! The merged set, interpreted, against every filter tried in turn.

use packet_filters::{Builder, Filter, FilterSet, InsertError};
use proptest::prelude::*;

use crate::specimen::{filter, filters, ipv4, owner, packet, packets_around, set_of};

#[test]
fn the_most_specific_filter_wins() {
    let mut set = FilterSet::<4>::new();
    let port = Builder::tcp_port(80);
    let build = |builder: Builder| builder.build().expect("a filter");
    set.insert(1, &Filter::ANY).expect("room");
    set.insert(2, &build(port)).expect("room");
    set.insert(9, &build(port.source_port(9))).expect("room");
    set.insert(5, &build(port.transport_compare(4, packet_filters::Width::Two, 0))).expect("room");
    let mut other = ipv4(6, 5, 8, 80);
    other[39] = 1;
    assert_eq!(set.classify(&other), Some(2));
    // Two that pin the same number of bits: the lower id.
    assert_eq!(set.classify(&ipv4(6, 5, 9, 80)), Some(5));
    assert_eq!(set.classify(&ipv4(6, 5, 9, 81)), Some(1));
    set.remove(5).expect("installed");
    assert_eq!(set.classify(&ipv4(6, 5, 9, 80)), Some(9));
    set.remove(1).expect("installed");
    assert_eq!(set.classify(&[]), None);
}

#[test]
fn insertion_errors_change_nothing() {
    let mut set = FilterSet::<2>::new();
    let filter = |port| Builder::udp_port(port).build().expect("a filter");
    assert_eq!(set.insert(7, &filter(7)), Ok(()));
    assert_eq!(set.insert(7, &filter(8)), Err(InsertError::IdInUse));
    assert_eq!(set.insert(8, &filter(7)), Err(InsertError::Duplicate { of: 7 }));
    assert_eq!(set.insert(8, &filter(8)), Ok(()));
    assert_eq!(set.insert(9, &filter(9)), Err(InsertError::Full));
    assert_eq!(set.remove(9), None);
    assert_eq!(set.len(), 2);
    let udp = Builder::ipv4(17).build().expect("a filter");
    assert_eq!(set.overlapping(&udp).map(|(id, _)| id).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(set.overlapping(&filter(8)).map(|(id, _)| id).collect::<Vec<_>>(), [8]);
    assert_eq!(set.remove(7), Some(filter(7)));
    assert_eq!(set.get(7), None);
    assert_eq!(set.get(8), Some(&filter(8)));
    assert_eq!(FilterSet::<0>::new().insert(1, &udp), Err(InsertError::Full));
}

proptest! {
    #[test]
    fn the_tree_agrees_with_trying_every_filter(filters in filters(), packet in packet()) {
        let set = set_of(&filters);
        for packet in packets_around(&filters, &packet) {
            prop_assert_eq!(set.classify(&packet), owner(&filters, &packet));
        }
    }

    #[test]
    fn churn_leaves_exactly_what_was_not_removed(
        steps in prop::collection::vec((0u32..10, prop::option::of(filter())), 0..60),
        packet in packet(),
    ) {
        let mut set = FilterSet::<6>::new();
        let mut model: Vec<(u32, Filter)> = Vec::new();
        for (id, step) in steps {
            let place = model.iter().position(|(other, _)| *other == id);
            let Some(filter) = step else {
                let expected = place.map(|place| model.remove(place).1);
                prop_assert_eq!(set.remove(id), expected);
                continue;
            };
            let twin = model.iter().find(|(_, other)| *other == filter);
            let expected = match (place, twin) {
                (Some(_), _) => Err(InsertError::IdInUse),
                (None, Some(twin)) => Err(InsertError::Duplicate { of: twin.0 }),
                (None, None) if model.len() == 6 => Err(InsertError::Full),
                (None, None) => {
                    model.push((id, filter));
                    Ok(())
                }
            };
            prop_assert_eq!(set.insert(id, &filter), expected);
        }
        let mut listed: Vec<_> = set.iter().map(|(id, filter)| (id, *filter)).collect();
        listed.sort_by_key(|(id, _)| *id);
        model.sort_by_key(|(id, _)| *id);
        prop_assert_eq!(&listed, &model);
        for packet in packets_around(&model, &packet) {
            prop_assert_eq!(set.classify(&packet), owner(&model, &packet));
        }
    }
}
