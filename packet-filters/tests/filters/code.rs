//! The emitted code: what it answers, what it consists of, and what a planted bug does to it.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register,
};
use packet_filters::{Builder, CompileError, Filter, FilterSet, verdict};
use proptest::prelude::*;

use crate::execution::{Cliff, Executable};
use crate::specimen::{filters, ipv4, matching, owner, packet, packets_around, set_of};

fn compile<const N: usize>(set: &FilterSet<N>) -> Vec<u8> {
    let needed = match set.compile(&mut []) {
        Err(CompileError::BufferTooSmall { needed }) => needed,
        other => panic!("no code fits into nothing: {other:?}"),
    };
    let mut code = vec![0xcc; needed + 16];
    assert_eq!(set.compile(&mut code), Ok(needed));
    assert!(code[needed..].iter().all(|byte| *byte == 0xcc), "wrote past its length");
    code.truncate(needed);
    assert_eq!(set.compile(&mut code.clone()), Ok(needed));
    code
}

fn decode(code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE).into_iter().collect()
}

/// Every instruction is one that filters need, and does to registers and memory only what the
/// documentation of `compile` allows.
fn inspect(code: &[u8]) {
    use Mnemonic::*;
    let allowed =
        [Xor, Test, Cmp, Jb, Ja, Je, Jne, Jmp, Lea, Movzx, Mov, And, Shl, Add, Cmovb, Not, Ret];
    let written = [Register::RAX, Register::RCX, Register::RDX].into_iter().chain([
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
    ]);
    let written: Vec<_> = written.collect();
    let instructions = decode(code);
    let starts: Vec<u64> = instructions.iter().map(Instruction::ip).collect();
    let mut factory = InstructionInfoFactory::new();
    for instruction in &instructions {
        assert_ne!(instruction.code(), Code::INVALID, "at {:#x}", instruction.ip());
        assert!(allowed.contains(&instruction.mnemonic()), "{:?}", instruction.code());
        let is_return = instruction.flow_control() == FlowControl::Return;
        let info = factory.info(instruction);
        for used in info.used_registers() {
            let reads = matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            let scratch = written.contains(&used.register().full_register());
            assert!(reads || scratch || is_return, "{:?}", instruction.code());
        }
        for used in info.used_memory().iter().filter(|_| !is_return) {
            let lea = used.access() == OpAccess::NoMemAccess;
            assert!(lea || used.access() == OpAccess::Read, "{:?}", instruction.code());
            assert!(lea || used.base() == Register::RDI, "{:?}", instruction.code());
            assert!(used.displacement() < 4096, "{:?}", instruction.code());
        }
        if matches!(
            instruction.flow_control(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
        ) {
            let target = instruction.near_branch_target();
            assert!(starts.contains(&target), "jump to {target:#x}");
            assert!(target > instruction.ip(), "a loop");
        }
    }
    let last = instructions.last().expect("not empty");
    assert_eq!(last.mnemonic(), Ret);
    assert_eq!(last.next_ip(), code.len() as u64);
}

/// Whether code and filter disagree on some prefix of the packet, all of which stays readable.
fn disagrees(code: &[u8], filter: &Filter, packet: &[u8]) -> bool {
    let executable = Executable::new(code);
    (0..=packet.len()).any(|length| {
        executable.run_prefix(packet, length).is_some() != filter.matches(&packet[..length])
    })
}

#[test]
fn an_off_by_one_in_any_length_check_is_caught() {
    // The filter with a shift is tried with two packets: in one the byte that ends it is the one
    // that holds the length, in the other the one behind the shift.
    let mut near = vec![0; 17];
    near[14] = 1;
    let mut far = vec![0; 27];
    (far[16], far[26]) = (3, 1);
    let cases = [
        ("12:2=0x0800", 1, vec![]),
        ("4:4=0", 1, vec![]),
        ("200:4=7 1:1=1", 1, vec![]),
        ("shift(16,3,2) 14:1=1", 2, vec![near, far]),
        ("any", 0, vec![]),
    ];
    for (text, checks, mut packets) in cases {
        let filter: Filter = text.parse().expect(text);
        let mut set = FilterSet::<1>::new();
        set.insert(3, &filter).expect("room");
        let code = compile(&set);
        packets.push(matching(&filter).expect(text));
        let caught = |code: &[u8]| packets.iter().any(|packet| disagrees(code, &filter, packet));
        assert!(packets.iter().all(|packet| filter.matches(packet)) && !caught(&code), "{text}");
        let mut decoder = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE);
        let mut planted = 0;
        while decoder.can_decode() {
            let instruction = decoder.decode();
            let offsets = decoder.get_constant_offsets(&instruction);
            let field = match (instruction.mnemonic(), instruction.op0_register()) {
                (Mnemonic::Cmp, Register::RSI) => offsets.immediate_offset(),
                (Mnemonic::Lea, _) => offsets.displacement_offset(),
                _ => continue,
            };
            let mut wrong = code.clone();
            wrong[instruction.ip() as usize + field] -= 1;
            assert!(caught(&wrong), "{text}: missed");
            planted += 1;
        }
        assert_eq!(planted, checks, "{text}: one check for each straight run");
    }
}

