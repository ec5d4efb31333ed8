//! The compiled code: what it consists of, and what a planted bug does to it.

use ebpf_tools::assembler::assemble;
use ebpf_tools::interpreter::interpret;
use ebpf_tools::native::{Executable, compile};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use packet_filters::BufferTooSmall;
use packet_filters::ebpf::{Workspace, verify};
use proptest::prelude::*;

use crate::machine::{Memory, Regions, run};
use crate::specimen::{PROFILE, program};

fn decode(code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE).into_iter().collect()
}

/// Every instruction is one that the compiler means, jumps meet instructions, and memory is reached
/// through the registers that lead to the activation, the stack and the regions.
fn inspect(code: &[u8]) {
    use Mnemonic::*;
    let allowed = [
        Add, And, Bswap, Call, Cdq, Cmp, Cqo, Div, Idiv, Imul, Ja, Jae, Jb, Jbe, Je, Jg, Jge, Jl,
        Jle, Jmp, Jne, Lea, Mov, Movsx, Movsxd, Movzx, Neg, Not, Or, Pop, Push, Ret, Sar, Shl, Shr,
        Sub, Test, Xor,
    ];
    let instructions = decode(code);
    let entry =
        instructions.iter().find(|i| i.mnemonic() == Mov && i.op1_register() == Register::RDI);
    let activation = entry.map_or(Register::None, Instruction::op0_register);
    let starts: Vec<u64> = instructions.iter().map(Instruction::ip).collect();
    for instruction in &instructions {
        let at = instruction.ip();
        assert!(allowed.contains(&instruction.mnemonic()), "{at:#x}: {:?}", instruction.code());
        let stack = matches!(instruction.mnemonic(), Call | Pop | Push | Ret);
        let accesses =
            (0..instruction.op_count()).any(|op| instruction.op_kind(op) == OpKind::Memory);
        if accesses && instruction.mnemonic() != Lea {
            let bases = [activation, Register::RSP, Register::R10, Register::R11];
            assert!(bases.contains(&instruction.memory_base()), "{at:#x}");
        }
        let near = matches!(
            instruction.flow_control(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call
        );
        if near {
            assert!(starts.contains(&instruction.near_branch_target()), "{at:#x}");
        }
        assert!(stack || instruction.op_count() > 0 || matches!(instruction.mnemonic(), Cdq | Cqo));
    }
    assert_eq!(instructions.last().map(Instruction::next_ip), Some(code.len() as u64));
}

#[test]
fn a_small_buffer_is_a_typed_error() {
    let program = assemble("mov r0, 7\ndiv r0, 2\nstdw [r10-8], 1\nexit").expect("assembles");
    let mut workspace = Box::new(Workspace::new());
    let mut verified = verify(&program, &PROFILE, &mut workspace).expect("accepted");
    let code = compile(&mut verified);
    for length in 0..code.len() {
        let error = BufferTooSmall { needed: code.len() };
        assert_eq!(verified.compile(&mut vec![0; length]), Err(error));
    }
}

/// Each comparison with a bound is made one too generous; some run must then differ from the
/// interpreter's.
#[test]
fn an_off_by_one_in_any_guard_is_caught() {
    let cases = [
        "ldxw r0, [r1+12]",
        "add r1, r4\nldxb r0, [r1+2]",
        "add r1, r4\nldxdw r0, [r1]",
        "add r5, r4\nstxh [r5], r4\nmov r0, 0",
        "stdw [r5+16], 3\nmov r0, 0",
        // The call makes the compiler leave eight bytes behind the stack, which no one misses.
        "mov r6, r4\nmov r1, 1\ncall 5\nadd r6, r10\nstb [r6-512], 9\nmov r0, 0",
    ];
    for text in cases {
        let program = assemble(&format!("{text}\nexit")).expect(text);
        let mut workspace = Box::new(Workspace::new());
        let mut verified = verify(&program, &PROFILE, &mut workspace).expect(text);
        let code = compile(&mut verified);
        let differs = |code: &[u8]| {
            let executable = Executable::new(code).expect("pages");
            (0..=30).flat_map(|length| (0..=512).map(move |number| (length, number))).any(
                |(length, number)| {
                    let packet: Vec<u8> = (0..length).collect();
                    let mut regions = Regions(vec![
                        Memory::new(&packet, 64),
                        Memory::new(&[0; 64], 64),
                        Memory::new(&vec![0; usize::from(length).max(8)], 64),
                    ]);
                    let arguments = [0, 0, 0, number, 0];
                    let wanted = interpret(&verified, &mut regions.clone(), arguments, 0).outcome;
                    run(&executable, &mut regions, arguments, 0) != wanted
                },
            )
        };
        assert!(!differs(&code), "{text}");
        let mut planted = 0;
        for instruction in decode(&code) {
            // The guards are the jumps whose traps lie behind the end of the program.
            let (mut wrong, at) = (code.clone(), instruction.ip() as usize);
            match instruction.mnemonic() {
                Mnemonic::Jae => wrong[at + 1] = 0x87,
                // The length that is wanted is the constant before the jump.
                Mnemonic::Jb => wrong[at - 4] -= 1,
                _ => continue,
            }
            assert!(differs(&wrong), "{text}: missed");
            planted += 1;
        }
        assert_eq!(planted, 1, "{text}");
    }
}

proptest! {
    #[test]
    fn every_byte_is_an_instruction_that_is_meant(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut workspace = Box::new(Workspace::new());
        if let Ok(mut verified) = verify(&program(&bytes), &PROFILE, &mut workspace) {
            inspect(&compile(&mut verified));
        }
    }
}
