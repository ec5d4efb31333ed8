//! What arithmetic and comparisons mean (RFC 9669, sections 4.1 to 4.3), as the interpreter computes.

use packet_filters::ebpf::{Instruction, class, operation::*};

/// The result of an arithmetic instruction. Operations on 32 bits clear the upper half.
pub(crate) fn compute(instruction: &Instruction, left: u64, right: u64) -> u64 {
    if instruction.is_conversion() {
        let little = instruction.class() == class::NARROW && instruction.code & 8 == 0;
        return match (instruction.immediate, little) {
            (16, true) => (left as u16).into(),
            (32, true) => (left as u32).into(),
            (16, false) => (left as u16).swap_bytes().into(),
            (32, false) => (left as u32).swap_bytes().into(),
            (_, true) => left,
            (_, false) => left.swap_bytes(),
        };
    }
    if instruction.is_wide() {
        compute64(instruction, left, right)
    } else {
        compute32(instruction, left as u32, right as u32).into()
    }
}

/// Whether a branch is taken.
pub(crate) fn holds(instruction: &Instruction, left: u64, right: u64) -> bool {
    if instruction.is_wide() {
        let (signed, by) = (left.cast_signed(), right.cast_signed());
        compare(instruction.operation(), left, right, signed, by)
    } else {
        let (signed, by) = (i64::from(left as i32), i64::from(right as i32));
        compare(
            instruction.operation(),
            u64::from(left as u32),
            u64::from(right as u32),
            signed,
            by,
        )
    }
}

fn compare(test: u8, left: u64, right: u64, signed: i64, by: i64) -> bool {
    match test {
        JEQ => left == right,
        JGT => left > right,
        JGE => left >= right,
        JSET => left & right != 0,
        JNE => left != right,
        JSGT => signed > by,
        JSGE => signed >= by,
        JLT => left < right,
        JLE => left <= right,
        JSLT => signed < by,
        JSLE => signed <= by,
        _ => unreachable!("decoded"),
    }
}

/// The same text for both widths. Division by zero gives zero, and leaves the dividend for the
/// remainder; the one quotient that overflows wraps; a shift looks at 5 or 6 bits of its count.
macro_rules! operations {
    ($name:ident, $unsigned:ty, $signed:ty) => {
        fn $name(instruction: &Instruction, left: $unsigned, right: $unsigned) -> $unsigned {
            let (signed, by) = (left.cast_signed(), right.cast_signed());
            match (instruction.operation(), instruction.offset) {
                (ADD, _) => left.wrapping_add(right),
                (SUB, _) => left.wrapping_sub(right),
                (MUL, _) => left.wrapping_mul(right),
                (DIV, 0) => left.checked_div(right).unwrap_or(0),
                (MOD, 0) => left.checked_rem(right).unwrap_or(left),
                (DIV, _) if right == 0 => 0,
                (DIV, _) => signed.wrapping_div(by).cast_unsigned(),
                (MOD, _) if right == 0 => left,
                (MOD, _) => signed.wrapping_rem(by).cast_unsigned(),
                (OR, _) => left | right,
                (AND, _) => left & right,
                (XOR, _) => left ^ right,
                (LSH, _) => left.wrapping_shl(right as u32),
                (RSH, _) => left.wrapping_shr(right as u32),
                (ARSH, _) => signed.wrapping_shr(right as u32).cast_unsigned(),
                (NEG, _) => left.wrapping_neg(),
                (MOV, 0) => right,
                (MOV, 8) => <$signed>::from(right as i8).cast_unsigned(),
                (MOV, 16) => <$signed>::from(right as i16).cast_unsigned(),
                (MOV, _) => <$signed>::from(right as i32).cast_unsigned(),
                _ => unreachable!("decoded"),
            }
        }
    };
}

operations!(compute64, u64, i64);
operations!(compute32, u32, i32);