#[test]
fn a_small_buffer_is_a_typed_error() {
    let mut set = FilterSet::<8>::new();
    for port in 0..8 {
        set.insert(port, &Builder::tcp_port(port as u16).build().expect("a filter")).expect("room");
    }
    let code = compile(&set);
    for length in 0..code.len() {
        let error = CompileError::BufferTooSmall { needed: code.len() };
        assert_eq!(set.compile(&mut vec![0; length]), Err(error));
    }
}

#[test]
fn siblings_are_searched_not_tried() {
    let mut set = FilterSet::<512>::new();
    for port in 0..512u32 {
        let filter = Builder::tcp_port((port * 77) as u16).build().expect("a filter");
        set.insert(port, &filter).expect("room");
    }
    let code = compile(&set);
    inspect(&code);
    let loads = decode(&code).iter().filter(|i| i.memory_base() == Register::RDI).count();
    assert_eq!(loads, 5, "each field is loaded once for all ports");
    let (executable, mut cliff) = (Executable::new(&code), Cliff::new(2048));
    for port in 0..512u32 {
        let frame = ipv4(6, 5 + (port % 11) as u8, 4000, (port * 77) as u16);
        assert_eq!(executable.run(&frame, &mut cliff), Some(port));
    }
    assert_eq!(executable.run(&ipv4(6, 5, 4000, 1), &mut cliff), None);
}

#[test]
fn extreme_ids_and_lengths() {
    let mut set = FilterSet::<2>::new();
    set.insert(u32::MAX, &Filter::ANY).expect("room");
    set.insert(0, &"shift(0,0xff,7) shift(2047,1,0) 0:1=1".parse().expect("a filter"))
        .expect("room");
    let code = compile(&set);
    let (executable, mut cliff) = (Executable::new(&code), Cliff::new(70_000));
    let mut giant = vec![1; 70_000];
    giant[0] = 0xff;
    assert_eq!(executable.run(&giant, &mut cliff), Some(0));
    assert_eq!(executable.run(&giant[..(0xff << 7) + 2048], &mut cliff), Some(0));
    assert_eq!(executable.run(&giant[..(0xff << 7) + 2047], &mut cliff), Some(u32::MAX));
    assert_eq!(executable.run(&[], &mut cliff), Some(u32::MAX));
    assert_eq!(verdict(0), None);
    let nothing = compile(&FilterSet::<2>::new());
    assert_eq!(Executable::new(&nothing).run(&giant, &mut cliff), None);
}

proptest! {
    #[test]
    fn code_agrees_with_trying_every_filter(filters in filters(), packet in packet()) {
        let set = set_of(&filters);
        let code = compile(&set);
        inspect(&code);
        let (executable, mut cliff) = (Executable::new(&code), Cliff::new(16 << 10));
        for packet in packets_around(&filters, &packet) {
            let expected = owner(&filters, &packet);
            prop_assert_eq!(executable.run(&packet, &mut cliff), expected);
            prop_assert_eq!(set.classify(&packet), expected);
        }
    }

    #[test]
    fn no_check_is_missing(filter in crate::specimen::filter()) {
        let code = compile(&set_of(&[(1, filter)]));
        if let Some(packet) = matching(&filter) {
            prop_assert!(!disagrees(&code, &filter, &packet));
        }
    }
}
