//! The first instructions: PVH starts them in 32-bit mode without paging, with the start info's
//! physical address in `ebx`.
//!
//! They build the least page tables that the kernel can run on: the first 4 GiB at address 0, at
//! the direct map and, the first 1 GiB, at the kernel's own address. `boot::memory` replaces them.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18              // XEN_ELFNOTE_PHYS32_ENTRY, see Xen's elfnote.h
    .asciz "Xen"
    .quad pvh_entry - {base}

    .section .boot.text, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld
    mov esp, offset boot_stack_end - {base}
    mov esi, ebx

    // Four directories map 4 GiB in pages of 2 MiB: present, writable, large.
    mov edi, offset boot_directories - {base}
    mov eax, 0x83
    xor edx, edx
2:  mov [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 0x200000
    add edi, 8
    inc edx
    cmp edx, 2048
    jne 2b

    mov edi, offset boot_pointers - {base}
    mov eax, offset boot_directories - {base} + 3
    mov [edi], eax
    mov [edi + 510 * 8], eax
    add eax, 0x1000
    mov [edi + 8], eax
    add eax, 0x1000
    mov [edi + 16], eax
    add eax, 0x1000
    mov [edi + 24], eax

    mov edi, offset boot_top - {base}
    mov eax, offset boot_pointers - {base} + 3
    mov [edi], eax
    mov [edi + 511 * 8], eax

    mov eax, cr4
    or eax, 0x20                // PAE
    mov cr4, eax
    mov eax, offset boot_top - {base}
    mov cr3, eax
    mov ecx, 0xc0000080         // EFER: long mode, no-execute
    rdmsr
    or eax, 0x900
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb         // no emulation of the FPU
    or eax, 0x80010002          // paging, write protection, monitor coprocessor
    mov cr0, eax
    lgdt [boot_gdt_pointer - {base}]
    ljmp 8, offset boot_long - {base}

    .code64
boot_long:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    movabs rax, offset boot_high
    jmp rax
boot_high:
    movabs rsp, offset boot_stack_end
    xor ebp, ebp
    mov edi, esi
    call {main}
    ud2

    .section .rodata
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00209a0000000000    // 64-bit code
boot_gdt_pointer:
    .word 15
    .long boot_gdt - {base}

    .section .bss
    .balign 4096
boot_top: .skip 4096
boot_pointers: .skip 4096
boot_directories: .skip 4 * 4096
boot_stack: .skip 65536
boot_stack_end:
"#,
    base = const crate::x86_64::layout::KERNEL_BASE,
    main = sym crate::main,
);
