//! What is refused, what is guarded, and what is neither.

use ebpf_tools::assembler::{assemble, slot};
use ebpf_tools::profile::{PREDICATE, RESIDUAL};
use packet_filters::ebpf::{
    Argument, Helper, MAX_SLOTS, Profile, Reason, Refusal, Trap, Workspace, verify,
};

use crate::machine::{HELPERS, Memory, Regions, run_both};
use crate::specimen::{PROFILE, regions};

fn refusal(program: &[u8], profile: &Profile<'_>) -> Option<Refusal> {
    verify(program, profile, &mut Box::new(Workspace::new())).err()
}

/// The program and the exit.
fn with_exit(text: &str) -> Vec<u8> {
    assemble(&format!("{text}\nexit")).expect(text)
}

/// How many accesses are guarded, and how many are not.
fn guards(text: &str, profile: &Profile<'_>) -> (usize, usize) {
    let mut workspace = Box::new(Workspace::new());
    let verified = verify(&with_exit(text), profile, &mut workspace).expect(text);
    let accesses: Vec<bool> = verified
        .slots()
        .iter()
        .filter(|slot| slot.reached && matches!(slot.instruction.class(), 1..=3))
        .map(|slot| slot.guarded)
        .collect();
    let guarded = accesses.iter().filter(|guarded| **guarded).count();
    (guarded, accesses.len() - guarded)
}

/// In register 1 a packet of up to 64 bytes, 2 its length, 3 a state of 64, 4 a number, 5 a region
/// that grows.
const REFUSED: [(&str, usize, Reason); 43] = [
    // Registers and the stack that were not written, on one way at least.
    ("", 0, Reason::UnsetRegister),
    ("mov r0, r6", 0, Reason::UnsetRegister),
    ("jeq r2, 0, end\nmov r0, 1\nend:", 2, Reason::UnsetRegister),
    ("mov r1, 1\ncall 5\nmov r0, r1", 2, Reason::UnsetRegister),
    ("add r0, 1", 0, Reason::UnsetRegister),
    ("ldxdw r0, [r10-8]", 0, Reason::UnsetStack),
    ("stw [r10-8], 1\nldxdw r0, [r10-8]", 1, Reason::UnsetStack),
    ("jeq r2, 0, end\nstdw [r10-8], 1\nend:\nldxdw r0, [r10-8]", 2, Reason::UnsetStack),
    (
        "stdw [r10-8], 1\nand r2, 15\nmov r6, r10\nadd r6, r2\nldxb r0, [r6-16]",
        4,
        Reason::UnsetStack,
    ),
    // Kinds.
    ("ldxb r0, [r2]", 0, Reason::NotAPointer),
    ("mov r6, 4096\nldxb r0, [r6]", 1, Reason::NotAPointer),
    ("mov32 r6, r1", 0, Reason::PointerArithmetic),
    ("add r1, r3", 0, Reason::PointerArithmetic),
    ("sub r1, r3", 0, Reason::PointerArithmetic),
    ("sub r2, r1", 0, Reason::PointerArithmetic),
    ("and r1, -8", 0, Reason::PointerArithmetic),
    ("mul r1, 2", 0, Reason::PointerArithmetic),
    ("neg r1", 0, Reason::PointerArithmetic),
    ("be64 r1", 0, Reason::PointerArithmetic),
    ("add32 r1, 1", 0, Reason::PointerArithmetic),
    ("jeq r1, 0, end\nend:", 0, Reason::PointerArithmetic),
    ("jgt r1, r3, end\nend:", 0, Reason::PointerArithmetic),
    ("jgt32 r1, r1, end\nend:", 0, Reason::PointerArithmetic),
    ("jeq r2, 0, end\nmov r1, r3\nend:\nldxb r0, [r1]", 2, Reason::UnsetRegister),
    // Leaks.
    ("mov r0, r1", 1, Reason::PointerReturned),
    ("mov r0, r10", 1, Reason::PointerReturned),
    ("stxdw [r3], r1", 0, Reason::PointerStored),
    ("stxw [r10-8], r1", 0, Reason::PointerStored),
    ("stxdw [r10-12], r1", 0, Reason::PointerStored),
    ("and r2, 8\nmov r6, r10\nsub r6, r2\nstxdw [r6-8], r1", 3, Reason::PointerStored),
    ("stxdw [r10-8], r1\nldxw r0, [r10-8]", 1, Reason::UnsetStack),
    ("stxdw [r10-8], r1\nstb [r10-8], 0\nldxdw r0, [r10-8]", 2, Reason::UnsetStack),
    (
        "stxdw [r10-8], r1\nand r2, 7\nmov r6, r10\nsub r6, r2\nstb [r6-8], 0",
        4,
        Reason::PointerOverwritten,
    ),
    // Places.
    ("stb [r1], 0", 0, Reason::ReadOnly),
    ("ldxb r0, [r10]", 0, Reason::OutOfBounds),
    ("stdw [r10-513], 0", 0, Reason::OutOfBounds),
    ("stdw [r3+57], 0", 0, Reason::OutOfBounds),
    ("ldxb r0, [r1-1]", 0, Reason::OutOfBounds),
    ("ldxw r0, [r1+61]", 0, Reason::OutOfBounds),
    ("mov r0, 0\nlock add [r3], r0", 1, Reason::Atomic),
    ("call local f\nf:", 0, Reason::FunctionCall),
    // Helpers.
    ("call 4", 0, Reason::NoHelper),
    ("mov r2, 1\ncall 5", 1, Reason::WrongArgument),
];

