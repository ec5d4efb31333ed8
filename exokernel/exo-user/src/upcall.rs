//! Upcalls: the trampoline, and who handles what.
//!
//! The kernel enters the trampoline on the upcall stack with a frame that holds the registers which
//! it has changed ([`exo_abi::upcall`]). The trampoline saves what a Rust function may change, the
//! vector registers included, calls the handler, and returns by itself: the kernel is not entered.
//!
//! The order of the return matters. Once the mask is back to what it was, an event may come at any
//! instruction. It does no harm: the kernel pushes below the stack pointer as long as that is in
//! the upcall stack, and everything that is still needed is above it.
//!
//! Handlers run with events held back, but an exception in a handler is an upcall like any other,
//! one level deeper. They must take no lock that the interrupted code may hold, unless that code
//! holds it under [`Masked`](crate::control::Masked) and can cause no exception there.
//!
//! The handlers are compiled with SSE only, and instructions of SSE leave the upper parts of AVX
//! registers alone. So the 512 bytes of `fxsave64` are enough.

use crate::control::{take_wanted, word};
use crate::{backtrace, binding, capability, environment, frame, layout, println};
use core::arch::naked_asm;
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use exo_abi::calls::Number;
use exo_abi::control::ControlWord;
use exo_abi::name::PAGE_SIZE;
use exo_abi::request::BindRequest;
use exo_abi::upcall::{EVENT_CAUSE, Event, FaultCode, PAGE_FAULT, RED_ZONE, UpcallFrame};
use exo_abi::{EnvName, Error, FrameNumber, Rights};

/// The registers of what was interrupted, as far as they are not where they were. A handler may
/// change them.
#[derive(Debug)]
#[repr(C)]
pub struct Interrupted {
    /// `rbp`: the frame pointer.
    pub rbp: u64,
    /// `rbx`
    pub rbx: u64,
    /// `r11`
    pub r11: u64,
    /// `r10`
    pub r10: u64,
    /// `r9`
    pub r9: u64,
    /// `r8`
    pub r8: u64,
    /// What the kernel has pushed.
    pub frame: UpcallFrame,
}

/// A function that handles an upcall, on the upcall stack.
pub type Handler = fn(&mut Interrupted);

/// Who handles what. Events without a handler become pending only, and end a sleep.
#[derive(Clone, Copy, Debug)]
pub struct Handlers {
    /// Exceptions, page faults included.
    pub exception: Handler,
    /// [`Event::SliceEnd`]; without a handler the kernel saves the registers.
    pub slice_end: Option<Handler>,
    /// [`Event::Revoke`]
    pub revoke: Option<Handler>,
    /// [`Event::Lost`]
    pub lost: Option<Handler>,
    /// [`Event::Packet`]
    pub packet: Option<Handler>,
    /// [`Event::ChildEnded`]
    pub child_ended: Option<Handler>,
    /// [`Event::Console`]
    pub console: Option<Handler>,
    /// [`Event::Predicate`]
    pub predicate: Option<Handler>,
}

impl Handlers {
    /// Exceptions end the program with a report; no event makes an upcall.
    pub const NONE: Self = Self {
        exception: end_with_report,
        slice_end: None,
        revoke: None,
        lost: None,
        packet: None,
        child_ended: None,
        console: None,
        predicate: None,
    };

    fn of(&self, event: Event) -> Option<Handler> {
        match event {
            Event::SliceEnd => self.slice_end,
            Event::Revoke => self.revoke,
            Event::Lost => self.lost,
            Event::Packet => self.packet,
            Event::ChildEnded => self.child_ended,
            Event::Console => self.console,
            Event::Predicate => self.predicate,
        }
    }

    /// The events that have a handler, as bits.
    fn enabled(&self) -> u64 {
        Event::ALL
            .into_iter()
            .filter(|&event| self.of(event).is_some())
            .fold(0, |bits, event| bits | event.bit())
    }
}

/// Whether the end of a slice is handled by [`give_slice_up`] alone.
static GIVES_UP: AtomicBool = AtomicBool::new(false);

/// The handlers in force.
static HANDLERS: AtomicPtr<Handlers> = AtomicPtr::new(core::ptr::null_mut());

