//! Random calls against invariants that hold whatever a program does.

use crate::environments::{create, start};
use crate::fake::{Bench, DATA, ENVIRONMENTS, FRAMES};
use exo_abi::calls::CALLS;
use exo_abi::tables::{EnvState, EnvWord, FrameState};
use exo_abi::{EnvName, Rights};
use proptest::prelude::*;

/// A word that is likely to be understood, or anything.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..20u64,
        3 => (0..16u64).prop_map(|page| DATA + page * 4096),
        2 => 0..FRAMES as u64,
        2 => (0..4u64, 1..4u64).prop_map(|(index, generation)| generation << 32 | index),
        1 => any::<u64>(),
        1 => Just(u64::MAX),
        1 => Just(0x7e80_0000_0000),
    ]
}

fn check(bench: &Bench) {
    let mut held = [0; ENVIRONMENTS];
    let mut free = 0;
    for number in 0..FRAMES as u32 {
        let frame = bench.frame(number);
        match FrameState::from_number(frame.state).unwrap() {
            FrameState::Held | FrameState::Donated => held[frame.owner as usize] += 1,
            FrameState::Free => free += 1,
            FrameState::Reserved => {}
        }
    }
    let total: u64 = bench.environment_sum(EnvWord::FramesLimit);
    for (slot, &held) in held.iter().enumerate() {
        let alive = !matches!(Some(bench.state(slot)), Some(EnvState::Free | EnvState::Ended));
        assert_eq!(if alive { bench.environment(slot, EnvWord::Frames) } else { 0 }, held);
    }
    assert_eq!(held.iter().sum::<u64>() + free, total, "limits are conserved");
}

impl Bench {
    fn environment_sum(&self, word: EnvWord) -> u64 {
        (0..ENVIRONMENTS).map(|slot| self.environment(slot, word)).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_call_breaks_the_books(
        steps in prop::collection::vec(
            (0..CALLS.len() as u64 + 2, prop::array::uniform6(word()), 0..20u8),
            1..400,
        )
    ) {
        let mut bench = Bench::new();
        let child = create(&mut bench, 400, 50, 100);
        start(&mut bench, child, 3);
        let seed = crate::accounts::allocate(&mut bench, 8);
        let rights = Rights::READ | Rights::WRITE;
        crate::accounts::bind(&mut bench, EnvName::NONE, 0x7000_0000, &seed, rights).unwrap();
        for (number, arguments, event) in steps {
            match event {
                0 => bench.tick(700_000),
                1 => bench.exception(arguments[0] % 32, 2, arguments[1]),
                2 => bench.kernel.received(&arguments[0].to_le_bytes().repeat(9)),
                _ => { let _ = bench.raw_call(number, arguments); }
            }
            if bench.machine.exit.get().is_some() {
                break;
            }
        }
        if bench.machine.exit.get().is_none() {
            check(&bench);
        }
    }
}