#[test]
fn what_is_wrong_is_refused_with_its_reason() {
    for (text, at, reason) in REFUSED {
        assert_eq!(refusal(&with_exit(text), &PROFILE), Some(Refusal { at, reason }), "{text}");
    }
}

#[test]
fn what_is_not_in_the_rfc_is_refused() {
    let cases: [(&[[u8; 8]], usize, Reason); 22] = [
        (&[], 0, Reason::Length),
        (&[slot(0x20, 0, 0, 0, 0)], 0, Reason::LegacyPacket),
        (&[slot(0x18, 0, 1, 0, 0), [0; 8]], 0, Reason::MapReference),
        (&[slot(0x18, 0, 0, 0, 0)], 0, Reason::WideCut),
        (&[slot(0x18, 0, 0, 0, 0), slot(0xb7, 0, 0, 0, 0)], 0, Reason::ReservedField),
        (&[slot(0x18, 0, 0, 0, 0), slot(0, 1, 0, 0, 0)], 0, Reason::ReservedField),
        (&[slot(0xb7, 11, 0, 0, 0)], 0, Reason::NoRegister),
        (&[slot(0xbf, 0, 15, 0, 0)], 0, Reason::NoRegister),
        (&[slot(0xb7, 10, 0, 0, 0)], 0, Reason::FrameWritten),
        (&[slot(0x79, 10, 1, 0, 0)], 0, Reason::FrameWritten),
        (&[slot(0xb7, 0, 1, 0, 0)], 0, Reason::ReservedField),
        (&[slot(0xbf, 0, 1, 0, 1)], 0, Reason::ReservedField),
        (&[slot(0xbf, 0, 1, 24, 0)], 0, Reason::ReservedField),
        (&[slot(0x37, 0, 0, 2, 1)], 0, Reason::ReservedField),
        (&[slot(0xdf, 0, 0, 0, 16)], 0, Reason::UnknownOpcode),
        (&[slot(0xd7, 0, 0, 0, 24)], 0, Reason::ReservedField),
        (&[slot(0xe7, 0, 0, 0, 0)], 0, Reason::UnknownOpcode),
        (&[slot(0x99, 0, 1, 0, 0)], 0, Reason::UnknownOpcode),
        (&[slot(0xcb, 10, 1, -8, 0)], 0, Reason::UnknownOpcode),
        (&[slot(0xd3, 10, 1, -8, 0)], 0, Reason::UnknownOpcode),
        (&[slot(0x8d, 1, 0, 0, 0)], 0, Reason::FunctionCall),
        (&[slot(0x85, 0, 2, 0, 0)], 0, Reason::FunctionCall),
    ];
    for (slots, at, reason) in cases {
        assert_eq!(
            refusal(slots.as_flattened(), &PROFILE),
            Some(Refusal { at, reason }),
            "{slots:?}"
        );
    }
    let whole = with_exit("mov r0, 0");
    assert_eq!(refusal(&whole, &PROFILE), None);
    for length in 1..8 {
        let cut = refusal(&whole[..8 + length], &PROFILE);
        assert_eq!(cut, Some(Refusal { at: 1, reason: Reason::Length }));
    }
    let long = [0xb7, 0, 0, 0, 0, 0, 0, 0].repeat(MAX_SLOTS + 1);
    let reason = Reason::Length;
    assert_eq!(refusal(&long, &PROFILE), Some(Refusal { at: MAX_SLOTS + 1, reason }));
}

#[test]
fn every_opcode_is_known_or_refused() {
    let mut known = 0;
    for code in 0..=u8::MAX {
        let program = [slot(code, 0, 0, 0, 16), [0; 8], slot(0x95, 0, 0, 0, 0)];
        let refusal = refusal(program.as_flattened(), &PROFILE).filter(|refusal| refusal.at == 0);
        let decoded = refusal.is_none_or(|refusal| {
            use Reason::{Atomic, FunctionCall, LegacyPacket, UnknownOpcode};
            !matches!(refusal.reason, UnknownOpcode | FunctionCall | LegacyPacket | Atomic)
        });
        known += u32::from(decoded);
    }
    // Arithmetic: 13 operations but one in two classes with two operands, negation and the changes of
    // order; 22 jumps each, JA twice, CALL, EXIT; 4 + 3 loads, 8 stores, 1 constant.
    assert_eq!(known, 2 * (12 * 2 + 1) + 3 + 2 * 22 + 2 + 2 + 7 + 8 + 1);
}

