//! The emitted code: what it answers, what it consists of, and what a planted bug does to it.

use filter_language::{Builder, Connection};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register,
};
use packet_filters::{BufferTooSmall, Filter, FilterSet, Step, code_for, verdict};
use proptest::prelude::*;

use crate::execution::{Cliff, Executable};
use crate::specimen::{
    CAPACITY, empty_set, filters, ipv4, matching, owner, packet, packets_around, set_of,
};

fn compile(set: &mut FilterSet<'static>) -> Vec<u8> {
    let mut code = vec![0xcc; code_for(CAPACITY)];
    let length = set.compile(&mut code).expect("large enough");
    assert!(code[length..].iter().all(|byte| *byte == 0xcc), "wrote past its length");
    code.truncate(length);
    code
}

fn decode(code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE).into_iter().collect()
}

/// Every instruction is one that filters need, and does to registers and memory only what the
/// documentation of `compile` allows.
fn inspect(code: &[u8]) {
    use Mnemonic::*;
    let allowed = [
        Adc, Add, And, Bsf, Cmp, Imul, Ja, Jb, Je, Jmp, Jne, Lea, Mov, Movzx, Not, Pop, Push, Ret,
        Sete, Shl, Shr, Sub, Xor,
    ];
    let written =
        [Register::RAX, Register::RCX, Register::R8, Register::R9, Register::R10, Register::R11];
    let saved = [Register::RBX, Register::RBP, Register::R12, Register::R13];
    let instructions = decode(code);
    let pushed: Vec<_> = registers(&instructions, Push);
    let popped: Vec<_> = registers(&instructions, Pop);
    assert!(popped.chunks(pushed.len().max(1)).all(|pops| pops.iter().rev().eq(&pushed)));
    let starts: std::collections::HashSet<u64> = instructions.iter().map(Instruction::ip).collect();
    let mut factory = InstructionInfoFactory::new();
    for instruction in &instructions {
        assert_ne!(instruction.code(), Code::INVALID, "at {:#x}", instruction.ip());
        assert!(allowed.contains(&instruction.mnemonic()), "{:?}", instruction.code());
        let stack = matches!(instruction.mnemonic(), Push | Pop | Ret);
        let info = factory.info(instruction);
        for used in info.used_registers() {
            let reads = matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            let register = used.register().full_register();
            let scratch = written.contains(&register)
                || saved.contains(&register) && pushed.contains(&register);
            assert!(reads || scratch || stack, "{:?}", instruction.code());
        }
        for used in info.used_memory().iter().filter(|_| !stack) {
            let lea = used.access() == OpAccess::NoMemAccess;
            assert!(lea || used.access() == OpAccess::Read, "{:?}", instruction.code());
            let table = used.base() != Register::RDI;
            assert!(lea || used.displacement() < if table { 1 << 20 } else { 4096 });
        }
        if matches!(
            instruction.flow_control(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
        ) {
            let target = instruction.near_branch_target();
            assert!(starts.contains(&target), "jump to {target:#x}");
            // The next slot of a bucket, or the next bucket.
            let loops = matches!(instruction.mnemonic(), Jne | Jmp);
            assert!(target > instruction.ip() || loops, "a loop");
        }
    }
    let last = instructions.last().expect("not empty");
    assert_eq!(last.mnemonic(), Ret);
    assert_eq!(last.next_ip(), code.len() as u64);
}

/// The operands of every instruction of a kind.
fn registers(instructions: &[Instruction], mnemonic: Mnemonic) -> Vec<Register> {
    let these = instructions.iter().filter(|instruction| instruction.mnemonic() == mnemonic);
    these.map(Instruction::op0_register).collect()
}

/// Whether code and filter disagree on some prefix of the packet, all of which stays readable.
fn disagrees(code: &[u8], set: &FilterSet<'static>, filter: &Filter, packet: &[u8]) -> bool {
    let executable = Executable::new(code, set);
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
        let filter: Filter = filter_language::parse(text).expect(text);
        let mut set = set_of(&[filter]);
        let code = compile(&mut set);
        packets.push(matching(&filter).expect(text));
        let caught =
            |code: &[u8]| packets.iter().any(|packet| disagrees(code, &set, &filter, packet));
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
    let mut set = set_of(&[Filter::ANY]);
    let needed = code_for(1);
    let error = BufferTooSmall { needed };
    assert_eq!(set.compile(&mut vec![0; needed - 1]), Err(error));
    assert!(set.is_stale());
    assert!(set.compile(&mut vec![0; needed]).is_ok());
}

/// The largest filters that there are, in as many shapes as possible, none of which shares a test.
#[test]
fn the_recommended_buffer_is_large_enough() {
    for look_ups in [false, true] {
        let mut set = empty_set(2048, 254);
        for shape in 0..254u32 {
            for value in 0..if look_ups { 5 } else { 4u32 } {
                let shifts: String = (0..4)
                    .map(|level| format!("shift({},{:#x},7) ", 200 + level, shape + 1))
                    .collect();
                let compares: String = (0..10)
                    .map(|i| {
                        format!("{}:4&0x7fffff7f={:#x} ", 1000 + 8 * i, 0x5500_0000 | value << 8)
                    })
                    .collect();
                let filter: Filter =
                    filter_language::parse(&(shifts + &compares)).expect("a filter");
                set.insert(&filter).expect("room");
            }
        }
        let mut code = vec![0; code_for(254)];
        let length = set.compile(&mut code).expect("large enough");
        assert!(length <= code.len(), "{length} of {}", code.len());
        inspect(&code[..length]);
    }
}

fn connection(remote_ip: [u8; 4], remote_port: u16, local_port: u16) -> Filter {
    let local_ip = [10, 0, 2, 15];
    let connection = Connection { remote_ip, remote_port, local_ip, local_port };
    Builder::tcp_connection(connection).build().expect("a filter")
}

/// What the steps of a set do, one letter for each.
fn steps(set: &mut FilterSet<'static>) -> String {
    let mut steps = String::new();
    let mut trace = |_, step: Step<'_>| {
        steps.push(match step {
            Step::Test(_) => 't',
            Step::Shape(shape) if !shape.inline => 'H',
            Step::Shape(_) => 'i',
            Step::End => '.',
        });
    };
    set.compile_traced(&mut vec![0; code_for(CAPACITY)], &mut trace).expect("large enough");
    steps
}

