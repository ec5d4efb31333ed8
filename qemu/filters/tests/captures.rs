//! Rules over a capture, and the picture of what was merged.

use std::path::{Path, PathBuf};

use filter_tools::capture;
use filter_tools::overlap::overlaps;
use filter_tools::picture::Picture;
use filter_tools::rule::{self, Merge, Rule};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn services() -> Vec<Rule> {
    rule::read(&[file("services.rules").display().to_string()]).unwrap()
}

#[test]
fn each_packet_of_a_capture_goes_to_who_wants_it() {
    let (rules, packets) = (services(), capture::read(&file("traffic.pcap")).unwrap());
    let mut merge = Merge::of(&rules).unwrap();
    merge.merged.compile().unwrap();
    let mut totals = vec![0; rules.len() + 1];
    for packet in &packets {
        let owner = merge.owner(&rules, packet).unwrap().map(|(owner, _)| owner);
        let wanted = |rule: &Rule| rule.filters.iter().any(|filter| filter.matches(packet));
        assert_eq!(owner, rules.iter().position(wanted));
        totals[owner.unwrap_or(rules.len())] += 1;
    }
    assert_eq!(totals.iter().sum::<usize>(), 200);
    assert!(totals.iter().all(|total| *total > 0), "{totals:?}");
}

#[test]
fn what_is_no_capture_is_refused() {
    let error = format!("{:#}", capture::read(&file("services.rules")).unwrap_err());
    assert!(error.contains("not a capture"), "{error}");
    assert!(format!("{:#}", capture::read(&file("nothing")).unwrap_err()).contains("nothing"));
}

#[test]
fn a_picture_of_ten_thousand_filters_is_folded() {
    let mut rules = services();
    for number in 0..10_000u32 {
        let text =
            format!("12:2=0x0800 23:1=6 26:4={number} shift(14,0x0f,2) 14:2={}", number % 999);
        rules.push(Rule::parse(&format!("c<{number}>"), &text).unwrap());
    }
    let mut merge = Merge::of(&rules).unwrap();
    let parts = merge.merged.compile().unwrap();
    let hits: Vec<u64> = (0..merge.owners.len() as u64).collect();
    let names = |id: u32| rules[merge.owners[id as usize]].name.clone();
    let draw = |unfolded| {
        let (code, hits) = (merge.merged.code(), Some(&hits[..]));
        Picture { parts: &parts, code, names: &names, hits, unfolded }.draw()
    };
    let picture = draw(false);
    assert!(picture.contains("10000 filters in the table, by 26:4, 14:2"), "{picture}");
    assert!(picture.contains("… and 9996 more") && picture.contains("c&lt;9999&gt;"));
    assert!(picture.contains(">  ssh") && picture.len() < 60_000, "{}", picture.len());
    assert!(draw(true).contains("c&lt;5000&gt;"));
}

#[test]
fn rules_are_read_in_every_form() {
    let own = Rule::parse("own", "12:2=0x0800 23:1=6 | 12:2=0x0806").unwrap();
    assert_eq!((own.filters.len(), own.residual.is_none()), (2, true));
    let classic =
        Rule::parse("classic", "4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0").unwrap();
    assert_eq!(filter_language::show(&classic.filters[0]).to_string(), "12:2=0x0806");
    let long = Rule::parse("long", "tcp dst port 80 and greater 100").unwrap();
    assert!(long.residual.is_some());
    let mut packet = capture::read(&file("traffic.pcap")).unwrap().swap_remove(0);
    packet.resize(120, 0);
    assert!(long.confirms(&packet).is_ok());
    let error = format!("{:#}", Rule::parse("wrong", "12:2=0x10000").unwrap_err());
    assert!(error.contains("outside the mask"), "{error}");
}

#[test]
fn an_overlap_names_the_rule_and_shows_a_packet() {
    let rules = [
        "12:2=0x0800 23:1=0x11",
        "12:2=0x0800 23:1=0x06 shift(14,0x0f,2) 16:2=0x0050",
        "12:2=0x0800 23:1=0x06 26:4=0x0a000202",
        "12:2=0x0806",
    ];
    let rules: Vec<Rule> = rules.iter().map(|text| Rule::parse(text, text).unwrap()).collect();
    let found = overlaps(&rules).unwrap();
    let [overlap] = &found[..] else { panic!("{found:?}") };
    assert_eq!(overlap.rules.map(|rule| &rule.name), [&rules[1].name, &rules[2].name]);
    let packet = overlap.packet.as_ref().unwrap();
    assert!(overlap.filters.iter().all(|filter| filter.matches(packet)));
    let text = overlap.to_string();
    for wanted in ["`12:2=0x0800 23:1=0x06 26:4=0x0a000202` overlaps", "\n  0000  ", "10.0.2.2"] {
        assert!(text.contains(wanted), "{text}");
    }
    // Those of one rule may overlap, and what was refused elsewhere is no rule's.
    let own = Rule::parse("own", "12:2=0x0800 | 12:2=0x0800 23:1=0x06").unwrap();
    assert!(overlaps(&[own]).unwrap().is_empty());
}
