//! Rule: an upcall stack that is none costs its owner alone.
//!
//! The kernel has to end the program: it has nowhere to push.
#![no_std]
#![no_main]

use core::arch::naked_asm;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::calls::Number;
use exo_user::abi::control::ControlWord;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::{Rights, Start, binding, control};
use guest_probes::attempt::{self, INVALID_OPCODE};
use guest_probes::ground::{self, DATA, GROUND, page};
use guest_probes::{code, rule};

exo_user::program!(main);

/// Where upcalls usually go, and whether no more may come.
static USUAL: AtomicU64 = AtomicU64::new(0);
static CLOSED: AtomicU64 = AtomicU64::new(0);

/// Goes on where upcalls usually do. If no more may come, it ends the program without a use of the
/// stack, which might end it too, but for another reason.
#[unsafe(naked)]
extern "C" fn entry() {
    naked_asm!(
        "cmp qword ptr [rip + {closed}], 0",
        "jne 2f",
        "jmp [rip + {usual}]",
        "2:",
        "mov eax, {destroy}",
        "xor edi, edi",
        "mov edx, 1",
        "syscall",
        "ud2",
        closed = sym CLOSED,
        usual = sym USUAL,
        destroy = const Number::EnvironmentDestroy as u64,
    )
}

/// A stack whose top the kernel knows well, and that may no longer be written to.
fn narrowed() -> (u64, u64) {
    let usual = control::word(ControlWord::Entry).swap(entry as *const () as u64, SeqCst);
    USUAL.store(usual, SeqCst);
    let [base, top] = [ControlWord::StackBase, ControlWord::StackTop]
        .map(|word| control::word(word).load(SeqCst));
    // The last upcall goes to another page than those before.
    for place in [0, 0, base + PAGE_SIZE + 2048] {
        let code = code!("test rdi, rdi", "cmovnz rsp, rdi", "ud2");
        // SAFETY: it raises its exception; nothing is in that part of the upcall stack.
        attempt::raised("an upcall", unsafe { attempt::attempt(code, place) }, INVALID_OPCODE);
    }
    let rights = Rights::READ | Rights::WIRED;
    // SAFETY: nothing refers to what is on the upcall stack.
    rule::granted("rights", unsafe { binding::protect(top - PAGE_SIZE, 1, rights) });
    CLOSED.store(1, SeqCst);
    (base, top)
}

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    let (base, top) = match start.argument("stack") {
        Some("kernel") => (0xffff_ff80_0000_0000, 0xffff_ff80_0010_0000),
        Some("shared") => (exo_user::abi::layout::CONTRACT, exo_user::abi::layout::LOSS_RING),
        Some("everything") => (0, u64::MAX),
        Some("hole") => (0x7fff_ffff_f000, 0x8000_0000_1000),
        Some("inverted") => (page(2), page(1)),
        Some("empty") => (page(1), page(1)),
        Some("tiny") => {
            ground::bound(GROUND, DATA);
            (GROUND, GROUND + 96)
        }
        Some("constant") => {
            ground::bound(GROUND, Rights::READ);
            (GROUND, page(1))
        }
        Some("narrowed" | "narrowed-fault") => narrowed(),
        _ => (page(8), page(9)),
    };
    control::word(ControlWord::StackBase).store(base, SeqCst);
    control::word(ControlWord::StackTop).store(top, SeqCst);
    let by_fault = start.argument("stack") == Some("narrowed-fault");
    let code = if by_fault { code!("mov [rdi], rdi") } else { code!("ud2") };
    // SAFETY: it faults, since nothing is bound there, and the kernel finds no place for the frame.
    unsafe { attempt::attempt(code, page(12)) };
    rule::holds("the program was ended", false);
    0
}