#[test]
fn jumps_stay_inside_and_meet_instructions() {
    let exit = slot(0x95, 0, 0, 0, 0);
    let wide = [slot(0x18, 0, 0, 0, 1), slot(0, 0, 0, 0, 2)];
    for (jump, reason) in [
        (slot(0x05, 0, 0, 3, 0), Reason::JumpOutside),
        (slot(0x05, 0, 0, -2, 0), Reason::JumpOutside),
        (slot(0x06, 0, 0, 0, i32::MAX), Reason::JumpOutside),
        (slot(0x05, 0, 0, 1, 0), Reason::JumpIntoWide),
        (slot(0x1d, 1, 1, 1, 0), Reason::JumpIntoWide),
    ] {
        let program = [jump, wide[0], wide[1], exit];
        let refusal = refusal(program.as_flattened(), &PROFILE);
        assert_eq!(refusal, Some(Refusal { at: 0, reason }), "{jump:?}");
    }
    let over = assemble("mov r0, 0\njeq r0, 1, last\nexit\nlast:\nmov r0, 1").expect("assembles");
    assert_eq!(refusal(&over, &PROFILE), Some(Refusal { at: 4, reason: Reason::EndReached }));
}

#[test]
fn what_is_shown_to_be_in_bounds_is_not_guarded() {
    for (text, expected) in [
        ("mov r0, 0\nstdw [r3], 1\nstdw [r3+56], 1\nstb [r10-1], 2", (0, 3)),
        // The first load proves the ones before it in the packet.
        ("ldxw r0, [r1+12]\nldxb r0, [r1]\nldxdw r0, [r1+8]", (1, 2)),
        // One guard speaks for those behind it, unless somebody could see what is in between.
        ("ldxb r0, [r1]\nldxb r0, [r1+1]", (1, 1)),
        ("ldxdw r0, [r1]\nldxb r0, [r1+7]\nldxb r0, [r1+8]", (1, 2)),
        ("ldxb r0, [r1]\nstb [r10-1], 1\nldxb r0, [r1+1]", (1, 2)),
        ("ldxb r0, [r1]\nldxb r0, [r5+8]\nldxb r0, [r1+1]\nldxb r0, [r5+9]", (2, 2)),
        ("ldxb r0, [r1]\nstb [r3], 1\nldxb r0, [r1+1]", (2, 1)),
        ("ldxb r0, [r1]\njeq r0, 0, exit\nldxb r0, [r1+1]", (2, 0)),
        ("mov r0, 0\njeq r2, 3, on\nldxb r0, [r1]\non:\nldxb r0, [r1+1]", (2, 0)),
        ("mov r6, r5\nldxb r0, [r6+8]\nmov r1, 1\ncall 5\nldxb r0, [r6+9]", (2, 0)),
        ("mov r0, 0\njlt r2, 14, exit\nldxh r0, [r1+12]", (0, 1)),
        ("mov r0, 0\njgt r2, 13, more\nexit\nmore:\nldxh r0, [r1+12]", (0, 1)),
        ("mov r0, 0\nmov r6, 14\njgt r6, r2, exit\nldxh r0, [r1+12]", (0, 1)),
        ("mov r0, 0\njlt r2, 14, exit\nldxh r0, [r1+13]", (1, 0)),
        ("mov r0, 0\njslt32 r2, 14, exit\nldxh r0, [r1+12]", (0, 1)),
        // A length from the packet, cut to 4 bits, counted in words.
        (
            "mov r0, 0\njlt r2, 64, exit\nldxb r6, [r1]\nand r6, 15\nlsh r6, 2\nadd r1, r6\nldxw r0, [r1]",
            (0, 2),
        ),
        ("and r4, 56\nadd r3, r4\nldxdw r0, [r3]", (0, 1)),
        ("and r4, 56\nadd r3, r4\nldxdw r0, [r3+1]", (1, 0)),
        ("mod r4, 57\nadd r3, r4\nldxdw r0, [r3]", (0, 1)),
        ("mod r4, 58\nadd r3, r4\nldxdw r0, [r3]", (1, 0)),
        ("add r3, r4\nldxdw r0, [r3]", (1, 0)),
        // After a loop nothing is known of what it changes.
        ("mov r0, 0\nmore:\nadd r3, 8\nadd r0, 1\njlt r0, 4, more\nldxdw r0, [r3]", (1, 0)),
    ] {
        assert_eq!(guards(text, &PROFILE), expected, "{text}");
    }
}

