//! Counts the guest's instructions between two marks, exactly, those of programs and those of the
//! kernel apart.
//!
//! A mark is `nop dword ptr [rax + MARK + kind]`, which does nothing on any processor: whoever is
//! measured sets marks without entering a kernel, and ours and Linux are measured alike.
//!
//! | kind | meaning |
//! |---|---|
//! | [`BEGIN`] | what is measured begins |
//! | [`END`] | it ends |
//! | [`ASIDE`]` + n` | the `n` instructions from here on (this one included) only wait |
//!
//! At `BEGIN` and `END` the counters go to the file `out=FILE` as a line of JSON. They are
//! counted when they are executed and not for whole blocks, because an exception leaves a block in
//! the middle. `BEGIN` and `END` themselves do not count. An instruction that faults counts each
//! time that it is tried, and so do the iterations of one with a `rep` prefix.
//!
//! With several processors the counters are not exact: QEMU adds to them without a lock.
//!
//! With `trace=FILE`, the last of the instructions go to that file at `END`, one for each line, but
//! for those that wait.

mod api;
mod trace;

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::Write;
use std::slice;
use std::sync::OnceLock;

use api::{Block, Id, Info, Instruction};

/// The displacement of every mark: `"exo"` above the byte of the kind.
const MARK: u32 = 0x6578_6f00;
/// `nop dword ptr [rax + displacement]`, without the displacement.
const OPCODE: [u8; 3] = [0x0f, 0x1f, 0x80];
/// What is measured begins.
const BEGIN: u8 = 1;
/// What is measured ends.
const END: u8 = 2;
/// From here on: instructions that wait.
const ASIDE: u8 = 0x80;
/// From this address on, it is the kernel's.
const KERNEL_HALF: u64 = 1 << 63;

/// A counter that translated code adds to.
struct Counter(UnsafeCell<u64>);

// SAFETY: Rust code only reads it, with a volatile load of one aligned word; what translated code
// adds on another processor's thread can be missed, as the module says.
unsafe impl Sync for Counter {}

impl Counter {
    const fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn value(&self) -> u64 {
        // SAFETY: it points at a static.
        unsafe { self.0.get().read_volatile() }
    }

    /// Adds `amount` each time that the instruction is executed, before it is.
    fn count(&'static self, instruction: *mut Instruction, amount: u64) {
        let place = self.0.get().cast::<c_void>();
        // SAFETY: QEMU has given the instruction to the callback that is running; the place is a
        // static's.
        unsafe {
            api::qemu_plugin_register_vcpu_insn_exec_inline(
                instruction,
                api::ADD_U64,
                place,
                amount,
            );
        }
    }
}

/// Instructions of programs.
static USER: Counter = Counter::new();
/// Instructions of the kernel.
static KERNEL: Counter = Counter::new();
/// Those of them that only wait.
static WAITING: Counter = Counter::new();
/// Where the lines go.
static OUTPUT: OnceLock<File> = OnceLock::new();

/// The version of QEMU's interface that this was written for: that of QEMU 6.0 to 8.2.
// SAFETY: QEMU looks for this name in the plugin, and nothing else in it has the name.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU looks for this name")]
pub static qemu_plugin_version: c_int = 1;

/// QEMU calls this when it has loaded the plugin.
///
/// # Safety
/// `arguments` are `count` strings.
// SAFETY: as with the version, the name is the plugin's alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const Info,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU's promise.
    let arguments = unsafe { list(arguments, count as usize) };
    let argument = |key: &str| {
        arguments.iter().find_map(|&argument| {
            // SAFETY: QEMU's promise.
            let text = unsafe { CStr::from_ptr(argument) }.to_str().ok()?;
            text.strip_prefix(key)
        })
    };
    argument("trace=").into_iter().for_each(trace::start);
    let Some(path) = argument("out=") else {
        eprintln!("instruction-counter: out=FILE is missing");
        return 1;
    };
    match File::create(path) {
        Ok(file) => drop(OUTPUT.set(file)),
        Err(error) => {
            eprintln!("instruction-counter: cannot write {path}: {error}");
            return 1;
        }
    }
    // SAFETY: the function is one for this purpose.
    unsafe { api::qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

/// A list that C describes as a pointer and a count; an empty one may be a null pointer.
///
/// # Safety
/// The pointer leads to `count` elements that outlive the list, or the count is 0.
unsafe fn list<'a, T>(pointer: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(pointer, count) }
}

/// QEMU has translated a block: each instruction gets what it has to count.
extern "C" fn translated(_id: Id, block: *mut Block) {
    // How many instructions only wait from here on: a wait is within a block.
    let mut waiting = 0;
    // SAFETY: the block is QEMU's for the time of this call, and the index is below its length.
    unsafe {
        for index in 0..api::qemu_plugin_tb_n_insns(block) {
            instrument(api::qemu_plugin_tb_get_insn(block, index), &mut waiting);
        }
    }
}

/// # Safety
/// The instruction belongs to the block that is being translated.
unsafe fn instrument(instruction: *mut Instruction, waiting: &mut u8) {
    // SAFETY: the caller's promise.
    let (bytes, address) = unsafe {
        let length = api::qemu_plugin_insn_size(instruction);
        let bytes = api::qemu_plugin_insn_data(instruction).cast::<u8>();
        (list(bytes, length), api::qemu_plugin_insn_vaddr(instruction))
    };
    match mark(bytes) {
        Some(kind @ (BEGIN | END)) => {
            let kind = kind as usize as *mut c_void;
            // SAFETY: the instruction is as the caller says, and the function is one for this
            // purpose; it takes the last argument as a number.
            unsafe {
                api::qemu_plugin_register_vcpu_insn_exec_cb(
                    instruction,
                    marked,
                    api::NO_REGISTERS,
                    kind,
                );
            }
            return;
        }
        Some(kind) if kind > ASIDE => {
            *waiting = kind - ASIDE;
            WAITING.count(instruction, u64::from(*waiting));
        }
        _ => {}
    }
    let counter = if address < KERNEL_HALF { &USER } else { &KERNEL };
    counter.count(instruction, 1);
    // One that waits is executed as often as the host is slow.
    match waiting.checked_sub(1) {
        Some(left) => *waiting = left,
        // SAFETY: the caller's promise.
        None => unsafe { trace::instrument(instruction, address, bytes) },
    }
}

/// The kind of the mark, if these bytes are one.
fn mark(bytes: &[u8]) -> Option<u8> {
    let displacement = bytes.strip_prefix(&OPCODE)?.try_into().ok()?;
    let displacement = u32::from_le_bytes(displacement);
    (displacement & !0xff == MARK).then_some(displacement as u8)
}

/// A mark has been executed. The line is written at once: a guest can end QEMU at any time.
extern "C" fn marked(_cpu: c_uint, kind: *mut c_void) {
    let begins = kind as usize == usize::from(BEGIN);
    let name = if begins { "begin" } else { "end" };
    if begins {
        trace::begin()
    } else {
        trace::end()
    };
    let (user, kernel, waiting) = (USER.value(), KERNEL.value(), WAITING.value());
    let line = format!(
        "{{\"mark\":\"{name}\",\"user\":{user},\"kernel\":{kernel},\"waiting\":{waiting}}}\n"
    );
    // A line that is lost makes the number of marks wrong, which the reader notices.
    if let Some(mut file) = OUTPUT.get() {
        let _ = file.write_all(line.as_bytes());
    }
}
