//! Rule: tracing stops at the kernel: a program traces itself only.
#![no_std]
#![no_main]

use exo_user::Start;
use guest_probes::attempt::{self, INVALID_OPCODE, attempt};
use guest_probes::{code, rule};

exo_user::program!(main);

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    // The trap comes behind the instruction that follows `popfq`. The handler clears the flag.
    let plain = code!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop");
    let call = code!("xor eax, eax", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "syscall");
    let next =
        code!("xor eax, eax", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "syscall");
    // A load of the stack segment holds the trap back for an instruction more.
    let shadow = code!(
        "mov ecx, ss",
        "xor eax, eax",
        "pushfq",
        "or qword ptr [rsp], 0x100",
        "popfq",
        "mov ss, ecx",
        "syscall"
    );
    let invalid = code!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "ud2");
    for _ in 0..20 {
        for traced in [plain, call, next, shadow] {
            let before = attempt::steps();
            // SAFETY: it makes a call that does nothing, or none.
            rule::same("what is traced", unsafe { attempt(traced, 0) }, None);
            rule::holds("it is traced", attempt::steps() > before);
        }
        // SAFETY: it raises its exception.
        attempt::raised("a traced fault", unsafe { attempt(invalid, 0) }, INVALID_OPCODE);
    }
    0
}