/// Installs handlers, with an upcall stack that is bound already. Installing again replaces the
/// handlers; events come from now on.
///
/// # Safety
/// The stack is bound, writable, wired, a multiple of 16 at its top, and nobody else's. It has 1024
/// bytes for every upcall that may come inside another, beside what the handlers need.
pub unsafe fn install(stack: Range<u64>, handlers: &'static Handlers) {
    word(ControlWord::Enabled).store(0, Ordering::SeqCst);
    let gives_up = handlers
        .slice_end
        .is_some_and(|handler| core::ptr::fn_addr_eq(handler, give_slice_up as Handler));
    GIVES_UP.store(gives_up, Ordering::SeqCst);
    HANDLERS.store(core::ptr::from_ref(handlers).cast_mut(), Ordering::SeqCst);
    word(ControlWord::StackBase).store(stack.start, Ordering::SeqCst);
    word(ControlWord::StackTop).store(stack.end, Ordering::SeqCst);
    word(ControlWord::Entry).store(trampoline as *const () as u64, Ordering::SeqCst);
    word(ControlWord::Enabled).store(handlers.enabled(), Ordering::SeqCst);
}

/// Binds `pages` wired frames of the program's own at [`layout::UPCALL_STACK`], and installs the
/// handlers on them. For a program that has not done so before.
///
/// # Errors
/// What [`frame::allocate`] and [`binding::bind`] say; `TooLong` for more pages than the place has.
pub fn install_with_stack(pages: u64, handlers: &'static Handlers) -> Result<(), Error> {
    let place = layout::UPCALL_STACK;
    let base = place.end - pages.saturating_mul(PAGE_SIZE).min(place.end);
    // The lowest page of the place stays empty: a stack that overflows faults.
    if base <= place.start {
        return Err(Error::TooLong);
    }
    for page in (base..place.end).step_by(PAGE_SIZE as usize) {
        let frame: FrameNumber = frame::allocate_any(capability::OWN)?;
        let rights = Rights::READ | Rights::WRITE | Rights::WIRED;
        // SAFETY: the place is for this alone; nothing refers to it yet.
        unsafe { binding::bind(&[BindRequest::new(page, frame, rights, capability::OWN)])? };
    }
    // SAFETY: it has just been bound.
    unsafe { install(base..place.end, handlers) };
    Ok(())
}

/// Where the kernel enters. `rcx` is the address of the [`UpcallFrame`], and so is `rsp`.
///
/// The frame is a multiple of 16; six pushes and 512 bytes keep it so, which is what `fxsave64` and
/// the called function need.
///
/// The return is no `iretq`. QEMU's emulation (7.2, 2022) reads what `iretq` pops as if the kernel
/// read it, so that in ring 3, with SMAP, the instruction faults for ever. Instead the address goes
/// below the red zone of the interrupted stack, and a `ret` that drops the red zone leaves the
/// stack pointer where it was. Where that stack is the upcall stack, the address lies above the
/// frame, or over its last word, which is that address.
#[unsafe(naked)]
extern "C" fn trampoline() {
    naked_asm!(
        "cmp edi, {slice_end}",
        "jne 2f",
        "cmp byte ptr [rip + {gives_up}], 0",
        "jne {at_slice_end}",
        "2:",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbx",
        "push rbp",
        "mov rdi, rsp",
        "sub rsp, 512",
        "fxsave64 [rsp]",
        "xor ebp, ebp",
        "call {dispatch}",
        "fxrstor64 [rsp]",
        "add rsp, 512",
        "pop rbp",
        "pop rbx",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "jmp {resume}",
        dispatch = sym dispatch,
        slice_end = const Event::SliceEnd.cause(),
        gives_up = sym GIVES_UP,
        at_slice_end = sym at_slice_end,
        resume = sym resume,
    )
}

/// The end of a slice, for which nothing but the CPU is to be given up: no function is called, so
/// that the vector registers stay where they are. Enters as [`trampoline`] does.
#[unsafe(naked)]
extern "C" fn at_slice_end() {
    naked_asm!(
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "xor edi, edi",
        "xor esi, esi",
        "mov eax, {yield_to}",
        "syscall",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        // What has come meanwhile, and would wait for the next entry to the kernel.
        "movabs rcx, {control}",
        "mov rax, [rcx + {pending}]",
        "test [rcx + {enabled}], rax",
        "jz {resume}",
        "xor edi, edi",
        "jmp {trampoline}",
        yield_to = const Number::Yield as u64,
        control = const exo_abi::layout::CONTROL,
        pending = const ControlWord::Pending as u64 * 8,
        enabled = const ControlWord::Enabled as u64 * 8,
        resume = sym resume,
        trampoline = sym trampoline,
    )
}

