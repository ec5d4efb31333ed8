//! What libpcap compiles and we lift accepts the same packets, for expressions of varied syntax.

use ebpf_tools::profile;
use filter_tools::classic::Program;
use filter_tools::libpcap::Libpcap;
use filter_tools::lift::{Lifted, lift};
use filter_tools::merged::Merged;
use filter_tools::residual::translate;
use filter_tools::trace::{Sequence, packet};
use packet_filters::ebpf::{Workspace, verify};

/// What filters can say: these are lifted without a residual.
const DECLARATIVE: &str = include_str!("expressions.txt");
/// What they cannot.
const RESIDUAL: &str = include_str!("residuals.txt");
const PACKETS: usize = 1_000;

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn packets() -> Vec<Vec<u8>> {
    let mut sequence = Sequence::new(0x5eed);
    (0..PACKETS).map(|_| packet(&mut sequence)).collect()
}

/// Holds all readings of an expression against libpcap's.
fn compare_expression(libpcap: &Libpcap, expression: &str, packets: &[Vec<u8>]) -> Lifted {
    let program =
        libpcap.compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    assert_eq!(Program::parse(&program.to_string()).unwrap(), program);
    compare(libpcap, &program, expression, packets)
}

fn compare(libpcap: &Libpcap, program: &Program, expression: &str, packets: &[Vec<u8>]) -> Lifted {
    let oracle = libpcap.interpreter(program).unwrap();
    let lifted = lift(program);
    let merged = Merged::of(lifted.filters.iter()).unwrap();
    let bytecode = translate(program);
    verify(&bytecode, &profile::RESIDUAL, &mut Box::new(Workspace::new())).unwrap();
    for packet in packets {
        let expected = oracle.accepts(packet);
        let show = || format!("{expression}\n{packet:02x?}\n{program}{:#?}", lifted.filters);
        assert_eq!(program.accepts(packet), expected, "the interpreter: {}", show());
        let residual = run(&bytecode, packet);
        assert_eq!(residual, expected, "the residual: {}", show());
        let matched = merged.classify(packet).is_some();
        if lifted.residual.is_empty() {
            assert_eq!(matched, expected, "the filters: {}", show());
        } else {
            assert!(matched || !expected, "the filters in front of a residual: {}", show());
        }
    }
    lifted
}

/// Whether bytecode accepts a packet. This machine sets register 1 only.
fn run(bytecode: &[u8], packet: &[u8]) -> bool {
    let length = (packet.len() as u32).to_le_bytes();
    let program = [&[0xb7, 2, 0, 0], &length[..], bytecode].concat();
    let machine = rbpf::EbpfVmRaw::new(Some(&program)).unwrap();
    machine.execute_program(&mut packet.to_vec()).unwrap() != 0
}

#[test]
fn lifted_expressions_agree_with_libpcap() {
    let (libpcap, packets) = (Libpcap::load().unwrap(), packets());
    let mut accepted = 0;
    for expression in lines(DECLARATIVE) {
        let lifted = compare_expression(&libpcap, expression, &packets);
        if std::env::var("LIST").is_ok() {
            println!("{expression}: {} {:?}", lifted.filters.len(), lifted.residual);
            continue;
        }
        assert_eq!(lifted.residual, [""; 0], "{expression}");
        accepted +=
            usize::from(packets.iter().any(|p| lifted.filters.iter().any(|f| f.matches(p))));
    }
    let count = lines(DECLARATIVE).count();
    assert!(count >= 100, "{count} expressions");
    assert!(accepted * 10 >= count * 9, "only {accepted} of {count} match any packet");
}

#[test]
fn what_cannot_be_lifted_keeps_a_residual() {
    let (libpcap, packets) = (Libpcap::load().unwrap(), packets());
    for expression in lines(RESIDUAL) {
        let lifted = compare_expression(&libpcap, expression, &packets);
        assert!(!lifted.residual.is_empty(), "{expression} has none");
    }
}

#[test]
fn an_expression_that_is_none_is_refused() {
    let libpcap = Libpcap::load().unwrap();
    let error = libpcap.compile("tcp prot 80").unwrap_err().to_string();
    assert!(error.contains("syntax error"), "{error}");
    let error = libpcap.compile("ip protochain 6").unwrap_err().to_string();
    assert!(error.contains("goes back"), "{error}");
    assert!(Program::parse("2\n6 0 0 1").is_err());
    assert!(Program::parse("1\n5 0 0 9").unwrap_err().to_string().contains("leaves the program"));
}

/// What libpcap never compiles to, but somebody may write.
#[test]
fn classic_programs_by_hand_are_lifted_as_libpcap_reads_them() {
    let (libpcap, packets) = (Libpcap::load().unwrap(), packets());
    for (text, exact) in [
        // A load whose value nobody looks at: the packet has to be so long.
        ("2\n48 0 0 70\n6 0 0 1", false),
        // Such a load, but the path compares what is behind it.
        ("5\n48 0 0 20\n48 0 0 30\n21 0 1 1\n6 0 0 1\n6 0 0 0", true),
        // The load of one way out is no condition of the other.
        ("6\n48 0 0 14\n21 0 2 69\n48 0 0 80\n6 0 0 1\n6 0 0 1\n6 0 0 0", false),
        // Beyond every packet, and a place that wraps.
        ("2\n32 0 0 70000\n6 0 0 1", true),
        ("3\n1 0 0 4294967295\n80 0 0 15\n6 0 0 1", true),
        ("6\n177 0 0 14\n135 0 0 0\n4 0 0 4294967292\n7 0 0 0\n72 0 0 14\n6 0 0 1", false),
        // What is returned is a value, or there is none.
        ("2\n48 0 0 14\n22 0 0 0", false),
        ("4\n48 0 0 14\n1 0 0 0\n60 0 0 0\n6 0 0 1", true),
        ("5\n48 0 0 14\n7 0 0 0\n0 0 0 7\n60 0 0 0\n6 0 0 1", false),
    ] {
        let program = Program::parse(text).unwrap();
        let lifted = compare(&libpcap, &program, text, &packets);
        assert_eq!(lifted.residual.is_empty(), exact, "{text}\n{:?}", lifted.residual);
    }
    for (text, why) in [
        ("2\n8 0 0 0\n6 0 0 1", "instruction 0"),
        ("1\n14 0 0 0", "unknown instruction"),
        ("2\n161 0 0 14\n6 0 0 1", "unknown load"),
        ("2\n140 0 0 0\n6 0 0 1", "unknown instruction"),
        ("2\n52 0 0 0\n6 0 0 1", "divides by zero"),
        ("2\n100 0 0 32\n6 0 0 1", "shifts by more than 31 bits"),
    ] {
        let error = format!("{:#}", Program::parse(text).unwrap_err());
        assert!(error.contains(why), "{text}: {error}");
    }
}
