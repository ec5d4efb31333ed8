//! Random sequences of calls against a model, with every invariant checked after each step.

mod fake;
mod world;

use exo_abi::layout::{LOSS_RING, LOST_FRAMES, LOST_NAMES};
use exo_abi::request::BindRequest;
use exo_abi::upcall::FaultCode;
use exo_abi::{Error, FrameNumber, Kind, Rights};
use fake::{Access, FakeMachine};
use proptest::prelude::*;
use secure_bindings::{Refill, refill};
use world::{FRAMES, SPACES, World};

/// One call.
#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    GiveUp(u32, bool),
    Create(u16, usize),
    Destroy(u16),
    Donate(u16, u32),
    Undonate(u16),
    Bind { space: u16, page: u64, frame: u32, count: u64, rights: Rights },
    Unbind(u16, u64, u64),
    Protect(u16, u64, u64, Rights),
    Touch(u16, u64, u64, Access),
    Translate(u16, u64, Rights),
}

fn space() -> impl Strategy<Value = u16> {
    0..SPACES
}

/// Pages in places so far apart that they share no tables, or only some.
fn page() -> impl Strategy<Value = u64> {
    let base = prop::sample::select(vec![
        0x1000,
        0x1f_f000,
        0x4000_0000,
        0x10_0000_0000,
        0x8000_0000_0000 - 0x181_0000_0000,
    ]);
    (base, 0_u64..60).prop_map(|(base, step)| base + step * 4096)
}

fn frame() -> impl Strategy<Value = u32> {
    prop_oneof![1_u32..FRAMES as u32, 120_u32..160]
}

fn rights() -> impl Strategy<Value = Rights> {
    prop::sample::select(vec![
        Rights::READ,
        Rights::READ,
        Rights::READ | Rights::WRITE,
        Rights::READ | Rights::WRITE,
        Rights::READ | Rights::EXECUTE,
        Rights::READ | Rights::WRITE | Rights::WIRED,
        Rights::empty(),
        Rights::READ | Rights::WRITE | Rights::EXECUTE,
    ])
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::Read, Access::Write, Access::Fetch])
}

fn step() -> impl Strategy<Value = Step> {
    let any_frame = prop_oneof![Just(u32::MAX), 0..FRAMES as u32 + 3];
    prop_oneof![
        3 => any_frame.prop_map(Step::Allocate),
        3 => (frame(), any::<bool>()).prop_map(|(frame, force)| Step::GiveUp(frame, force)),
        1 => (space(), 0_usize..6).prop_map(|(space, spare)| Step::Create(space, spare)),
        1 => space().prop_map(Step::Destroy),
        1 => (space(), frame()).prop_map(|(space, frame)| Step::Donate(space, frame)),
        1 => space().prop_map(Step::Undonate),
        8 => (space(), page(), frame(), 1_u64..50, rights()).prop_map(
            |(space, page, frame, count, rights)| Step::Bind { space, page, frame, count, rights }
        ),
        3 => (space(), page(), prop_oneof![0_u64..40, Just(u64::MAX), Just(1 << 36)])
            .prop_map(|(space, page, count)| Step::Unbind(space, page, count)),
        3 => (space(), page(), 0_u64..10, rights())
            .prop_map(|(space, page, count, rights)| Step::Protect(space, page, count, rights)),
        8 => (space(), page(), 1_u64..40, access())
            .prop_map(|(space, page, count, access)| Step::Touch(space, page, count, access)),
        2 => (space(), page(), rights())
            .prop_map(|(space, page, rights)| Step::Translate(space, page, rights)),
    ]
}

fn run(world: &mut World<'_>, step: &Step) {
    match *step {
        Step::Allocate(frame) => drop(world.allocate(FrameNumber(frame), 5)),
        Step::GiveUp(frame, force) => world.give_up(FrameNumber(frame), force),
        Step::Create(space, spare) => world.create(space, spare).unwrap(),
        Step::Destroy(space) => world.destroy(space),
        Step::Donate(space, frame) => world.donate(space, FrameNumber(frame)),
        Step::Undonate(space) => world.undonate(space),
        Step::Bind { space, page, frame, count, rights } => {
            let request = |at: u64| {
                // Some batches are runs of frames too, which go over the ends of groups and tables.
                let place = if count.is_multiple_of(3) { at } else { at % 5 };
                let frame = FrameNumber(frame + place as u32);
                // A wired page among others makes the batch claim its places first.
                let wired = if at.is_multiple_of(7) { rights } else { rights - Rights::WIRED };
                (page + at * 4096, frame, wired)
            };
            world.bind(space, &(0..count).map(request).collect::<Vec<_>>());
        }
        Step::Unbind(space, page, count) => world.unbind(space, page, count),
        Step::Protect(space, page, count, rights) => world.protect(space, page, count, rights),
        Step::Touch(space, page, count, access) => {
            (0..count).for_each(|at| world.touch(space, page + at * 4096 + 5, access));
        }
        Step::Translate(space, page, rights) => world.translate(space, page + 9, rights),
    }
}