#[test]
fn connections_are_inserted_without_a_new_compile() {
    let mut set = empty_set(1000, 4);
    for port in 0..8 {
        set.insert(&connection([10, 0, 2, 2], port, 80)).expect("room");
    }
    // Type, fragment, protocol, two addresses, the shift, then a look-up by the ports.
    assert_eq!(steps(&mut set), "ttttttH......");
    let code = compile(&mut set);
    inspect(&code);
    let (executable, mut cliff) = (Executable::new(&code, &set), Cliff::new(2048));
    for port in 8..500 {
        assert_eq!(executable.run(&ipv4(6, 5, port, 80), &mut cliff), None);
        assert_eq!(set.insert(&connection([10, 0, 2, 2], port, 80)), Ok(port.into()));
        assert_eq!(executable.run(&ipv4(6, 5, port, 80), &mut cliff), Some(port.into()));
    }
    for port in 1..500 {
        set.remove(port.into()).expect("installed");
        assert_eq!(executable.run(&ipv4(6, 5, port, 80), &mut cliff), None);
    }
    assert_eq!(executable.run(&ipv4(6, 7, 0, 80), &mut cliff), Some(0));
    assert!(!set.is_stale());
    // Another address is something that the code does not look at; few are put into the code.
    set.insert(&connection([10, 0, 2, 3], 9, 80)).expect("room");
    assert!(set.is_stale());
    assert_eq!(steps(&mut set), "ttttti.....");
}

#[test]
fn what_filters_share_is_tested_once() {
    let mut set = empty_set(100, 10);
    let filters = [
        Builder::tcp_port(80),
        Builder::udp_port(7),
        Builder::tcp_port(22).source_ip([10, 0, 2, 2]),
        Builder::icmp(),
        Builder::arp_target([10, 0, 2, 15]),
    ];
    for builder in filters {
        set.insert(&builder.build().expect("a filter")).expect("room");
    }
    // The type, no fragment, TCP from an address to a port; then both protocols with their ports;
    // the next protocol; the other type.
    assert_eq!(steps(&mut set), "tttttti....ti..ti..tti..");
    let code = compile(&mut set);
    inspect(&code);
    let loads = decode(&code).iter().filter(|i| i.memory_base() == Register::RDI).count();
    assert!(loads <= 14, "{loads} loads");
}

#[test]
fn extreme_lengths() {
    let shifted =
        filter_language::parse("shift(0,0xff,7) shift(2047,1,0) 0:1=1").expect("a filter");
    let mut set = set_of(&[shifted, Filter::ANY]);
    let code = compile(&mut set);
    let (executable, mut cliff) = (Executable::new(&code, &set), Cliff::new(70_000));
    let mut giant = vec![1; 70_000];
    giant[0] = 0xff;
    assert_eq!(executable.run(&giant, &mut cliff), Some(0));
    assert_eq!(executable.run(&giant[..(0xff << 7) + 2048], &mut cliff), Some(0));
    assert_eq!(executable.run(&giant[..(0xff << 7) + 2047], &mut cliff), Some(1));
    assert_eq!(executable.run(&[], &mut cliff), Some(1));
    assert_eq!(verdict(0), None);
    let mut nothing = set_of(&[]);
    let code = compile(&mut nothing);
    assert_eq!(Executable::new(&code, &nothing).run(&giant, &mut cliff), None);
}

proptest! {
    #[test]
    fn code_agrees_with_trying_every_filter(filters in filters(), packet in packet()) {
        let mut set = set_of(&filters);
        let code = compile(&mut set);
        inspect(&code);
        let (executable, mut cliff) = (Executable::new(&code, &set), Cliff::new(16 << 10));
        for packet in packets_around(&filters, &packet) {
            prop_assert_eq!(executable.run(&packet, &mut cliff), owner(&filters, &packet));
        }
    }

    #[test]
    fn no_check_is_missing(filter in crate::specimen::filter()) {
        let mut set = set_of(&[filter]);
        let code = compile(&mut set);
        if let Some(packet) = matching(&filter) {
            prop_assert!(!disagrees(&code, &set, &filter, &packet));
        }
    }

    #[test]
    fn no_check_is_missing_before_a_look_up(filters in filters()) {
        let mut set = set_of(&filters);
        let code = compile(&mut set);
        let executable = Executable::new(&code, &set);
        for packet in filters.iter().filter_map(matching).filter(|packet| packet.len() < 200) {
            for length in 0..=packet.len() {
                let expected = owner(&filters, &packet[..length]);
                prop_assert_eq!(executable.run_prefix(&packet, length), expected);
            }
        }
    }
}
