//! eBPF by hand: the few instructions that handlers of the tests need, and wrong ones.

/// One slot.
pub const fn slot(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let [o0, o1] = offset.to_le_bytes();
    let [i0, i1, i2, i3] = immediate.to_le_bytes();
    [code, from << 4 | to, o0, o1, i0, i1, i2, i3]
}

/// `to = value`
pub const fn constant(to: u8, value: i32) -> [u8; 8] {
    slot(0xb7, to, 0, 0, value)
}

/// `to = from`
pub const fn copy(to: u8, from: u8) -> [u8; 8] {
    slot(0xbf, to, from, 0, 0)
}

/// Calls a helper.
pub const fn help(number: i32) -> [u8; 8] {
    slot(0x85, 0, 0, 0, number)
}

/// The end of a program.
pub const EXIT: [u8; 8] = slot(0x95, 0, 0, 0, 0);
