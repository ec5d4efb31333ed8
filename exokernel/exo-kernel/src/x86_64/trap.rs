//! The entry code: from a program to the kernel and back.
//!
//! Each entry pushes the registers as one [`Context`] on this CPU's stack and calls a function with
//! its address. What is in the context afterwards is what runs. Interrupts are off in between.

use crate::entry::{call, trap};
use core::arch::global_asm;
use exo_abi::layout::USER_END;
use exo_core::{Context, USER_CODE, USER_DATA};

global_asm!(
    r#"
    .macro push_rest
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    .endm

    .macro pop_rest
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    .endm

    .text
    // One stub for each vector, {size} bytes each. rax goes where the CPU puts the error code of
    // those vectors that have one; the code then travels in rax, the vector in rbx.
    .balign {size}
    .global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign {size}
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    xchg rax, [rsp]
    .else
    push rax
    xor eax, eax
    .endif
    push rbx
    mov ebx, vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    push_rest
    push 2                      // no flag of the program's, the alignment check's least of all,
    popfq                       // which would switch SMAP off
    test byte ptr [rsp + {cs}], 3
    jz 2f
    swapgs
2:  mov rdi, rsp
    mov rsi, rbx
    mov rdx, rax
    xor ebp, ebp
    call {trap}
trap_return:
    test byte ptr [rsp + {cs}], 3
    jz 3f
    swapgs
3:  pop_rest
    iretq

    .global call_entry
call_entry:
    swapgs
    mov gs:[8], rsp
    mov rsp, gs:[0]
    push {user_data}
    push gs:[8]
    push r11
    push {user_code}
    push rcx
    push rax
    push rbx
    push_rest
    mov rdi, rsp
    xor ebp, ebp
    call {call}
    // `sysret` takes rip from rcx and the flags from r11. It must not be used with an rip that is
    // not a program's, because some CPUs then fault in ring 0 on the program's stack.
    mov rcx, [rsp + {rip}]
    cmp rcx, [rsp + {rcx}]
    jne trap_return
    mov r11, [rsp + {rflags}]
    cmp r11, [rsp + {r11}]
    jne trap_return
    mov rdx, {user_end}
    cmp rcx, rdx
    jae trap_return
    test r11d, 0x10100          // trap and resume flags
    jnz trap_return
    swapgs
    pop_rest
    mov rsp, [rsp + 24]
    sysretq

    .global enter_program
enter_program:
    mov rsp, rdi
    jmp trap_return
"#,
    size = const STUB,
    cs = const core::mem::offset_of!(Context, cs),
    rip = const core::mem::offset_of!(Context, rip),
    rcx = const core::mem::offset_of!(Context, rcx),
    rflags = const core::mem::offset_of!(Context, rflags),
    r11 = const core::mem::offset_of!(Context, r11),
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    user_end = const USER_END,
    trap = sym trap,
    call = sym call,
);

/// The bytes of a stub.
const STUB: usize = 16;

unsafe extern "C" {
    static trap_stubs: u8;
    static call_entry: u8;
    fn enter_program(context: *mut Context) -> !;
}

/// The address of the entry for an interrupt vector.
pub(crate) fn entry(vector: usize) -> u64 {
    (&raw const trap_stubs).addr() as u64 + (vector * STUB) as u64
}

/// The address of the entry for calls.
pub(crate) fn call_address() -> u64 {
    (&raw const call_entry).addr() as u64
}

/// Leaves the kernel for the first time, with the registers in `context`, which is copied to where
/// the entry code would have put it: below the end of this CPU's stack.
///
/// # Safety
/// `stack` must be the end of this CPU's stack, of which nothing is in use, GS the CPU's block, and
/// the context that of an environment whose address space is current.
pub(crate) unsafe fn leave(context: &Context, stack: u64) -> ! {
    let place = (stack as *mut Context).wrapping_sub(1);
    // SAFETY: the caller's promise: the place is this CPU's stack, and nothing is in use there.
    unsafe {
        place.write(*context);
        enter_program(place)
    }
}
