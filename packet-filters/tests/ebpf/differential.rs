//! Random programs: interpreted, compiled, and run by rbpf.

use packet_filters::ebpf::{Region, Workspace, verify};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::machine::{Memory, Regions, run_both, with_memory};
use crate::specimen::{PROFILE, arithmetic_program, program, regions};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

/// Whether the program is accepted, and what it does then: interpreted and compiled the same.
fn outcome(code: &[u8], memory: &[u8], budget: u64) -> Option<Option<bool>> {
    let mut workspace = Box::new(Workspace::new());
    let mut verified = verify(&program(code), &PROFILE, &mut workspace).ok()?;
    let run = run_both(&mut verified, &regions(memory), [0, 0, 0, 9, 0], budget);
    Some(run.map(|run| run.outcome.is_ok()))
}

#[test]
fn many_random_programs_are_accepted() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let (mut returned, mut trapped, mut refused) = (0, 0, 0);
    for _ in 0..2000 {
        let (mut code, mut memory) = ([0; 300], [0; 200]);
        rng.fill_bytes(&mut code);
        rng.fill_bytes(&mut memory);
        match outcome(&code, &memory, 5000) {
            Some(Some(true)) => returned += 1,
            Some(_) => trapped += 1,
            None => refused += 1,
        }
    }
    println!("{returned} returned, {trapped} trapped, {refused} refused");
    assert!(returned > 300 && trapped > 100, "{returned} returned, {trapped} trapped");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn compiled_code_does_what_the_interpreter_does(code in bytes(), memory in bytes()) {
        outcome(&code, &memory, 5000);
    }

    #[test]
    fn no_budget_is_exceeded(code in bytes(), memory in bytes(), budget in 0u64..200) {
        outcome(&code, &memory, budget);
    }

    #[test]
    fn any_bytes_are_refused_or_run_the_same(bytes in prop::collection::vec(any::<[u8; 8]>(), 1..20)) {
        let mut workspace = Box::new(Workspace::new());
        if let Ok(mut verified) = verify(bytes.as_flattened(), &PROFILE, &mut workspace) {
            run_both(&mut verified, &regions(&[]), [0; 5], 5000);
        }
    }

    /// What rbpf gets wrong is left out: see `arithmetic_program`.
    #[test]
    fn rbpf_computes_the_same(code in bytes(), memory in any::<[u8; 32]>()) {
        let program = arithmetic_program(&code);
        let region = Region { minimum: 32, maximum: 32, writable: true };
        let (profile, mut workspace) = (with_memory(&region), Box::new(Workspace::new()));
        let mut verified = verify(&program, &profile, &mut workspace).expect("accepted");
        let regions = Regions(vec![Memory::new(&memory, 32)]);
        let run = run_both(&mut verified, &regions, [0; 5], 10_000).expect("no loops");
        let mut memory = memory;
        let machine = rbpf::EbpfVmRaw::new(Some(&program)).expect("valid for rbpf");
        let value = machine.execute_program(&mut memory).expect("runs in rbpf");
        let disassembly = rbpf::disassembler::to_insn_vec(&program);
        let text: Vec<String> = disassembly.into_iter().map(|line| line.desc).collect();
        prop_assert_eq!(run.outcome, Ok(value), "{}", text.join("; "));
    }
}