/// A world with two environments and 100 held frames.
fn started(machine: &FakeMachine) -> World<'_> {
    let mut world = World::new(machine);
    world.create(0, 0).unwrap();
    world.create(1, 4).unwrap();
    for frame in 110..210 {
        world.allocate(FrameNumber(frame), 5).unwrap();
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_invariant_holds_after_every_step(steps in prop::collection::vec(step(), 1..60)) {
        let machine = FakeMachine::new(FRAMES);
        let mut world = started(&machine);
        for step in &steps {
            run(&mut world, step);
            if let Err(what) = world.check() {
                prop_assert!(false, "{what} after {step:?}");
            }
        }
        prop_assert_eq!(world.end(), Ok(()));
    }
}

#[test]
fn a_page_in_its_other_frame_is_not_bound_twice() {
    let machine = FakeMachine::new(FRAMES);
    let mut world = started(&machine);
    let request = |at: u64, shift: u64| {
        (0x1000 + at * 0x1_0000, FrameNumber(110 + ((at + shift) % 100) as u32), Rights::READ)
    };
    let pages = 0..300;
    for at in pages.clone() {
        world.bind(0, &[request(at, 0)]);
    }
    // There is place again where there was none.
    for at in pages.clone().step_by(2) {
        world.unbind(0, request(at, 0).0, 1);
    }
    for at in pages.rev() {
        world.bind(0, &[request(at, 1)]);
        assert_eq!(world.check(), Ok(()), "{at}");
    }
    assert_eq!(world.end(), Ok(()));
}

#[test]
fn forged_arguments_are_refused() {
    let machine = FakeMachine::new(FRAMES);
    let mut world = started(&machine);
    let end = exo_abi::layout::USER_END;
    let pages = [0, 1, 0x5001, end, end + 0x1000, 0x8000_0000_0000, !0xfff, u64::MAX];
    for page in pages {
        let request = |page| (page, FrameNumber(120), Rights::READ);
        let good = page == 0x5001;
        assert_eq!(world.bind(0, &[request(0x5000), request(page & !0xfff)]), good);
        world.touch(0, page & !0xfff, Access::Fetch);
        world.translate(0, page, Rights::READ);
        world.bindings.unbind(0, page, u64::MAX);
        let count = u64::MAX / 4096;
        assert!(world.bindings.protect(0, page, count, Rights::READ).is_err());
    }
    for frame in [0, 1, 40, 399, FRAMES as u32, u32::MAX - 1, u32::MAX] {
        world.bind(0, &[(0x5000, FrameNumber(frame), Rights::READ)]);
        world.give_up(FrameNumber(frame), true);
        world.donate(0, FrameNumber(frame));
    }
    for space in [2, SPACES, u16::MAX] {
        let request = BindRequest::new(0x5000, FrameNumber(120), Rights::READ, 0);
        let list = std::iter::once(request);
        assert!(world.bindings.bind_all(space, list, |_, _| Ok(())).is_err());
        world.bindings.destroy(space);
    }
    assert_eq!(world.check(), Ok(()));
}

/// What the page may do now was perhaps only in the table, and is being written back.
#[test]
fn a_page_without_a_table_is_not_refused_without_the_lock() {
    let machine = FakeMachine::new(FRAMES);
    let mut world = started(&machine);
    assert!(world.bind(0, &[(0x5000, FrameNumber(120), Rights::READ)]));
    let tlb = world.bindings.tlb(0).unwrap();
    let ask = |page, access, soon| refill(&machine, None, tlb, page, access, soon);
    for soon in [false, true] {
        assert_eq!(ask(0x5000, FaultCode::WRITE, soon), Refill::Locked);
        assert_eq!(ask(0x5000, FaultCode::empty(), soon), Refill::Locked);
        assert_eq!(ask(0x6000, FaultCode::WRITE, soon), Refill::Refused(FaultCode::WRITE));
    }
    let refused = Refill::Refused(FaultCode::WRITE | FaultCode::PROTECTION);
    assert_eq!(world.bindings.refill(0, 0x5000, FaultCode::WRITE), refused);
}

