//! The short ways from one environment to another: control transfer, and the change of slices.
//!
//! They are `Processor::transfer` and `Processor::give_way` once more, for what nearly every one of them is.
//! A transfer goes to an environment that rests, lets the caller in and has no event pending. Who
//! gives its slice up without saying to whom goes on as one that rests, and so does the holder of the
//! next slice. Whatever else comes, the short ways leave to the long ones, before anything has changed
//! but what nobody looks at while the caller runs: the place where it would go on.
//!
//! What holds:
//! - From the claim on, only this CPU writes to the other's cell, but for the word that says that
//!   events were posted: so what was checked is used.
//! - Who is not let in does not claim, or its attempts would keep others from running the callee.
//! - A claim that is of no use is given back as it was taken, and only then is looked at what has
//!   happened meanwhile: an event, a time, an end that passed over a claimed environment.
//! - Until the release, the caller is this CPU's. Behind it, another CPU may run the caller at once;
//!   what is read of its cell then cannot vanish, because its address space is still this CPU's.
//! - In a transfer, the registers that pass are never touched: `rsi`, `rbx`, `rbp`, `r8` to `r10`,
//!   `r12` to `r15`; `rdx` passes too. The others carry nothing of the kernel's. Who goes on after a rest finds zero in all but four.

use crate::entry::{Cpu, Environment, System, bill, reconsider, resume, set_alarm, settle};
use crate::upcall::Upcall;
use crate::x86_64::cpu::PerCpu;
use crate::x86_64::segments;
use crate::x86_64::vectors::Vectors;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::EnvName;
use exo_abi::calls::{ENTERED, Number, TransferMode};
use exo_abi::tables::{EnvEntry, EnvState, Statistics};
use exo_core::{EPILOGUE, running};

