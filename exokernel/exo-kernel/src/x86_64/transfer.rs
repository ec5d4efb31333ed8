//! The short way of a control transfer: from the caller's `syscall` to the callee's gate.
//!
//! It is `Board::transfer` once more, for what nearly every transfer is: to an environment that rests
//! with its gate open and has no event pending. Whatever else comes, the short way leaves to the long
//! one, before anything has changed but what nobody looks at while the caller runs: the place where
//! it would go on.
//!
//! What holds at each label:
//! - From the claim on, only this CPU touches the callee's cell, and nothing else writes to its
//!   control page but who shares the frame: so the gate is read once, and what was checked is used.
//! - A claim that is of no use is given back as it was taken, without a look at what has happened
//!   meanwhile: the long way claims again and looks.
//! - Until the release, the caller is this CPU's. Behind it, another CPU may run the caller at once;
//!   what is read of its cell then cannot vanish, because its address space is still this CPU's.
//! - The registers that pass are never touched: `rsi`, `rbx`, `rbp`, `r8` to `r10`, `r12` to `r15`.
//!   The others carry nothing of the kernel's in the end: `rax` has the callee's own base of GS.

use crate::entry::{System, settle};
use crate::upcall::Upcall;
use crate::x86_64::cpu::PerCpu;
use crate::x86_64::segments;
use crate::x86_64::vectors::Vectors;
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::calls::{Number, TransferMode};
use exo_abi::control::{ANYBODY, ControlPage};
use exo_abi::layout::{USER_END, USER_START};
use exo_abi::tables::{EnvEntry, EnvState, Statistics};
use exo_core::{USER_FLAGS, offsets, running};