#[test]
fn a_donation_is_checked_before_anything_changes() {
    let machine = FakeMachine::new(FRAMES);
    let mut world = started(&machine);
    let bindings = &mut world.bindings;
    let least = secure_bindings::Bindings::<FakeMachine>::donation_minimum(FRAMES) + 1;
    let good: Vec<_> = (120..120 + least as u32).map(FrameNumber).collect();
    let replaced = |frame: u32| {
        let mut list = good.clone();
        list[least - 1] = FrameNumber(frame);
        list
    };
    bindings.frames.pin(FrameNumber(209));
    let cases = [
        (good[1..].to_vec(), Error::TooFewFrames),
        (replaced(120), Error::BadArgument),
        (replaced(209), Error::FramePinned),
        (replaced(390), Error::NoFrame),
        (replaced(u32::MAX), Error::NoFrame),
    ];
    for (list, error) in cases {
        assert_eq!(bindings.create(2, &list, 1, |_| 0), Err(error));
    }
    let first = bindings.root(0).unwrap();
    let stolen = replaced(first.0);
    assert!(bindings.create(2, &stolen, 1, |_| 0).is_err(), "another's root");
    assert_eq!(bindings.create(1, &good, 1, |_| 0), Err(Error::WrongState));
    for size in [0, 257, usize::MAX] {
        let result = bindings.create(2, &good, size, |_| 0);
        assert_eq!(result, Err(Error::BadArgument));
    }
    bindings.frames.unpin(FrameNumber(209));
    assert_eq!(world.check(), Ok(()));
}

#[test]
fn the_record_tells_every_loss() {
    let machine = FakeMachine::new(FRAMES);
    let mut world = started(&machine);
    let bindings = &mut world.bindings;
    let spare = |bindings: &mut secure_bindings::Bindings<'_, FakeMachine>, space| {
        let mut count = 0;
        while bindings.take_donated(space).is_ok() {
            count += 1;
        }
        count
    };
    assert_eq!(spare(bindings, 0), 0, "the least donation is just enough");
    assert_eq!(spare(bindings, 1), 4);
    let list: Vec<_> = (120..160).map(FrameNumber).collect();
    bindings.create(2, &list, 1, |_| 0).unwrap();
    let mut record = secure_bindings::Record::create(bindings, 2).unwrap();
    let root = bindings.root(2).unwrap();
    for loss in 0..200 {
        assert_eq!(record.note(&machine, Kind::Frames, loss + 64, 7), u64::from(loss) + 1);
    }
    assert_eq!(machine.peek(root, LOSS_RING), Some(200));
    let slot = LOSS_RING + 32 + (199 % 127) * 32;
    assert_eq!(machine.peek(root, slot), Some(200));
    assert_eq!(machine.peek(root, slot + 16), Some(263));
    let words: Vec<_> = (0..6).map(|at| machine.peek(root, LOST_FRAMES + at * 8)).collect();
    assert_eq!(words, [0, u64::MAX, u64::MAX, u64::MAX, 0xff, 0].map(Some));
    assert_eq!(record.acknowledge(&machine, Kind::Frames, 199), Err(Error::StaleEpoch));
    assert_eq!(record.acknowledge(&machine, Kind::Frames, 201), Err(Error::StaleEpoch));
    assert_eq!(record.acknowledge(&machine, Kind::Slices, 0), Ok(()));
    assert_eq!(machine.peek(root, LOST_FRAMES + 8), Some(u64::MAX));
    assert_eq!(record.acknowledge(&machine, Kind::Frames, 200), Ok(()));
    assert_eq!(machine.peek(root, LOST_FRAMES + 8), Some(0));
    // Each kind has an epoch and bits of its own.
    assert_eq!(record.note(&machine, Kind::Frames, 7, 8), 201);
    assert_eq!(record.note(&machine, Kind::Slices, 2 << 6 | 5, 8), 1);
    assert_eq!(machine.peek(root, LOST_NAMES + 16), Some(1 << 5));
    let ring = LOSS_RING + 32 + (201 % 127) * 32;
    assert_eq!(machine.peek(root, ring + 16), Some(2 << 32 | 5));
    assert_eq!(record.acknowledge(&machine, Kind::Slices, 1), Ok(()));
    assert_eq!(machine.peek(root, LOST_NAMES + 16), Some(0));
    assert_eq!(machine.peek(root, LOST_FRAMES), Some(1 << 7));
}

