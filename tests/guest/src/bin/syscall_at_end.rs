//! Rule: a call from the last instruction of the program's part returns into a page fault.
#![no_std]
#![no_main]

use exo_user::Start;
use exo_user::abi::layout::USER_END;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::upcall::FaultCode;
use guest_probes::attempt::{self, attempt, page_fault};
use guest_probes::ground::{self, DATA, TEXT};
use guest_probes::{code, rule};

exo_user::program!(main);

/// `syscall` as the last two bytes of a word.
const SYSCALL_AT_END: u64 = 0x050f << 48;

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let last = USER_END - PAGE_SIZE;
    let frame = ground::bound(last, DATA);
    ground::store(USER_END - 8, SYSCALL_AT_END);
    rule::granted("the last page as text", ground::bind(last, frame, TEXT));
    let null = code!("xor eax, eax", "jmp rdi");
    let give_way = code!("mov rcx, rdi", "mov eax, 1", "xor edi, edi", "jmp rcx");
    let unknown = code!("mov eax, 999", "jmp rdi");
    for code in [null, give_way, unknown] {
        // SAFETY: the call behind the jump touches no memory.
        let fault = unsafe { attempt(code, USER_END - 2) };
        // Behind the last instruction is nothing of the program's.
        let expected = FaultCode::FETCH | FaultCode::PROTECTION;
        page_fault("behind the end", fault, USER_END, expected);
        rule::same("where", fault.map(|fault| fault.rip), Some(USER_END));
    }
    0
}