global_asm!(
    r#"
    // The claimed callee's control page, whose gate is open for the caller, with nothing pending.
    .macro check_gate else
    mov rdx, [rcx + {control}]
    cmp qword ptr [rdx + {c_pending}], 0
    jne \else
    mov rax, [rdx + {c_keeper}]
    cmp rax, {anybody}
    je 1f
    cmp rax, gs:[{short} + {t_name}]
    jne \else
1:  mov rax, [rdx + {c_gate}]
    mov gs:[{short} + {t_gate}], rax
    sub rax, {user_start}
    cmp rax, gs:[{short} + {t_span}]
    jae \else
    .endm

    .text
    .global transfer_entry
transfer_entry:
    swapgs
    // The caller's place, as if it rested.
    mov rax, gs:[{environment}]
    mov [rax + {rip}], rcx
    mov [rax + {rflags}], r11
    mov [rax + {rsp}], rsp
    mov [rax + {wake_at}], rdx
    cmp rsi, {reply}
    ja 90f
    // The callee's cell.
    mov ecx, edi
    cmp rcx, gs:[{short} + {t_count}]
    jae 90f
    imul rcx, rcx, {size}
    add rcx, gs:[{short} + {t_cells}]
    // The claim: this generation, asleep, becomes this generation, running here.
    mov r11, [rcx + {entry}]
    mov rdx, gs:[{short} + {t_running}]
    mov eax, edi
    xor rax, rdi
    or rdx, rax
    or rax, {asleep}
    lock cmpxchg [r11 + {e_state}], rdx
    jne 70f
    check_gate 80f
    // It is who runs here.
20: mov gs:[{upcall} + {u_control}], rdx
    mov gs:[{upcall} + {u_environment}], r11
    mov qword ptr gs:[{upcall} + {u_frame}], 0
    mov r11, gs:[{environment}]
    mov gs:[{environment}], rcx
    mov gs:[{short} + {t_name}], rdi
    mov rax, gs:[{cell}]
    mov edx, edi
    mov [rax + {p_current}], rdx
    cmp gs:[{vectors} + {v_owner}], rdx
    je 40f
    cmp byte ptr gs:[{vectors} + {v_trap}], 0
    je 50f
    // The caller rests, with the callee as its heir if it waits for an answer.
30: xor eax, eax
    mov [r11 + {status}], rax
    mov [r11 + {reproach}], rax
    cmp esi, {synchronous}
    cmove rax, rdi
    mov [r11 + {heir}], rax
    rdfsbase rax
    mov [r11 + {fs}], rax
    mov rax, [rcx + {fs}]
    wrfsbase rax
    swapgs
    rdgsbase rax
    swapgs
    mov [r11 + {gs}], rax
    // Its run time.
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, gs:[{short} + {t_start}]
    mul qword ptr gs:[{short} + {t_scale}]
    shrd rax, rdx, 32
    mov rdx, gs:[{cell}]
    mov rdi, [rdx + {p_since}]
    mov [rdx + {p_since}], rax
    sub rax, rdi
    mov rdi, [r11 + {entry}]
    add [rdi + {e_run_time}], rax
    inc qword ptr [rdi + {e_transfers}]
    mov rdx, [rdx + {p_statistics}]
    inc qword ptr [rdx + {s_transfers}]
    // The release. Who posts an event first sets its bit and then looks for a sleeper.
    mov rdx, [r11 + {wake_at}]
    mov rax, gs:[{short} + {t_rest} + rsi * 8]
    lock add [rdi + {e_state}], rax
    test esi, esi
    jz 60f
    mov rax, gs:[{short} + {t_next_wake}]
    cmp rdx, [rax]
    jb 60f
    mov rax, [r11 + {control}]
    cmp qword ptr [rax + {c_pending}], 0
    jne 60f
    // The callee's address space. The instruction orders memory as the exchange on the long way.
35: mov rax, [rcx + {root}]
    shl rax, 12
    mov gs:[{current_root}], rax
    mov cr3, rax
    // The gate, with the caller's name, the mode and the time in the registers.
    mov rdi, [rdi + {e_name}]
    mov rsp, [rcx + {rsp}]
    mov rax, [rcx + {gs}]
    mov rcx, gs:[{short} + {t_gate}]
    mov r11d, {user_flags}
    swapgs
    wrgsbase rax
    sysretq

    // The vector registers are the callee's.
40: cmp byte ptr gs:[{vectors} + {v_trap}], 0
    je 30b
    clts
    mov byte ptr gs:[{vectors} + {v_trap}], 0
    jmp 30b
    // They are somebody else's, and do not trap.
50: mov rax, cr0
    or eax, {task_switched}
    mov cr0, rax
    mov byte ptr gs:[{vectors} + {v_trap}], 1
    jmp 30b
    // The caller can still run, or wakes before everybody else, or is to wake already.
60: mov rsp, gs:[0]
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    sub rsp, 8
    mov rdi, gs:[{system}]
    mov rcx, rsi
    mov rsi, r11
    call {settle}
    add rsp, 8
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    jmp 35b
    // The callee does not sleep; rax has its state. If it rests all the same, it is as good.
70: mov edx, edi
    xor rdx, rdi
    or rdx, {runnable}
    cmp rax, rdx
    jne 90f
    xor rdx, {runnable}
    or rdx, gs:[{short} + {t_running}]
    lock cmpxchg [r11 + {e_state}], rdx
    jne 90f
    check_gate 85f
    jmp 20b
    // The claim is of no use. It is given back.
80: mov rdx, gs:[{short} + {t_rest} + {reply} * 8]
    lock add [r11 + {e_state}], rdx
    jmp 90f
85: mov rdx, gs:[{short} + {t_rest}]
    lock add [r11 + {e_state}], rdx
    // The long way.
90: mov r11, gs:[{environment}]
    mov rdx, [r11 + {wake_at}]
    mov rcx, [r11 + {rip}]
    mov r11, [r11 + {rflags}]
    mov eax, {transfer}
    jmp call_further
"#,
    environment = const offset_of!(PerCpu, environment),
    cell = const offset_of!(PerCpu, cell),
    system = const offset_of!(PerCpu, system),
    current_root = const offset_of!(PerCpu, root),
    short = const offset_of!(PerCpu, transfer),
    t_cells = const offset_of!(Transfer, cells),
    t_count = const offset_of!(Transfer, count),
    t_running = const offset_of!(Transfer, running),
    t_rest = const offset_of!(Transfer, rest),
    t_name = const offset_of!(Transfer, name),
    t_gate = const offset_of!(Transfer, gate),
    t_span = const offset_of!(Transfer, span),
    t_start = const offset_of!(Transfer, start),
    t_scale = const offset_of!(Transfer, scale),
    t_next_wake = const offset_of!(Transfer, next_wake),
    upcall = const offset_of!(PerCpu, upcall),
    u_control = const offset_of!(Upcall, control),
    u_environment = const offset_of!(Upcall, environment),
    u_frame = const offset_of!(Upcall, frame),
    vectors = const offset_of!(PerCpu, vectors),
    v_owner = const Vectors::OWNER,
    v_trap = const Vectors::TRAP,
    entry = const offsets::environment::ENTRY,
    root = const offsets::environment::ROOT,
    control = const offsets::environment::CONTROL,
    rip = const offsets::environment::RIP,
    rsp = const offsets::environment::RSP,
    rflags = const offsets::environment::RFLAGS,
    status = const offsets::environment::STATUS,
    fs = const offsets::environment::FS,
    gs = const offsets::environment::GS,
    wake_at = const offsets::environment::WAKE_AT,
    heir = const offsets::environment::HEIR,
    reproach = const offsets::environment::REPROACH,
    size = const offsets::environment::SIZE,
    p_statistics = const offsets::cpu::STATISTICS,
    p_current = const offsets::cpu::CURRENT,
    p_since = const offsets::cpu::SINCE,
    e_name = const offset_of!(EnvEntry, name),
    e_state = const offset_of!(EnvEntry, state),
    e_run_time = const offset_of!(EnvEntry, run_time),
    e_transfers = const offset_of!(EnvEntry, transfers),
    s_transfers = const offset_of!(Statistics, transfers),
    c_pending = const offset_of!(ControlPage, pending),
    c_gate = const offset_of!(ControlPage, gate),
    c_keeper = const offset_of!(ControlPage, keeper),
    anybody = const ANYBODY as i64,
    asleep = const EnvState::Asleep as u64,
    runnable = const EnvState::Runnable as u64,
    synchronous = const TransferMode::Synchronous as u64,
    reply = const TransferMode::Reply as u64,
    transfer = const Number::Transfer as u64,
    user_start = const USER_START,
    user_flags = const USER_FLAGS,
    task_switched = const TASK_SWITCHED,
    settle = sym settle,
);

