//! The syntax of the conformance vectors, which is uBPF's: `add32 %r1, 5`, `ldxw %r0, [%r1+4]`,
//! `jne %r0, 1, label`, `lock fetch add [%r10-8], %r1`. The `%` may be left out.

use std::collections::HashMap;

/// One slot.
pub fn slot(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let [o0, o1] = offset.to_le_bytes();
    let [i0, i1, i2, i3] = immediate.to_le_bytes();
    [opcode, from << 4 | to, o0, o1, i0, i1, i2, i3]
}

const ARITHMETIC: [&str; 13] =
    ["add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor", "mov", "arsh"];

const BRANCHES: [(&str, u8); 11] = [
    ("jeq", 1),
    ("jgt", 2),
    ("jge", 3),
    ("jset", 4),
    ("jne", 5),
    ("jsgt", 6),
    ("jsge", 7),
    ("jlt", 10),
    ("jle", 11),
    ("jslt", 12),
    ("jsle", 13),
];

const SIZES: [(&str, u8); 4] = [("b", 0x10), ("h", 0x08), ("w", 0x00), ("dw", 0x18)];

/// Assembles a program; an error names the line.
pub fn assemble(text: &str) -> Result<Vec<u8>, String> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
        .collect();
    let (mut labels, mut at) = (HashMap::new(), 0i32);
    for line in &lines {
        match line.strip_suffix(':') {
            Some(label) => _ = labels.insert(label, at),
            None => at += if line.starts_with("lddw") { 2 } else { 1 },
        }
        if *line == "exit" && !lines.contains(&"exit:") {
            labels.insert("exit", at - 1);
        }
    }
    let mut program = Vec::new();
    for line in lines.iter().filter(|line| !line.ends_with(':')) {
        let here = (program.len() / 8) as i32 + 1;
        let target = |label: &str| match labels.get(label) {
            Some(at) => Ok(at - here),
            None => number(label).map(|distance| distance as i32),
        };
        let slots = instruction(line, target).map_err(|error| format!("{line}: {error}"))?;
        program.extend(slots.concat());
    }
    Ok(program)
}

type Slots = Result<Vec<[u8; 8]>, String>;

fn instruction(line: &str, target: impl Fn(&str) -> Result<i32, String>) -> Slots {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let operands: Vec<&str> = rest.split(',').map(str::trim).collect();
    let first = operands.first().copied().unwrap_or("");
    let second = operands.get(1).copied().unwrap_or("");
    let (stem, class) = match name.strip_suffix("32") {
        Some(stem) => (stem, 4),
        None => (name, 7),
    };
    if let Some(width) = name.strip_prefix("le").or(name.strip_prefix("be"))
        && let Ok(bits) = width.parse()
    {
        let opcode = if name.starts_with("be") { 0xdc } else { 0xd4 };
        return Ok(vec![slot(opcode, register(first)?, 0, 0, bits)]);
    }
    if let Some(width) = name.strip_prefix("bswap").or(name.strip_prefix("swap")) {
        let bits = width.parse().map_err(|_| "no such width")?;
        return Ok(vec![slot(0xd7, register(first)?, 0, 0, bits)]);
    }
    if let Some(kind) = name.strip_prefix("movsx") {
        let (bits, class) = match kind {
            "832" => (8, 4),
            "1632" => (16, 4),
            "864" => (8, 7),
            "1664" => (16, 7),
            "3264" => (32, 7),
            _ => return Err("no such move".into()),
        };
        return Ok(vec![slot(0xb8 | class, register(first)?, register(second)?, bits, 0)]);
    }
    if let Some(code) = ARITHMETIC.iter().position(|name| *name == stem.trim_start_matches("64")) {
        return arithmetic(code as u8, class, 0, first, second);
    }
    match stem {
        "sdiv" => return arithmetic(3, class, 1, first, second),
        "smod" => return arithmetic(9, class, 1, first, second),
        "lock" => return lock(rest),
        _ => (),
    }
    if let Some((_, code)) = BRANCHES.iter().find(|(name, _)| *name == stem) {
        let class = if class == 4 { 6 } else { 5 };
        let distance = i16::try_from(target(operands.get(2).copied().unwrap_or(""))?);
        let distance = distance.map_err(|_| "too far")?;
        return Ok(vec![two(code << 4 | class, register(first)?, second, distance)?]);
    }
    memory_or_transfer(name, first, second, target)
}

