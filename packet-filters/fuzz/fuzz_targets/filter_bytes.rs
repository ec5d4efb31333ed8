//! Any bytes as a filter: they are refused, or they are what the filter that comes out is encoded
//! as, and its text says the same.
#![no_main]

use filter_language::{encode, parse, show};
use libfuzzer_sys::fuzz_target;
use packet_filters::{Filter, contains, overlaps};

fuzz_target!(|data: &[u8]| {
    let (bytes, packet) = data.split_at(data.len() - data.len() / 3);
    let Ok(filter) = Filter::decode(bytes) else { return };
    assert_eq!(encode(&filter).as_ref(), bytes);
    assert_eq!(parse(&show(&filter).to_string()), Ok(filter));
    assert_eq!(Filter::new(filter.atoms()), Ok(filter));
    assert!(contains(&filter, &filter) && contains(&Filter::ANY, &filter));
    // A filter that matches something overlaps itself; one with shifts may match nothing.
    assert!(overlaps(&filter, &filter) || !filter.matches(packet));
});