entry_code! {
    r#"
    // The caller's place, as if it rested, and who may enter it there.
    .macro keep_place keeper
    mov rax, gs:[{environment}]
    mov [rax + {rip}], rcx
    mov [rax + {rflags}], r11
    mov [rax + {rsp}], rsp
    mov [rax + {keeper}], \keeper
    .endm

    // rcx: the cell of the environment that rdi names, if there is such a slot.
    .macro find_cell else
    mov ecx, edi
    cmp rcx, gs:[{switch} + {t_count}]
    jae \else
    imul rcx, rcx, {size}
    add rcx, gs:[{switch} + {t_cells}]
    .endm

    // The claim: this generation, in that state, becomes this generation, running here. r11: the
    // exposed entry. If it fails, rax is the state that there is.
    .macro claim state, else
    mov r11, [rcx + {entry}]
    mov rdx, gs:[{switch} + {t_running}]
    mov eax, edi
    xor rax, rdi
    or rdx, rax
    or rax, \state
    lock cmpxchg [r11 + {e_state}], rdx
    jne \else
    .endm

    // The callee lets the caller in.
    .macro check_keeper else
    mov rax, [rcx + {keeper}]
    cmp rax, gs:[{switch} + {t_name}]
    je 1f
    cmp rax, {anybody}
    jne \else
1:
    .endm

    // And, claimed, it has nothing pending. rdx: its control page.
    .macro check_claimed else
    cmp qword ptr [rcx + {posted}], 0
    jne \else
    check_keeper \else
    mov rdx, [rcx + {control}]
    .endm

    // The claimed environment, with its control page in rdx, is who runs here. r11: the caller's
    // cell. Vector registers trap unless they are its own; if they trap, they go on doing so unless
    // they were used in this slice.
    .macro take_over
    mov gs:[{upcall} + {u_control}], rdx
    mov gs:[{upcall} + {u_environment}], r11
    mov qword ptr gs:[{upcall} + {u_frame}], 0
    mov r11, gs:[{environment}]
    mov gs:[{environment}], rcx
    mov gs:[{switch} + {t_name}], rdi
    mov rax, gs:[{cell}]
    mov edx, edi
    mov [rax + {p_current}], rdx
    cmp gs:[{vectors} + {v_owner}], rdx
    je 1f
    cmp byte ptr gs:[{vectors} + {v_trap}], 0
    jne 2f
    mov rax, cr0
    or eax, {task_switched}
    mov cr0, rax
    mov byte ptr gs:[{vectors} + {v_trap}], 1
    jmp 2f
1:  cmp byte ptr gs:[{vectors} + {v_used}], 0
    je 2f
    cmp byte ptr gs:[{vectors} + {v_trap}], 0
    je 2f
    clts
    mov byte ptr gs:[{vectors} + {v_trap}], 0
2:
    .endm

    // The segment bases of one against the other's, and the caller's run time. rdi: its exposed
    // entry; rdx: the cell of the CPU.
    .macro charge_caller
    rdfsbase rax
    mov [r11 + {fs}], rax
    mov rax, [rcx + {fs}]
    wrfsbase rax
    swapgs
    rdgsbase rax
    swapgs
    mov [r11 + {gs}], rax
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, gs:[{switch} + {t_start}]
    mul qword ptr gs:[{switch} + {t_scale}]
    shrd rax, rdx, 32
    mov rdx, gs:[{cell}]
    mov rdi, [rdx + {p_since}]
    mov [rdx + {p_since}], rax
    sub rax, rdi
    mov rdi, [r11 + {entry}]
    add [rdi + {e_run_time}], rax
    .endm

    // The address space. The instruction orders memory as the exchange on the long way.
    .macro enter_space
    mov rax, [rcx + {root}]
    shl rax, 12
    mov gs:[{current_root}], rax
    mov cr3, rax
    .endm

    // A function of where this is, r11, rdx and rsi. Nothing changes but rax.
    .macro call_out function
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    mov rdi, gs:[{here}]
    mov rcx, rsi
    mov rsi, r11
    call \function
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    .endm

    .section .text.entry, "ax"
    .global transfer_entry
transfer_entry:
    swapgs
    keep_place r10
    mov [rax + {wake_at}], rdx
    cmp rsi, {reply}
    ja 90f
    find_cell 90f
    check_keeper 90f
    claim {asleep}, 70f
    check_claimed 80f
20: take_over
    // The caller rests, with the callee as its heir if it waits for an answer.
    xor eax, eax
    mov [r11 + {status}], rax
    mov [r11 + {reproach}], rax
    cmp esi, {synchronous}
    cmove rax, rdi
    mov [r11 + {heir}], rax
    charge_caller
    inc qword ptr [rdi + {e_transfers}]
    mov rdx, [rdx + {p_statistics}]
    inc qword ptr [rdx + {s_transfers}]
    // The release. Who posts an event first sets its bit and then looks for a sleeper.
    mov rdx, [r11 + {wake_at}]
    mov rax, gs:[{switch} + {t_rest} + rsi * 8]
    lock add [rdi + {e_state}], rax
    test esi, esi
    jz 55f
    mov rax, gs:[{switch} + {t_next_wake}]
    cmp rdx, [rax]
    jb 60f
    cmp qword ptr [r11 + {posted}], 0
    jne 60f
35: enter_space
    // Behind its call, with the caller's name, the mode and the time in the registers.
    mov rdi, [rdi + {e_name}]
    mov rsp, [rcx + {rsp}]
    mov r11, [rcx + {rflags}]
    mov rax, [rcx + {gs}]
    mov rcx, [rcx + {rip}]
    swapgs
    wrgsbase rax
    mov rax, {entered}
    sysretq

    // The caller can still run: here, unless a CPU is idle that might want to.
55: mov rax, gs:[{switch} + {t_idle}]
    cmp qword ptr [rax], 0
    je 35b
    // Or it wakes before everybody else, or is to wake already.
60: mov rsp, gs:[0]
    call_out {settle}
    jmp 35b
    // The callee does not sleep; rax has its state. If it rests all the same, it is as good.
70: mov edx, edi
    xor rdx, rdi
    or rdx, {runnable}
    cmp rax, rdx
    jne 90f
    claim {runnable}, 90f
    check_claimed 85f
    jmp 20b
    // The claim is of no use. It is given back.
80: mov rdx, gs:[{switch} + {t_rest} + {reply} * 8]
    jmp 86f
85: mov rdx, gs:[{switch} + {t_rest}]
86: lock add [r11 + {e_state}], rdx
    mov r11, rcx
    mov rsp, gs:[0]
    call_out {reconsider}
    // The long way.
90: mov r11, gs:[{environment}]
    mov rsp, [r11 + {rsp}]
    mov rdx, [r11 + {wake_at}]
    mov rcx, [r11 + {rip}]
    mov r11, [r11 + {rflags}]
    mov eax, {transfer}
    jmp call_further

    // Who yields to nobody gets none of its registers back, so that all may be used.
    .global yield_entry
yield_entry:
    swapgs
    keep_place rsi
    test rdi, rdi
    jnz 92f
    // The next position that is held by somebody who does not sleep.
    mov rbx, gs:[{cell}]
    mov r15, [rbx + {p_position}]
    lea rcx, [r15 + 1]
    mov r14, [rbx + {p_held}]
    ror r14, cl
1:  bsf rdx, r14
    jz 91f
    lea rax, [r14 - 1]
    and r14, rax
    lea ecx, [r15 + rdx + 1]
    and ecx, 63
    mov r12, rcx
    mov rdx, [rbx + {p_slices}]
    mov rdi, [rdx + rcx * 8]
    find_cell 91f
    mov rax, [rcx + {entry}]
    cmp byte ptr [rax + {e_state}], {asleep}
    jne 2f
    cmp qword ptr [rcx + {heir}], 0
    je 1b
    jmp 91f
    // Who owes a slice pays by the long way.
2:  cmp qword ptr [rbx + {p_owing}], 0
    jne 91f
    mov r15d, edi
    claim {runnable}, 91f
    mov rdx, [rcx + {control}]
    take_over
    xor eax, eax
    mov [r11 + {status}], rax
    mov [r11 + {reproach}], rax
    charge_caller
    // Who held the slice until now owes what it was too long by, if that is much.
    mov rbp, [rbx + {p_since}]
    mov rax, [rbx + {p_statistics}]
    lea rdx, [rbp - {epilogue}]
    cmp rdx, [rax + {s_slice_end}]
    ja 65f
    // The slice begins.
3:  mov byte ptr gs:[{vectors} + {v_used}], 0
    mov [rbx + {p_holder}], r15
    mov [rbx + {p_position}], r12
    mov qword ptr [rbx + {p_epilogue}], 0
    add rbp, gs:[{switch} + {t_slice}]
    mov [rax + {s_slice_end}], rbp
    inc qword ptr [rax + {s_switches}]
    inc qword ptr [rax + {s_calls}]
    inc qword ptr [rdi + {e_calls}]
    // The release. Who is idle first says so and then looks for somebody who can run.
    mov rax, gs:[{switch} + {t_rest}]
    lock add [rdi + {e_state}], rax
    mov rax, gs:[{switch} + {t_idle}]
    cmp qword ptr [rax], 0
    jne 62f
    // The timer, unless somebody wakes before the slice ends.
36: mov rax, gs:[{switch} + {t_next_wake}]
    cmp [rax], rbp
    jb 63f
    mov rax, gs:[{switch} + {t_timer}]
    test rax, rax
    jz 63f
    mov edx, gs:[{switch} + {t_ticks}]
    mov [rax], edx
37: enter_space
    mov rdx, [rcx + {gs}]
    cmp qword ptr [rcx + {posted}], 0
    jne 64f
    mov rsp, [rcx + {rsp}]
    mov r11, [rcx + {rflags}]
    mov rax, [rcx + {status}]
    mov rcx, [rcx + {rip}]
    swapgs
    wrgsbase rdx
    .irp register, ebx, edx, esi, edi, ebp, r8d, r9d, r10d, r12d, r13d, r14d, r15d
    xor \register, \register
    .endr
    sysretq

    // An idle CPU may want to run the caller.
62: mov rsp, gs:[0]
    xor esi, esi
    call_out {settle}
    jmp 36b
63: mov rsp, gs:[0]
    call_out {set_alarm}
    jmp 37b
    // Who runs next has an event pending.
64: swapgs
    wrgsbase rdx
    swapgs
    mov rsp, gs:[0]
    mov rdi, gs:[{registers}]
    mov rsi, gs:[{here}]
    mov rdx, gs:[{environment}]
    call {resume}
    jmp leave_kernel
65: mov rsp, gs:[0]
    call_out {bill}
    mov rax, [rbx + {p_statistics}]
    jmp 3b
91: xor edi, edi
92: mov r11, gs:[{environment}]
    mov rcx, [r11 + {rip}]
    mov r11, [r11 + {rflags}]
    mov eax, {yield_}
    jmp call_further
"#,
    fields {
        PerCpu {
            environment = environment, cell = cell, here = entry, current_root = root,
            registers = registers, switch = switch, upcall = upcall, vectors = vectors,
        }
        Switch {
            t_cells = cells, t_count = count, t_running = running, t_rest = rest, t_name = name,
            t_start = start, t_scale = scale, t_next_wake = next_wake, t_idle = idle,
            t_slice = slice, t_timer = timer, t_ticks = ticks,
        }
        Vectors { v_owner = owner, v_trap = trap, v_used = used }
        Upcall { u_control = control, u_environment = environment, u_frame = frame }
        EnvEntry {
            e_name = name, e_state = state, e_run_time = run_time, e_calls = calls,
            e_transfers = transfers,
        }
        Statistics {
            s_calls = calls, s_switches = switches, s_slice_end = slice_end,
            s_transfers = transfers,
        }
        Environment {
            entry = entry, root = root, control = control_address, rip = rip, rsp = rsp,
            rflags = rflags, status = status, keeper = keeper, posted = posted, fs = bases,
            wake_at = wake_at, heir = heir, reproach = reproach,
        }
        Cpu {
            p_statistics = statistics, p_current = current, p_slices = slices, p_held = held,
            p_position = position, p_holder = holder, p_owing = owing, p_epilogue = epilogue,
            p_since = since,
        }
    }
    gs = const offset_of!(Environment, bases) + 8,
    size = const size_of::<Environment>(),
    anybody = const EnvName::ANYBODY.0 as i64,
    entered = const ENTERED as i64,
    asleep = const EnvState::Asleep as u64,
    runnable = const EnvState::Runnable as u64,
    synchronous = const TransferMode::Synchronous as u64,
    reply = const TransferMode::Reply as u64,
    transfer = const Number::Transfer as u64,
    yield_ = const Number::Yield as u64,
    task_switched = const TASK_SWITCHED,
    settle = sym settle,
    reconsider = sym reconsider,
    set_alarm = sym set_alarm,
    resume = sym resume,
    bill = sym bill,
    epilogue = const EPILOGUE,
}