/// Binds a page, lets the CPU use it, and takes its frame by force.
fn break_a_used_page(world: &mut World<'_>) {
    let frame = FrameNumber(120);
    assert!(world.bind(0, &[(0x5000, frame, Rights::READ | Rights::WRITE)]));
    world.touch(0, 0x5000, Access::Write);
    world.give_up(frame, true);
}

#[test]
fn a_break_leaves_no_translation() {
    let machine = FakeMachine::new(FRAMES);
    let mut world = started(&machine);
    break_a_used_page(&mut world);
    assert_eq!(world.check(), Ok(()));
    world.touch(0, 0x5000, Access::Read);
}

#[test]
fn a_cpu_that_is_not_flushed_is_caught() {
    let machine = FakeMachine::new(FRAMES);
    let mut world = started(&machine);
    world.machine.deaf_to_pages.set(true);
    break_a_used_page(&mut world);
    assert!(world.check().is_err_and(|what| what.contains("still uses 0x5000")));
}

#[test]
fn a_table_that_is_reused_without_a_flush_is_caught() {
    // Pages that share no table below the root, more than there are tables for.
    let far: [u64; 8] = core::array::from_fn(|at| 0x5000 + ((at as u64) << 39));
    for deaf in [false, true] {
        let machine = FakeMachine::new(FRAMES);
        let mut world = started(&machine);
        world.machine.deaf_to_spaces.set(deaf);
        for page in far {
            assert!(world.bind(0, &[(page, FrameNumber(120), Rights::READ)]));
            world.touch(0, page, Access::Read);
        }
        assert_eq!(world.check().is_err(), deaf, "the least donation holds six pages' tables");
    }
}

#[test]
fn a_cache_of_any_size_reaches_every_page_and_forgets_no_write() {
    // Pages that share all tables but the leaf, all but two, or none.
    let page = |at: u64| {
        0x5000 + ((at % 4) << 21) + ((at / 4 % 3) << 30) + ((at / 12) << 39) + (at % 7 * 4096)
    };
    for spare in 0..8 {
        let machine = FakeMachine::new(FRAMES);
        let mut world = started(&machine);
        world.destroy(0);
        world.create(0, spare).unwrap();
        for at in 0..96 {
            let frame = FrameNumber(120 + at as u32 % 20);
            assert!(world.bind(0, &[(page(at), frame, Rights::READ | Rights::WRITE)]));
        }
        for round in 0..3 {
            for at in (0..96).filter(|at| round > 0 || at % 5 == 0) {
                world.touch(0, page(at), if round == 0 { Access::Write } else { Access::Read });
                assert_eq!(world.check(), Ok(()));
            }
            world.protect(0, page(95), 1, Rights::READ);
            assert_eq!(world.check(), Ok(()));
            world.protect(0, page(95), 1, Rights::READ | Rights::WRITE);
            world.touch(0, page(94), Access::Read);
            world.translate(0, page(94), Rights::WRITE);
            assert_eq!(world.check(), Ok(()));
        }
        while world.bindings.take_donated(0).is_ok() {}
        (0..96).for_each(|at| world.touch(0, page(at), Access::Read));
        assert_eq!(world.check(), Ok(()), "the last tables are not given away");
    }
}

#[test]
fn a_bucket_full_of_wired_pages_refuses_the_whole_batch() {
    let machine = FakeMachine::new(FRAMES);
    let mut world = started(&machine);
    let wired = Rights::READ | Rights::WIRED;
    let page = |at: u64| 0x10_0000 + at * 4096;
    let batch: Vec<_> = (0..400).map(|at| (page(at), FrameNumber(120), wired)).collect();
    assert!(world.bind(0, &[(page(3), FrameNumber(121), Rights::READ)]));
    assert!(!world.bind(0, &batch), "there are 128 entries");
    assert_eq!(world.check(), Ok(()));
    let crowd: Vec<_> = (200..400).map(|at| (page(at), FrameNumber(123), Rights::READ)).collect();
    assert!(world.bind(0, &crowd));
    (200..400).for_each(|at| world.touch(0, page(at), Access::Read));
    assert!(world.bind(0, &batch[..64]), "others make place");
    assert_eq!(world.check(), Ok(()));
    let others: Vec<_> = (100..400).map(|at| (page(at), FrameNumber(122), Rights::READ)).collect();
    assert!(world.bind(0, &others));
    assert_eq!(world.check(), Ok(()), "wired pages stay");
}