/// The bit of CR0 that makes vector instructions trap.
const TASK_SWITCHED: u64 = 1 << 3;

/// What the short way needs to know, for one CPU. All but the name and the gate stay as they are.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Transfer {
    /// The address of the first cell, and how many there are: none where the short way cannot be
    /// gone.
    cells: AtomicU64,
    count: AtomicU64,
    /// The state of who runs here, without the generation.
    running: AtomicU64,
    /// What added to that makes the state of a caller, by the mode of its transfer.
    rest: [AtomicU64; 3],
    /// The name of who runs here.
    pub(crate) name: AtomicU64,
    /// The gate that has been checked.
    gate: AtomicU64,
    /// How many addresses a gate can have.
    span: AtomicU64,
    /// The clock.
    start: AtomicU64,
    scale: AtomicU64,
    /// The address of the word before which nobody wakes by the clock.
    next_wake: AtomicU64,
}

const fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

impl Transfer {
    /// Every transfer takes the long way.
    pub(crate) const fn new() -> Self {
        Self {
            cells: zero(),
            count: zero(),
            running: zero(),
            rest: [const { zero() }; 3],
            name: zero(),
            gate: zero(),
            span: zero(),
            start: zero(),
            scale: zero(),
            next_wake: zero(),
        }
    }

    /// Opens the short way on a CPU, if it has what that takes.
    pub(crate) fn open(&self, system: &'static System, cpu: usize) {
        if !segments::has_instructions() {
            return;
        }
        let hardware = &system.hardware;
        let cells = hardware.board.cells();
        let running = running(cpu);
        let [runnable, asleep] = [EnvState::Runnable, EnvState::Asleep]
            .map(|state| (state as u64).wrapping_sub(running));
        for (word, value) in [
            (&self.cells, cells.as_ptr().addr() as u64),
            (&self.running, running),
            (&self.rest[TransferMode::Asynchronous as usize], runnable),
            (&self.rest[TransferMode::Synchronous as usize], asleep),
            (&self.rest[TransferMode::Reply as usize], asleep),
            (&self.span, USER_END - USER_START),
            (&self.start, hardware.clock.start),
            (&self.scale, hardware.clock.scale),
            (&self.next_wake, core::ptr::from_ref(hardware.board.next_wake()).addr() as u64),
            (&self.count, cells.len() as u64),
        ] {
            word.store(value, Relaxed);
        }
    }
}
