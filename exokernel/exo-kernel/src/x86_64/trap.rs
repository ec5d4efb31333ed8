//! The entry code: from a program to the kernel and back.
//!
//! Each entry leaves the registers in the CPU's [`Context`], which is in its block, and calls a
//! function with its address. Interrupts are off in between. What is in the context afterwards is
//! what runs.
//!
//! Calls and exceptions save only the registers that a function may change, since they mostly go
//! back to where they came from: the other six stay in the CPU, which the compiled kernel restores,
//! and their places in the context are empty. Only when somebody else is to run does the function
//! say that all registers are in the context. Interrupts save all.

use crate::entry::{Exit, call, exception, inside, interrupt, page_fault, vector_use};
use crate::upcall::Upcall;
use crate::x86_64::cpu::PerCpu;
use exo_abi::calls::Number;
use exo_abi::control::ControlPage;
use exo_abi::tables::{EnvEntry, Statistics};
use exo_abi::upcall::{HANDLER_FLAGS_OFF, PAGE_FAULT, UpcallFrame};
use exo_core::{Context, Frame};

entry_code! {
    r#"
    .macro push_rest            // of the registers that a function may change, behind the first five
    push r8
    push r9
    push r10
    push r11
    .endm

    .macro push_kept
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    .endm

    .macro pop_scratch
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    .endm

    .section .text.stubs, "ax"
    // One stub for each vector, {size} bytes each. rax goes where the CPU puts the error code of
    // those vectors that have one; the code then travels in rax, the vector in ecx. What comes from
    // a program is pushed right into the context of the CPU, whose end is the stack pointer that
    // the CPU loads; but vectors 2, 8 and 18 have stacks of their own.
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
    .if vector < 32
    xor eax, eax
    .endif
    .endif
    push rcx
    push rdx
    push rsi
    push rdi
    mov ecx, vector
    .if vector == 2 || vector == 8 || vector == 18
    jmp inside_entry
    .elseif vector == 7
    jmp vectors_entry
    .elseif vector == 14
    jmp fault_entry
    .elseif vector < 32
    jmp exception_entry
    .else
    jmp interrupt_entry
    .endif
    .set vector, vector + 1
    .endr

    .section .text.entry, "ax"

    .macro handle function
    test byte ptr [rsp + {cs} - {rdi}], 3
    jz inside_entry
    swapgs
    handle_further \function
    .endm

    .macro handle_further function
    push_rest
    call_out_of_entry \function
    .endm

    .macro call_out_of_entry function
    mov rsp, gs:[0]
    push 2                      // no flag of the program's, the alignment check's least of all,
    popfq                       // which would switch SMAP off
    mov rdi, gs:[{registers}]
    mov rsi, gs:[{here}]
    mov rdx, gs:[{environment}]
    mov r8, rax
    call \function
    .endm


    .macro make_upcall vector
    // The short way of an upcall: see there. What the program says of its upcalls is what was checked.
    mov rdi, gs:[{upcall} + {u_control}]
    mov rsi, [rdi + {c_entry}]
    cmp rsi, gs:[{upcall} + {u_entry}]
    jne 6f
    mov rsi, [rdi + {c_base}]
    cmp rsi, gs:[{upcall} + {u_base}]
    jne 6f
    mov rsi, [rdi + {c_top}]
    cmp rsi, gs:[{upcall} + {u_top}]
    jne 6f
    mov rdx, [rsp + {rsp} - {rdi}]
    sub rdx, gs:[{upcall} + {u_low}]
    cmp rdx, gs:[{upcall} + {u_span}]
    jb 6f
    mov rsi, gs:[{upcall} + {u_frame}]
    test rsi, rsi
    jz 6f
    mov rdx, [rsp + {rax} - {rdi}]
    mov [rsi + {f_rax}], rdx
    mov rdx, [rsp + {rcx} - {rdi}]
    mov [rsi + {f_rcx}], rdx
    mov rdx, [rsp + {rdx} - {rdi}]
    mov [rsi + {f_rdx}], rdx
    mov rdx, [rsp + {rsi} - {rdi}]
    mov [rsi + {f_rsi}], rdx
    mov rdx, [rsp]
    mov [rsi + {f_rdi}], rdx
    mov rdx, [rdi + {c_mask}]
    mov [rsi + {f_mask}], rdx
    mov qword ptr [rdi + {c_mask}], 1
    mov [rsi + {f_cause}], rcx
    mov [rsi + {f_code}], rax
    .if \vector == {page_fault_vector}
    mov rdx, cr2
    mov [rsi + {f_address}], rdx
    .else
    mov qword ptr [rsi + {f_address}], 0
    .endif
    mov rdx, [rsp + {rip} - {rdi}]
    mov [rsi + {f_rip}], rdx
    mov rdx, [rsp + {rsp} - {rdi}]
    mov [rsi + {f_rsp}], rdx
    mov rdx, [rsp + {rflags} - {rdi}]
    mov [rsi + {f_rflags}], rdx
    and rdx, {handler_flags}
    mov [rsp + {rflags} - {rdi}], rdx
    mov rdx, gs:[{upcall} + {u_statistics}]
    inc qword ptr [rdx + {s_exceptions}]
    inc qword ptr [rdx + {s_upcalls}]
    mov rdx, gs:[{upcall} + {u_environment}]
    inc qword ptr [rdx + {e_exceptions}]
    inc qword ptr [rdx + {e_upcalls}]
    mov rdx, gs:[{upcall} + {u_entry}]
    mov [rsp + {rip} - {rdi}], rdx
    mov rdx, gs:[{upcall} + {u_place}]
    mov [rsp + {rsp} - {rdi}], rdx
    mov edi, ecx
    mov rsi, rax
    mov rcx, rdx
    .if \vector == {page_fault_vector}
    mov rdx, cr2
    .else
    xor edx, edx
    .endif
    mov rax, [rsp + {rax} - {rdi}]
    add rsp, {rip} - {rdi}
    swapgs
    iretq
6:  handle_further {exception}
    .endm

exception_entry:
    test byte ptr [rsp + {cs} - {rdi}], 3
    jz inside_entry
    swapgs
    make_upcall 0
said_return:
    cmp al, {all}
    je all_return
frame_return:
    mov rsp, gs:[{registers}]
    add rsp, {kept}
    swapgs
    pop_scratch
    iretq

fault_entry:
    handle {page_fault}
    cmp al, {frame}
    je frame_return
    cmp al, {tell}
    je 8f
    mov ecx, {page_fault_vector}
    shr rax, 8
    call_out_of_entry {fault_further}
    cmp al, {tell}
    jne said_return
8:  // Back to where the exception's way begins, with the code.
    mov rsp, gs:[{registers}]
    add rsp, {kept} + {rdi}
    mov r8, [rsp + {r8} - {rdi}]
    mov r9, [rsp + {r9} - {rdi}]
    mov r10, [rsp + {r10} - {rdi}]
    mov r11, [rsp + {r11} - {rdi}]
    mov ecx, {page_fault_vector}
    shr rax, 8
    make_upcall {page_fault_vector}
    jmp said_return

vectors_entry:
    handle {vector_use}
    jmp frame_return

interrupt_entry:
    test byte ptr [rsp + {cs} - {rdi}], 3
    jz inside_entry
    swapgs
    push_rest
    push_kept
    mov rdi, rsp
    mov rsp, gs:[0]
    push 2
    popfq
    mov rsi, gs:[{here}]
    mov edx, ecx
    xor ebp, ebp
    call {interrupt}
all_return:
    mov rsp, gs:[{registers}]
    swapgs
3:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop_scratch
    iretq

inside_entry:
    push_rest
    push_kept
    push 2
    popfq
    mov rdi, rsp
    mov esi, ecx
    mov rdx, rax
    call {inside}
    jmp 3b

    // The context is written in place; what is not written is not looked at, or is always the same.
    .global call_entry
call_entry:
    cmp rax, {transfer}
    je transfer_entry
    cmp rax, {yield_}
    je yield_entry
    swapgs
    .global call_further
call_further:
    mov gs:[{context} + {kept} + {rsp}], rsp
    mov rsp, gs:[0]
    mov gs:[{context} + {kept} + {rip}], rcx
    mov gs:[{context} + {kept} + {rflags}], r11
    mov gs:[{context} + {kept} + {rax}], rax
    mov gs:[{context} + {kept} + {rdx}], rdx
    mov gs:[{context} + {kept} + {rsi}], rsi
    mov gs:[{context} + {kept} + {rdi}], rdi
    mov gs:[{context} + {kept} + {r8}], r8
    mov gs:[{context} + {kept} + {r9}], r9
    mov gs:[{context} + {kept} + {r10}], r10
    mov rdi, gs:[{registers}]
    mov rsi, gs:[{here}]
    mov rdx, gs:[{environment}]
    call {call}
    test al, al
    jnz 5f
    // `sysret` takes rip from rcx and the flags from r11. What it finds there is a program's: no
    // page that ends where addresses cease to be canonical can be executed.
    mov rcx, gs:[{context} + {kept} + {rip}]
    mov r11, gs:[{context} + {kept} + {rflags}]
    mov rax, gs:[{context} + {kept} + {rax}]
    mov rdx, gs:[{context} + {kept} + {rdx}]
    mov rsi, gs:[{context} + {kept} + {rsi}]
    mov rdi, gs:[{context} + {kept} + {rdi}]
    mov r8, gs:[{context} + {kept} + {r8}]
    mov r9, gs:[{context} + {kept} + {r9}]
    mov r10, gs:[{context} + {kept} + {r10}]
    mov rsp, gs:[{context} + {kept} + {rsp}]
    swapgs
    sysretq
5:  cmp al, 1
    je frame_return
    jmp all_return

    .global leave_kernel
leave_kernel:
    jmp all_return
"#,
    fields {
        Context { kept = frame }
        PerCpu {
            context = context, registers = registers, here = entry, environment = environment,
            upcall = upcall,
        }
        Upcall {
            u_frame = frame, u_place = place, u_entry = entry, u_base = base, u_top = top,
            u_low = low, u_span = span, u_control = control, u_environment = environment,
            u_statistics = statistics,
        }
        ControlPage { c_entry = entry, c_base = stack_base, c_top = stack_top, c_mask = mask }
        UpcallFrame {
            f_rax = rax, f_rcx = rcx, f_rdx = rdx, f_rsi = rsi, f_rdi = rdi, f_mask = mask,
            f_cause = cause, f_code = code, f_address = address, f_rip = rip, f_rflags = rflags,
            f_rsp = rsp,
        }
        Statistics { s_exceptions = exceptions, s_upcalls = upcalls }
        EnvEntry { e_exceptions = exceptions, e_upcalls = upcalls }
        Frame {
            cs = cs, rcx = rcx, rip = rip, rflags = rflags, rsp = rsp, rax = rax, rdx = rdx,
            rsi = rsi, rdi = rdi, r8 = r8, r9 = r9, r10 = r10, r11 = r11,
        }
    }
    size = const STUB,
    transfer = const Number::Transfer as u64,
    yield_ = const Number::Yield as u64,
    frame = const Exit::Frame as u8,
    all = const Exit::All as u8,
    tell = const Exit::Tell as u8,
    fault_further = sym page_fault::<false>,
    page_fault_vector = const PAGE_FAULT,
    handler_flags = const !HANDLER_FLAGS_OFF as i32,
    exception = sym exception,
    page_fault = sym page_fault::<true>,
    vector_use = sym vector_use,
    interrupt = sym interrupt,
    inside = sym inside,
    call = sym call,
}

/// The bytes of a stub.
const STUB: usize = 32;

// SAFETY: the assembler above defines them; of the first two only the addresses are taken.
unsafe extern "C" {
    static trap_stubs: u8;
    static call_entry: u8;
    fn leave_kernel() -> !;
}

/// The address of the entry for an interrupt vector.
pub(crate) fn entry(vector: usize) -> u64 {
    (&raw const trap_stubs).addr() as u64 + (vector * STUB) as u64
}

/// The address of the entry for calls.
pub(crate) fn call_address() -> u64 {
    (&raw const call_entry).addr() as u64
}

/// Leaves the kernel for the first time on this CPU, with the registers in its context.
///
/// # Safety
/// GS leads to the CPU's block, and its context holds the registers of an environment whose address
/// space is current.
pub(crate) unsafe fn go() -> ! {
    // SAFETY: the caller's promise is all that the code needs; the stack is left for ever.
    unsafe { leave_kernel() }
}