/// The way back to what was interrupted: `rsp` is the address of the frame, and all registers that
/// are not in it are as they were.
#[unsafe(naked)]
extern "C" fn resume() {
    naked_asm!(
        // Where the `ret` at the end finds it.
        "mov rax, [rsp + {rsp}]",
        "sub rax, {below}",
        "mov rcx, [rsp + {rip}]",
        "mov [rax], rcx",
        "mov [rsp + {rsp}], rax",
        // From here on nothing changes the flags.
        "push qword ptr [rsp + {rflags}]",
        "popfq",
        // From here on an event may come again.
        "mov rax, [rsp + {saved_mask}]",
        "movabs rcx, {mask}",
        "mov [rcx], rax",
        "pop rax",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "mov rsp, [rsp + {rsp} - {saved_mask}]",
        "ret {red_zone}",
        rsp = const offset_of!(UpcallFrame, rsp),
        rip = const offset_of!(UpcallFrame, rip),
        rflags = const offset_of!(UpcallFrame, rflags),
        saved_mask = const offset_of!(UpcallFrame, mask),
        red_zone = const RED_ZONE,
        below = const RED_ZONE + 8,
        mask = const exo_abi::layout::CONTROL + ControlWord::Mask as u64 * 8,
    )
}

extern "C" fn dispatch(interrupted: &mut Interrupted) {
    // SAFETY: the pointer is null or came from a `&'static Handlers`.
    let Some(handlers) = (unsafe { HANDLERS.load(Ordering::Acquire).as_ref() }) else { return };
    let cause = interrupted.frame.cause;
    let Some(event) = cause.checked_sub(EVENT_CAUSE) else {
        return (handlers.exception)(interrupted);
    };
    let mut next = Event::ALL.into_iter().find(|&known| known as u64 == event);
    // Events that came while this one was handled would otherwise wait for the next entry to the
    // kernel. What was held back when this upcall came is somebody else's business.
    while let Some(event) = next {
        if let Some(handler) = handlers.of(event) {
            handler(interrupted);
        }
        next = if interrupted.frame.mask == 0 { take_wanted() } else { None };
    }
}

/// Handles the end of a slice: everything is on the upcall stack already, so the CPU can go.
pub fn give_slice_up(_: &mut Interrupted) {
    // With nobody named the kernel has no reason to refuse.
    let _ = environment::yield_to(EnvName::NONE);
}

/// Ends the program with a report of the exception and a backtrace; the code is 128 + the vector.
pub fn end_with_report(interrupted: &mut Interrupted) {
    let UpcallFrame { cause, code, address, rip, .. } = interrupted.frame;
    if cause == PAGE_FAULT {
        let reason = fault_reason(FaultCode::from_bits_truncate(code));
        println!("page fault: {reason} {address:#x} at {rip:#x}");
    } else {
        println!("exception {cause}, code {code:#x}, at {rip:#x}");
    }
    backtrace::print(rip, interrupted.rbp);
    environment::exit(128 + cause)
}

/// What a program did to cause a page fault, in words that an address can follow.
pub fn fault_reason(code: FaultCode) -> &'static str {
    if code.contains(FaultCode::LOST) {
        "lost the frame behind"
    } else if code.contains(FaultCode::FETCH) {
        "cannot execute"
    } else if code.contains(FaultCode::WRITE) {
        "cannot write"
    } else {
        "cannot read"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_registers_lie_right_below_the_frame() {
        assert_eq!(offset_of!(Interrupted, frame), 6 * 8);
        assert_eq!(offset_of!(Interrupted, frame) % 16, 0);
        assert_eq!(offset_of!(UpcallFrame, rdi) + 8, offset_of!(UpcallFrame, mask));
        assert_eq!(offset_of!(UpcallFrame, rip) + 8, size_of::<UpcallFrame>());
    }

    #[test]
    fn only_events_with_handlers_are_enabled() {
        assert_eq!(Handlers::NONE.enabled(), 0);
        let handlers = Handlers { revoke: Some(give_slice_up), ..Handlers::NONE };
        assert_eq!(handlers.enabled(), Event::Revoke.bit());
    }
}
