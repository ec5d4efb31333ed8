//! The last instructions that were executed between two marks, in order.
//!
//! Only for one processor: what is executed is noted without a lock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{c_uint, c_void};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::api::{self, Instruction};

/// How many are kept.
const LENGTH: usize = 1 << 15;

/// Where they go, if they are wanted.
static OUTPUT: OnceLock<PathBuf> = OnceLock::new();

thread_local! {
    /// Those since the last mark, on the thread of the processor.
    static EXECUTED: RefCell<VecDeque<&'static Translated>> = const { RefCell::new(VecDeque::new()) };
}

/// An instruction as QEMU has translated it.
struct Translated {
    address: u64,
    bytes: Vec<u8>,
}

/// From now on, what is executed is noted; it goes to this file.
pub(crate) fn start(path: &str) {
    // A second one changes nothing.
    let _ = OUTPUT.set(path.into());
}

/// Sees to it that the instruction is noted each time that it is executed.
///
/// # Safety
/// QEMU has given the instruction to the callback that is running.
pub(crate) unsafe fn instrument(instruction: *mut Instruction, address: u64, bytes: &[u8]) {
    if OUTPUT.get().is_none() {
        return;
    }
    // QEMU does not say when it forgets a translation, so these are never freed.
    let translated = Box::leak(Box::new(Translated { address, bytes: bytes.to_vec() }));
    let data = (&raw mut *translated).cast::<c_void>();
    // SAFETY: the caller's promise; `executed` gets what it expects.
    unsafe {
        api::qemu_plugin_register_vcpu_insn_exec_cb(instruction, executed, api::NO_REGISTERS, data);
    }
}

extern "C" fn executed(_cpu: c_uint, data: *mut c_void) {
    // SAFETY: `instrument` has passed one that is never freed, and nobody changes it.
    let translated = unsafe { &*data.cast::<Translated>() };
    EXECUTED.with_borrow_mut(|list| {
        if list.len() == LENGTH {
            list.pop_front();
        }
        list.push_back(translated);
    });
}

/// What is measured begins: what was before is forgotten.
pub(crate) fn begin() {
    EXECUTED.with_borrow_mut(VecDeque::clear);
}

/// It ends: a line for each instruction, its address and its bytes.
pub(crate) fn end() {
    let Some(path) = OUTPUT.get() else { return };
    let mut text = String::new();
    EXECUTED.with_borrow(|list| {
        for translated in list {
            let _ = write!(text, "{:x} ", translated.address);
            for byte in &translated.bytes {
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
    });
    // The reader notices that the file is missing, and says so.
    let _ = fs::write(path, text);
}