/// The bit of CR0 that makes vector instructions trap.
const TASK_SWITCHED: u64 = 1 << 3;

/// What the short ways need to know, for one CPU. All but the name stay as they are once they are open.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Switch {
    /// The address of the first cell, and how many there are: none where the short ways cannot be
    /// gone.
    cells: AtomicU64,
    count: AtomicU64,
    /// The state of who runs here, without the generation.
    running: AtomicU64,
    /// What added to that makes the state of a caller, by the mode of its transfer.
    rest: [AtomicU64; 3],
    /// The name of who runs here.
    pub(crate) name: AtomicU64,
    /// The clock.
    start: AtomicU64,
    scale: AtomicU64,
    /// The address of the word before which nobody wakes by the clock.
    next_wake: AtomicU64,
    /// The address of the bitmap of idle CPUs.
    idle: AtomicU64,
    /// The length of a slice in nanoseconds, and in ticks of the timer.
    slice: AtomicU64,
    ticks: AtomicU64,
    /// The address of the timer's register; 0 if it has none in memory.
    timer: AtomicU64,
}

impl Switch {
    /// Opens the short ways on a CPU, if it has what that takes.
    pub(crate) fn open(&self, system: &'static System, cpu: usize) {
        if !segments::has_instructions() {
            return;
        }
        let hardware = &system.hardware;
        let board = hardware.board;
        let address = |word: &AtomicU64| core::ptr::from_ref(word).addr() as u64;
        let running = running(cpu);
        let [runnable, asleep] = [EnvState::Runnable, EnvState::Asleep]
            .map(|state| (state as u64).wrapping_sub(running));
        for (word, value) in [
            (&self.cells, board.cells.as_ptr().addr() as u64),
            (&self.running, running),
            (&self.rest[TransferMode::Asynchronous as usize], runnable),
            (&self.rest[TransferMode::Synchronous as usize], asleep),
            (&self.rest[TransferMode::Reply as usize], asleep),
            (&self.start, hardware.clock.start),
            (&self.scale, hardware.clock.scale),
            (&self.next_wake, address(&board.next_wake)),
            (&self.idle, address(&board.idle)),
            (&self.slice, board.slice),
            (&self.ticks, hardware.apic.ticks(board.slice).into()),
            (&self.timer, hardware.apic.timer_register()),
            (&self.count, board.cells.len() as u64),
        ] {
            word.store(value, Relaxed);
        }
    }
}
