//! Rule: privileged instructions are exceptions of the program, which its handler gets.
#![no_std]
#![no_main]

use exo_user::Start;
use guest_probes::attempt::{self, Code, INVALID_OPCODE, PROTECTION, attempt};
use guest_probes::rule;

exo_user::program!(main);

macro_rules! table {
    ($($name:literal: $($text:literal),+;)+) => {
        &[$(($name, guest_probes::code!($($text),+) as Code)),+]
    };
}

/// Instructions that only the kernel may use. None of them gets further than its exception.
const PRIVILEGED: &[(&str, Code)] = table! {
    "hlt": "hlt";
    "cli": "cli";
    "sti": "sti";
    "clts": "clts";
    "swapgs": "swapgs";
    "invd": "invd";
    "wbinvd": "wbinvd";
    "invlpg": "invlpg [rsp]";
    "sysret": "sysretq";
    "sysexit": "sysexit";
    "sysenter": "sysenter";
    "rdmsr": "mov ecx, 0xc0000082", "rdmsr";
    "wrmsr": "mov ecx, 0xc0000082", "wrmsr";
    "read cr0": "mov rax, cr0";
    "read cr2": "mov rax, cr2";
    "read cr3": "mov rax, cr3";
    "read cr4": "mov rax, cr4";
    "write cr0": "xor eax, eax", "mov cr0, rax";
    "write cr3": "xor eax, eax", "mov cr3, rax";
    "write cr4": "xor eax, eax", "mov cr4, rax";
    "read cr8": "mov rax, cr8";
    "write cr8": "xor eax, eax", "mov cr8, rax";
    "read dr7": "mov rax, dr7";
    "write dr7": "xor eax, eax", "mov dr7, rax";
    "lmsw": "xor eax, eax", "lmsw ax";
    "lgdt": "lgdt [rsp - 16]";
    "lidt": "lidt [rsp - 16]";
    "lldt": "xor eax, eax", "lldt ax";
    "ltr": "xor eax, eax", "ltr ax";
    "xsetbv": "xor ecx, ecx", "xor edx, edx", "mov eax, 7", "xsetbv";
    "rdpmc": "xor ecx, ecx", "rdpmc";
};

/// Instructions that tell where the kernel's tables are: user-mode instruction prevention.
const TELLING: &[(&str, Code)] = table! {
    "sgdt": "sgdt [rsp - 16]";
    "sidt": "sidt [rsp - 16]";
    "sldt": "sldt eax";
    "str": "str eax";
    "smsw": "smsw eax";
};

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    for &(name, code) in PRIVILEGED {
        // SAFETY: the red zone is free to write; everything else raises an exception.
        let fault = unsafe { attempt(code, 0) };
        let cause = fault.map(|fault| fault.cause);
        let raised = cause == Some(PROTECTION) || cause == Some(INVALID_OPCODE);
        rule::holds(format_args!("{name} is privileged: {fault:x?}"), raised);
    }
    let leaf = core::arch::x86_64::__cpuid_count(7, 0);
    let prevented = leaf.ecx & 1 << 2 != 0;
    for &(name, code) in TELLING {
        // SAFETY: as above.
        let fault = unsafe { attempt(code, 0) };
        rule::holds(format_args!("{name} tells nothing"), fault.is_some() || !prevented);
    }
    0
}
