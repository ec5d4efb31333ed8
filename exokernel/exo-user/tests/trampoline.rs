//! The trampoline of upcalls, on the host: a stand-in for the kernel pushes a frame and enters it,
//! with a known value in every register, and looks at them when it has come back.
//!
//! The control page is mapped where the kernel would map it.

use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use exo_user::abi::control::ControlWord;
use exo_user::abi::layout::CONTROL;
use exo_user::abi::upcall::{EVENT_CAUSE, Event, FRAME_WORDS, UpcallFrame};
use exo_user::control;
use exo_user::upcall::{self, Handlers, Interrupted};
use std::sync::{Mutex, Once};

/// One upcall at a time: the control page is the process's.
static TURN: Mutex<()> = Mutex::new(());
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Every register that an upcall may not change, as it was before and is afterwards.
#[repr(C, align(16))]
#[derive(Clone, Debug, PartialEq)]
struct Registers {
    vectors: [u8; 512],
    general: [u64; 15],
    flags: u64,
}

/// What the stand-in works with.
#[repr(C)]
struct Upcall {
    before: Registers,
    after: Registers,
    host_stack: u64,
    entry: u64,
    frame: *mut UpcallFrame,
}

/// Loads the registers, pushes the frame, enters the trampoline; stores them after its return.
#[unsafe(naked)]
unsafe extern "sysv64" fn interrupt(upcall: *mut Upcall) {
    naked_asm!(
        "push rbx; push rbp; push r12; push r13",
        "push r14; push r15; push rdi; mov [rdi + {host_stack}], rsp",
        "fxrstor64 [rdi]",
        // The frame, with the registers as they are about to be.
        "mov rsi, [rdi + {frame}]; mov rax, [rdi + {general}]; mov [rsi], rax",
        "mov rax, [rdi + {general} + 8]; mov [rsi + 8], rax",
        "mov rax, [rdi + {general} + 16]; mov [rsi + 16], rax",
        "mov rax, [rdi + {general} + 24]; mov [rsi + 24], rax",
        "mov rax, [rdi + {general} + 32]; mov [rsi + 32], rax; lea rax, [rip + 2f]",
        "mov [rsi + {rip}], rax; mov rax, [rdi + {flags}]",
        "mov [rsi + {rflags}], rax; mov [rsi + {rsp}], rsp",
        // The registers that an upcall leaves as they are.
        "mov rbx, [rdi + {general} + 40]; mov rbp, [rdi + {general} + 48]",
        "mov r8, [rdi + {general} + 56]; mov r9, [rdi + {general} + 64]",
        "mov r10, [rdi + {general} + 72]; mov r11, [rdi + {general} + 80]",
        "mov r12, [rdi + {general} + 88]; mov r13, [rdi + {general} + 96]",
        "mov r14, [rdi + {general} + 104]; mov r15, [rdi + {general} + 112]",
        // As the kernel enters: cause, code, address, frame.
        "mov rsp, rsi; mov rcx, rsi; mov rax, [rdi + {entry}]",
        "mov rdi, [rcx + {cause}]; mov rsi, [rcx + {cause} + 8]",
        "mov rdx, [rcx + {cause} + 16]; jmp rax",
        // Back: the stack is the one before, with this function's argument on top.
        "2:",
        "push rdi; pushfq; mov rdi, [rsp + 16]; mov [rdi + {after}], rax",
        "mov [rdi + {after} + 8], rcx; mov [rdi + {after} + 16], rdx",
        "mov [rdi + {after} + 24], rsi; pop rax; mov [rdi + {after_flags}], rax",
        "pop rax; mov [rdi + {after} + 32], rax; mov [rdi + {after} + 40], rbx",
        "mov [rdi + {after} + 48], rbp; mov [rdi + {after} + 56], r8",
        "mov [rdi + {after} + 64], r9; mov [rdi + {after} + 72], r10",
        "mov [rdi + {after} + 80], r11; mov [rdi + {after} + 88], r12",
        "mov [rdi + {after} + 96], r13; mov [rdi + {after} + 104], r14",
        "mov [rdi + {after} + 112], r15; fxsave64 [rdi + {after_vectors}]; pop rdi",
        "pop r15; pop r14; pop r13; pop r12",
        "pop rbp; pop rbx; ret",
        host_stack = const offset_of!(Upcall, host_stack),
        frame = const offset_of!(Upcall, frame),
        entry = const offset_of!(Upcall, entry),
        general = const offset_of!(Registers, general),
        flags = const offset_of!(Registers, flags),
        after = const offset_of!(Upcall, after) + offset_of!(Registers, general),
        after_flags = const offset_of!(Upcall, after) + offset_of!(Registers, flags),
        after_vectors = const offset_of!(Upcall, after),
        rip = const offset_of!(UpcallFrame, rip),
        rflags = const offset_of!(UpcallFrame, rflags),
        rsp = const offset_of!(UpcallFrame, rsp),
        cause = const offset_of!(UpcallFrame, cause),
    )
}