fn memory_or_transfer(
    name: &str,
    first: &str,
    second: &str,
    target: impl Fn(&str) -> Result<i32, String>,
) -> Slots {
    match name {
        "exit" => return Ok(vec![slot(0x95, 0, 0, 0, 0)]),
        "ja" => return Ok(vec![slot(0x05, 0, 0, target(first)? as i16, 0)]),
        "ja32" => return Ok(vec![slot(0x06, 0, 0, 0, target(first)?)]),
        "call" => {
            return Ok(vec![match (first.strip_prefix("local "), register(first)) {
                (Some(label), _) => slot(0x85, 0, 1, 0, target(label)?),
                (None, Ok(register)) => slot(0x8d, register, 0, 0, 0),
                (None, Err(_)) => slot(0x85, 0, 0, 0, number(first)? as i32),
            }]);
        }
        "lddw" => {
            let value = number(second)?;
            let low = slot(0x18, register(first)?, 0, 0, value as i32);
            return Ok(vec![low, slot(0, 0, 0, 0, (value >> 32) as i32)]);
        }
        _ => (),
    }
    let size = |stem: &str| {
        let size = name.strip_prefix(stem)?;
        SIZES.iter().find(|(name, _)| *name == size).map(|(_, size)| *size)
    };
    if let Some(size) = size("ldxs").or(size("ldx")) {
        let (base, offset) = memory(second)?;
        let mode = if name.starts_with("ldxs") { 0x81 } else { 0x61 };
        return Ok(vec![slot(mode | size, register(first)?, base, offset, 0)]);
    }
    let (base, offset) = memory(first)?;
    if let Some(size) = size("stx") {
        Ok(vec![slot(0x63 | size, base, register(second)?, offset, 0)])
    } else if let Some(size) = size("st") {
        Ok(vec![slot(0x62 | size, base, 0, offset, number(second)? as i32)])
    } else {
        Err("no such instruction".into())
    }
}

fn arithmetic(code: u8, class: u8, offset: i16, first: &str, second: &str) -> Slots {
    if second.is_empty() {
        return Ok(vec![slot(code << 4 | class, register(first)?, 0, offset, 0)]);
    }
    Ok(vec![two(code << 4 | class, register(first)?, second, offset)?])
}

/// With a register or a number as its second operand.
fn two(opcode: u8, to: u8, second: &str, offset: i16) -> Result<[u8; 8], String> {
    match register(second) {
        Ok(from) => Ok(slot(opcode | 0x08, to, from, offset, 0)),
        Err(_) => Ok(slot(opcode, to, 0, offset, number(second)? as i32)),
    }
}

fn lock(rest: &str) -> Slots {
    let (fetch, rest) = match rest.strip_prefix("fetch ") {
        Some(rest) => (1, rest),
        None => (0, rest),
    };
    let (name, operands) = rest.split_once(' ').ok_or("no operands")?;
    let (place, operand) = operands.split_once(',').ok_or("one operand")?;
    let (name, size) = match name.strip_suffix("32") {
        Some(name) => (name, 0x00),
        None => (name, 0x18),
    };
    let operation = match name {
        "add" => fetch,
        "or" => 0x40 | fetch,
        "and" => 0x50 | fetch,
        "xor" => 0xa0 | fetch,
        "xchg" => 0xe1,
        "cmpxchg" => 0xf1,
        _ => return Err("no such operation".into()),
    };
    let (base, offset) = memory(place)?;
    Ok(vec![slot(0xc3 | size, base, register(operand.trim())?, offset, operation)])
}

fn register(text: &str) -> Result<u8, String> {
    let digits = text.trim_start_matches('%').strip_prefix('r');
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("{text:?} is no register"))
}

fn number(text: &str) -> Result<u64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.trim_start_matches('+')),
    };
    let value = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let value = value.map_err(|_| format!("{text:?} is no number"))?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// `[%r1+4]`
fn memory(text: &str) -> Result<(u8, i16), String> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let inside = inside.ok_or_else(|| format!("{text:?} is no place in memory"))?;
    let sign = inside.find(['+', '-']).unwrap_or(inside.len());
    let (base, offset) = inside.split_at(sign);
    let offset = if offset.is_empty() { 0 } else { number(offset)? as i16 };
    Ok((register(base)?, offset))
}
