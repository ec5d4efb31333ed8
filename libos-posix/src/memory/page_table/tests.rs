//! Every page table against a map.

use super::*;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec;

const PAGES: u32 = 300;

/// Each kind of table with so many places for entries.
fn tables(places: usize) -> [Box<dyn PageTable>; 3] {
    [
        Box::new(Linear::new(vec![7; PAGES as usize].leak())),
        Box::new(Hashed::new(vec![Slot::default(); places].leak(), PAGES)),
        Box::new(Extents::new(vec![Extent::default(); places].leak(), PAGES)),
    ]
}

fn stored(name: u32) -> Entry {
    Entry { place: Place::Stored(CopyName(name)), ..Entry::default() }
}

#[test]
fn entries_are_what_was_packed() {
    let name = (1 << NAME_BITS) - 1;
    for place in
        [Place::Zero, Place::Stored(CopyName(name)), Place::Resident(Seat(name)), Place::Lost]
    {
        for protection in [Protection::ReadWrite, Protection::Read, Protection::None] {
            let entry = Entry { place, protection };
            assert_eq!(Entry::from_word(entry.to_word()), entry);
        }
    }
    assert_eq!(Entry::default().to_word(), 0);
}

#[test]
fn pages_behind_the_last_are_not_there() {
    for mut table in tables(64) {
        assert_eq!(table.set(PageIndex(PAGES), stored(1)), Ok(()));
        assert_eq!(table.protect(PAGES - 1..u32::MAX, Protection::None), Ok(()));
        assert_eq!(table.get(PageIndex(PAGES)), Entry::default());
        assert_eq!(table.get(PageIndex(u32::MAX)), Entry::default());
        assert_eq!(table.next(0..u32::MAX), Some(PageIndex(PAGES - 1)));
        assert_eq!(table.next(PAGES..u32::MAX), None);
    }
}

#[test]
fn tables_without_memory_refuse() {
    let mut hashed = Hashed::new(&mut [], PAGES);
    assert_eq!(hashed.set(PageIndex(1), stored(1)), Err(TableFull));
    assert_eq!((hashed.get(PageIndex(1)), hashed.next(0..PAGES)), (Entry::default(), None));
    let mut extents = Extents::new(&mut [], PAGES);
    assert_eq!(extents.set(PageIndex(1), stored(1)), Err(TableFull));
    assert_eq!((extents.get(PageIndex(1)), extents.next(0..PAGES)), (Entry::default(), None));
}

#[test]
fn a_huge_guard_is_one_run() {
    let mut nodes = [Extent::default(); 8];
    let mut table = Extents::new(&mut nodes, 1 << 28);
    table.protect(1000..1 << 27, Protection::None).unwrap();
    assert_eq!(table.runs(), 1);
    assert_eq!(table.next(0..1 << 28), Some(PageIndex(1000)));
    table.protect(5000..6000, Protection::ReadWrite).unwrap();
    assert_eq!((table.runs(), table.next(5500..1 << 28)), (2, Some(PageIndex(6000))));
    // What is populated in order is one run, too.
    for page in 0..500 {
        table.set(PageIndex(5100 + page), stored(page)).unwrap_or_else(|_| {
            assert!(page >= 4, "as many as there are nodes");
        });
    }
    assert_eq!(table.runs(), 3);
}

#[test]
fn pages_in_order_are_one_run_in_whatever_order_they_come() {
    let mut nodes = [Extent::default(); 200];
    let mut table = Extents::new(&mut nodes, PAGES);
    for page in (0..100).map(|step| step * 37 % 100) {
        table.set(PageIndex(page), stored(page + 5)).unwrap();
    }
    assert_eq!(table.runs(), 1);
    table.set(PageIndex(50), stored(1)).unwrap();
    assert_eq!(table.runs(), 3);
    assert_eq!(table.get(PageIndex(51)), stored(56));
    (0..100).for_each(|page| table.set(PageIndex(page), Entry::default()).unwrap());
    assert_eq!(table.runs(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Set(u32, Place),
    Clear(u32),
    Protect(u32, u32, Protection),
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Lost),
        (0..8_u32).prop_map(|name| Place::Stored(CopyName(name))),
        // Seats that follow one another as the pages do.
        Just(Place::Resident(Seat(1000))),
    ]
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![Just(Protection::ReadWrite), Just(Protection::Read), Just(Protection::None)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..PAGES, place()).prop_map(|(page, place)| Step::Set(page, place)),
        2 => (0..PAGES).prop_map(Step::Clear),
        1 => (0..PAGES, 1..60_u32, protection())
            .prop_map(|(page, count, protection)| Step::Protect(page, count, protection)),
    ]
}

/// Sets an entry here and there; what is refused is as it was.
fn set(
    table: &mut dyn PageTable,
    model: &mut BTreeMap<u32, Entry>,
    page: u32,
    change: impl Fn(Entry) -> Entry,
) -> Result<(), TestCaseError> {
    let before = model.get(&page).copied().unwrap_or_default();
    let entry = change(before);
    match table.set(PageIndex(page), entry) {
        Ok(()) if entry == Entry::default() => drop(model.remove(&page)),
        Ok(()) => drop(model.insert(page, entry)),
        Err(TableFull) => prop_assert!(!before.is_populated(), "a promise was broken"),
    }
    Ok(())
}

fn check(table: &mut dyn PageTable, places: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model = BTreeMap::new();
    for step in steps {
        match *step {
            Step::Set(page, place) => {
                let place = match place {
                    Place::Resident(Seat(first)) => Place::Resident(Seat(first + page)),
                    other => other,
                };
                set(table, &mut model, page, |entry| Entry { place, ..entry })?;
            }
            Step::Clear(page) => {
                set(table, &mut model, page, |entry| Entry { place: Place::Zero, ..entry })?
            }
            Step::Protect(page, count, protection) => {
                let done = table.protect(page..page + count, protection);
                for page in page..(page + count).min(PAGES) {
                    let before: Entry = model.get(&page).copied().unwrap_or_default();
                    let entry = table.get(PageIndex(page));
                    let changed = Entry { protection, ..before };
                    prop_assert!(entry == changed || done.is_err() && entry == before);
                    if entry == Entry::default() {
                        model.remove(&page);
                    } else {
                        model.insert(page, entry);
                    }
                }
            }
        }
        let mut next = 0;
        for (&page, &entry) in &model {
            prop_assert_eq!(table.next(next..PAGES), Some(PageIndex(page)));
            prop_assert_eq!(table.get(PageIndex(page)), entry);
            next = page + 1;
        }
        prop_assert_eq!(table.next(next..PAGES), None);
        prop_assert!(model.len() <= places.max(PAGES as usize));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_page_table_is_a_map(
        places in prop_oneof![8..64_usize, Just(1024)],
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        for mut table in tables(places) {
            check(&mut *table, places, &steps)?;
        }
    }
}