/// Maps the control page, once.
fn map_control() {
    static MAPPED: Once = Once::new();
    MAPPED.call_once(|| {
        // SAFETY: the address is free, or else the call fails.
        let page = unsafe {
            libc::mmap(
                CONTROL as *mut libc::c_void,
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        assert_eq!(page as u64, CONTROL);
    });
}

/// Registers full of values that are easy to tell apart.
fn registers() -> Registers {
    let mut registers = Registers { vectors: [0; 512], general: [0; 15], flags: 0x246 };
    // SAFETY: there are 512 bytes, at a multiple of 16.
    unsafe { asm!("fxsave64 [{}]", in(reg) registers.vectors.as_mut_ptr(), options(nostack)) };
    for (index, byte) in registers.vectors[160..416].iter_mut().enumerate() {
        *byte = index as u8 ^ 0x5a;
    }
    for (register, index) in registers.general.iter_mut().zip(1..) {
        *register = 0x1111_1111_1111_1111 * index;
    }
    registers
}

/// Makes an upcall with this cause and this mask before it; returns the registers before and after.
fn upcall(handlers: &'static Handlers, cause: u64, mask: u64) -> (Registers, Registers) {
    let mut stack = vec![0_u64; 4096];
    let top = (stack.as_mut_ptr_range().end as u64) & !15;
    // SAFETY: the stack is bound, large enough and nobody else's while this function runs.
    unsafe { upcall::install(top - 4096 * 7..top, handlers) };
    let frame = (top - 8 * FRAME_WORDS as u64) as *mut UpcallFrame;
    // SAFETY: the frame is inside the stack.
    unsafe { (*frame).mask = mask };
    // SAFETY: as above.
    unsafe { (*frame).cause = cause };
    control::word(ControlWord::Mask).store(1, Ordering::Relaxed);
    let entry = control::word(ControlWord::Entry).load(Ordering::Relaxed);
    let mut upcall =
        Upcall { before: registers(), after: registers(), host_stack: 0, entry, frame };
    upcall.after.general = [0; 15];
    // SAFETY: the frame and the entry are as the kernel would have them.
    unsafe { interrupt(&raw mut upcall) };
    (upcall.before, upcall.after)
}

/// A handler that uses every register that it may.
fn clobber(_: &mut Interrupted) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: everything that it changes is named.
    unsafe { asm!("pxor xmm0, xmm0", "pxor xmm15, xmm15", "std", "cld", clobber_abi("sysv64")) };
}

static CLOBBER: Handlers =
    Handlers { exception: clobber, revoke: Some(clobber), lost: Some(clobber), ..Handlers::NONE };

#[test]
fn an_upcall_changes_no_register() {
    let _turn = TURN.lock().unwrap();
    map_control();
    for cause in [14, Event::Revoke.cause()] {
        let calls = CALLS.load(Ordering::Relaxed);
        let (before, after) = upcall(&CLOBBER, cause, 0);
        assert_eq!(CALLS.load(Ordering::Relaxed), calls + 1);
        assert_eq!(before.general, after.general);
        assert_eq!(before.flags & 0xcd5, after.flags & 0xcd5);
        assert_eq!(before.vectors[160..416], after.vectors[160..416]);
    }
}

#[test]
fn the_mask_is_what_it_was() {
    let _turn = TURN.lock().unwrap();
    map_control();
    for mask in [0, 1] {
        upcall(&CLOBBER, 14, mask);
        assert_eq!(control::word(ControlWord::Mask).load(Ordering::Relaxed), mask);
    }
}

#[test]
fn events_that_came_meanwhile_are_handled_before_the_return() {
    let _turn = TURN.lock().unwrap();
    map_control();
    let pending = control::word(ControlWord::Pending);
    let before = CALLS.load(Ordering::Relaxed);
    pending.store(Event::Lost.bit() | Event::Packet.bit(), Ordering::Relaxed);
    upcall(&CLOBBER, Event::Revoke.cause(), 0);
    assert_eq!(CALLS.load(Ordering::Relaxed), before + 2);
    assert_eq!(pending.load(Ordering::Relaxed), Event::Packet.bit(), "nobody wants that one");
    pending.store(Event::Lost.bit(), Ordering::Relaxed);
    upcall(&CLOBBER, Event::Revoke.cause(), 1);
    assert_eq!(pending.load(Ordering::Relaxed), Event::Lost.bit(), "it was held back before");
    pending.store(0, Ordering::Relaxed);
}

/// A handler that moves what was interrupted: `r8` and `rax` are changed.
fn change(interrupted: &mut Interrupted) {
    interrupted.r8 = 77;
    interrupted.frame.rax = 78;
}

static CHANGE: Handlers = Handlers { exception: change, ..Handlers::NONE };

#[test]
fn a_handler_can_change_what_was_interrupted() {
    let _turn = TURN.lock().unwrap();
    map_control();
    let (before, after) = upcall(&CHANGE, 14, 0);
    assert_eq!((after.general[0], after.general[7]), (78, 77));
    assert_eq!(before.general[8..], after.general[8..]);
}

#[test]
fn causes_that_are_no_event_are_passed_over() {
    let _turn = TURN.lock().unwrap();
    map_control();
    let calls = CALLS.load(Ordering::Relaxed);
    let (before, after) = upcall(&CLOBBER, EVENT_CAUSE + 60, 0);
    assert_eq!(before.general, after.general);
    assert_eq!(CALLS.load(Ordering::Relaxed), calls);
}
