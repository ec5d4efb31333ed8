//! The part of QEMU's plugin interface that is used here.
//!
//! Declared by hand: Debian's QEMU comes without the header, and the crates that wrap it are under
//! a licence that this workspace is not under.

use std::ffi::{c_int, c_uint, c_void};

/// A plugin, as QEMU numbers them.
pub(crate) type Id = u64;

/// What QEMU says of itself at the start; not looked at.
#[repr(C)]
pub struct Info {
    _opaque: [u8; 0],
}

/// A block of instructions that QEMU has translated.
#[repr(C)]
pub(crate) struct Block {
    _opaque: [u8; 0],
}

/// One of them.
#[repr(C)]
pub(crate) struct Instruction {
    _opaque: [u8; 0],
}

/// The only operation of [`qemu_plugin_register_vcpu_insn_exec_inline`].
pub(crate) const ADD_U64: c_int = 0;
/// The callback looks at no register.
pub(crate) const NO_REGISTERS: c_int = 0;

// SAFETY: QEMU defines these, with the types of `qemu-plugin.h`. Blocks and instructions are good only
// inside the callback that was given them; what a callback gets as data has to live as long as the machine.
unsafe extern "C" {
    pub(crate) fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: Id,
        callback: extern "C" fn(Id, *mut Block),
    );
    pub(crate) fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    pub(crate) fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    pub(crate) fn qemu_plugin_insn_data(instruction: *const Instruction) -> *const c_void;
    pub(crate) fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
    pub(crate) fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    pub(crate) fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: extern "C" fn(c_uint, *mut c_void),
        flags: c_int,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_register_vcpu_insn_exec_inline(
        instruction: *mut Instruction,
        operation: c_int,
        place: *mut c_void,
        amount: u64,
    );
}