#[test]
fn guards_stop_at_the_byte() {
    for (size, bytes) in [("b", 1), ("h", 2), ("w", 4), ("dw", 8)] {
        let program = with_exit(&format!("add r1, r4\nldx{size} r0, [r1]"));
        let mut workspace = Box::new(Workspace::new());
        let mut verified = verify(&program, &PROFILE, &mut workspace).expect("accepted");
        for length in 0..20u64 {
            let memory = vec![1; length as usize];
            let regions = Regions(vec![
                Memory::new(&memory, 64),
                Memory::new(&[0; 64], 64),
                Memory::new(&[0; 8], 64),
            ]);
            let places = (0..24).chain([u64::MAX, u64::MAX - 7, 1 << 63, u64::MAX << 32]);
            for place in places {
                let run =
                    run_both(&mut verified, &regions, [0, 0, 0, place, 0], 10).expect("cheap");
                let inside = place.checked_add(bytes).is_some_and(|end| end <= length);
                assert_eq!(run.outcome.is_ok(), inside, "{size} at {place} of {length}");
                assert!(inside || run.outcome == Err(Trap(1)));
            }
        }
    }
}

#[test]
fn loops_end() {
    for (text, at) in [
        ("more:\nja more", 0),
        ("mov r0, 0\nmore:\nadd r0, 1\njne r0, 0, more", 2),
        ("more:\nmov r1, 1\ncall 5\nja more", 2),
    ] {
        let mut workspace = Box::new(Workspace::new());
        let program = with_exit(text);
        let mut verified = verify(&program, &PROFILE, &mut workspace).expect(text);
        for budget in [0, 5, 1000, 30] {
            let run = run_both(&mut verified, &regions(&[]), [0; 5], budget);
            assert!(run.is_none_or(|run| run.outcome == Err(Trap(at))), "{text}");
        }
        let refusal = refusal(&program, &PREDICATE).expect("loops");
        assert!(matches!(refusal.reason, Reason::Loop | Reason::NoHelper), "{text}: {refusal:?}");
    }
}

#[test]
fn the_cost_is_that_of_the_longest_way() {
    let fuel = |text: &str| {
        let mut workspace = Box::new(Workspace::new());
        let program = with_exit(text);
        let verified = verify(&program, &PROFILE, &mut workspace).expect(text);
        100 - verified.fuel(100).expect("cheap")
    };
    assert_eq!(fuel("mov r0, 0"), 2);
    assert_eq!(fuel("mov r0, 0\njeq r0, 1, exit\nmov r0, 1\nmov r0, 2"), 5);
    assert_eq!(fuel("lddw r0, 1"), 2);
    assert_eq!(fuel("mov r2, 8\ncall 2"), 23);
    let calls = "mov r2, 8\ncall 9\n".repeat(3);
    let dear = Helper { name: "dear", arguments: [Argument::Nothing; 5], cost: 1 << 30 };
    let mut helpers = HELPERS.to_vec();
    helpers.resize(10, Some(dear));
    let profile = Profile { helpers: &helpers, ..PROFILE };
    let reason = refusal(&with_exit(&calls), &profile).map(|refusal| refusal.reason);
    assert_eq!(reason, Some(Reason::TooCostly));
}

/// Registers that pass what they hold around in a loop change in pass after pass.
#[test]
fn verification_is_bounded() {
    let mut text = String::from("mov r0, 0\nmov r6, 0\nmov r7, 0\nmov r8, 0\nmov r9, 0\n");
    for depth in 0..40 {
        text += &format!("l{depth}:\nmov r9, r8\nmov r8, r7\nmov r7, r6\nmov r6, r2\n");
    }
    for depth in (0..40).rev() {
        text += &format!("add r2, 1\njne r2, {depth}, l{depth}\n");
    }
    assert_eq!(refusal(&with_exit(&text), &PROFILE), None);
    let jumps: String = (0..MAX_SLOTS - 3).map(|n| format!("jeq r0, {n}, +0\n")).collect();
    let reason = refusal(&with_exit(&format!("mov r0, 0\n{jumps}")), &PROFILE);
    assert_eq!(reason.map(|refusal| refusal.reason), Some(Reason::TooManyTargets));
}

#[test]
fn residuals_and_predicates() {
    let program =
        with_exit("mov r0, 0\njlt r2, 20, exit\nldxh r3, [r1+12]\njne r3, 8, exit\nmov r0, 1");
    assert_eq!(refusal(&program, &RESIDUAL), None);
    let program = with_exit("ldxdw r0, [r1]\njle r0, r3, +1\nmov r0, 0");
    assert_eq!(refusal(&program, &PREDICATE), None);
}
