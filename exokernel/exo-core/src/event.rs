//! Upcalls: how exceptions and events reach an environment.
//!
//! The invariant of re-entry: a frame is pushed below everything on the upcall stack that is still
//! in use, because the stack pointer itself says what is. So an event may come at any instruction
//! at which the mask is clear, the last one of a handler included, and every frame is returned to
//! exactly once. The mask is what bounds the depth; a stack that is too small ends its owner.

use crate::context::Context;
use crate::environment::Environment;
use crate::kernel::Kernel;
use crate::machine::Machine;
use core::sync::atomic::Ordering;
use exo_abi::control::ControlWord;
use exo_abi::layout::{USER_END, USER_START};
use exo_abi::name::PAGE_SIZE;
use exo_abi::tables::{EndReason, EnvState, EnvWord, StatisticsWord};
use exo_abi::upcall::{Event, FRAME_WORDS, FaultCode, PAGE_FAULT, RED_ZONE};

/// The flags that a handler starts without: trap, direction, alignment check.
const HANDLER_FLAGS_OFF: u64 = 1 << 8 | 1 << 10 | 1 << 18;

/// The bit of a page fault's error code that says that the page was there.
const PRESENT: u64 = 1;

/// What is delivered: the cause, the code and the address.
#[derive(Clone, Copy)]
struct Upcall {
    cause: u64,
    code: u64,
    address: u64,
}

impl Kernel<'_> {
    /// A program has caused a CPU exception. Afterwards `context` is what is to run.
    ///
    /// `error` is the CPU's error code, `address` what a page fault could not reach.
    pub fn exception<M: Machine>(
        &mut self,
        machine: &mut M,
        context: &mut Context,
        vector: u8,
        error: u64,
        address: u64,
    ) {
        let Some(current) = self.cpu.current else { return };
        let mut code = error;
        if u64::from(vector) == PAGE_FAULT {
            let mut access = FaultCode::empty();
            access.set(FaultCode::WRITE, error & 2 != 0);
            access.set(FaultCode::FETCH, error & 16 != 0);
            let reached = self.reach(machine, current, address, access);
            let present = error & PRESENT != 0;
            match reached {
                Ok(()) if !present || self.cpu.refilled != (context.rip, address) => {
                    self.cpu.refilled = (context.rip, address);
                    self.exposed.count(StatisticsWord::Refills, 1);
                    self.exposed.count_environment(current, EnvWord::Refills, 1);
                    return self.leave(machine, context);
                }
                // The page was there and allowed what the program did, and a refill has not helped:
                // the CPU objects to something else, as some emulators do to `iretq` under SMAP.
                Ok(()) => code = (access | FaultCode::PROTECTION).bits(),
                Err(fault) => code = fault.bits(),
            }
            self.cpu.refilled = (0, 0);
        }
        self.exposed.count(StatisticsWord::Exceptions, 1);
        self.exposed.count_environment(current, EnvWord::Exceptions, 1);
        let upcall = Upcall { cause: vector.into(), code, address };
        if self.control_word(machine, current, ControlWord::Entry) == 0 {
            self.end_by_exception(machine, current, context.rip, upcall);
        } else if !self.push(machine, context, current, upcall) {
            self.note_end_place(current, context.rip, address);
            self.destroy(machine, current, EndReason::UpcallStack, upcall.cause);
        }
        self.leave(machine, context);
    }

    fn reach(
        &mut self,
        machine: &mut impl Machine,
        slot: u16,
        address: u64,
        access: FaultCode,
    ) -> Result<(), FaultCode> {
        if !(USER_START..USER_END).contains(&address) {
            return Err(access | FaultCode::PROTECTION);
        }
        self.bindings.refill(machine, slot, address, access)
    }

    fn end_by_exception(
        &mut self,
        machine: &mut impl Machine,
        slot: u16,
        rip: u64,
        upcall: Upcall,
    ) {
        self.note_end_place(slot, rip, upcall.address);
        self.destroy(machine, slot, EndReason::Exception, upcall.cause);
    }

    fn note_end_place(&mut self, slot: u16, rip: u64, address: u64) {
        self.exposed.set_environment(slot, EnvWord::EndRip, rip);
        self.exposed.set_environment(slot, EnvWord::EndAddress, address);
    }

    fn control_word(&self, machine: &impl Machine, slot: u16, word: ControlWord) -> u64 {
        let page = machine.page(self.environment(slot).pages.control);
        page[word as usize].load(Ordering::Relaxed)
    }

    /// Says that something has happened to an environment, and wakes it.
    pub(crate) fn post(&mut self, machine: &impl Machine, slot: u16, event: Event) {
        let Environment { state, pages, .. } = self.environment_mut(slot);
        let page = machine.page(pages.control);
        page[ControlWord::Pending as usize].fetch_or(event.bit(), Ordering::SeqCst);
        if *state == EnvState::Asleep {
            self.set_state(slot, EnvState::Runnable);
        }
    }

    /// Makes an event that no longer holds not pending.
    pub(crate) fn withdraw(&self, machine: &impl Machine, slot: u16, event: Event) {
        let page = machine.page(self.environment(slot).pages.control);
        page[ControlWord::Pending as usize].fetch_and(!event.bit(), Ordering::SeqCst);
    }

    /// The events that are pending.
    pub(crate) fn pending(&self, machine: &impl Machine, slot: u16) -> u64 {
        self.control_word(machine, slot, ControlWord::Pending)
    }

    /// Whether an event would be delivered as an upcall now.
    pub(crate) fn would_deliver(&self, machine: &impl Machine, slot: u16, event: Event) -> bool {
        self.control_word(machine, slot, ControlWord::Entry) != 0
            && self.control_word(machine, slot, ControlWord::Mask) == 0
            && self.control_word(machine, slot, ControlWord::Enabled) & event.bit() != 0
    }

    /// Delivers the first pending event that the environment in `context` wants and does not hold
    /// back.
    pub(crate) fn deliver(&mut self, machine: &mut impl Machine, context: &mut Context, slot: u16) {
        let pending = self.pending(machine, slot);
        if pending == 0 {
            return;
        }
        for event in Event::ALL {
            if pending & event.bit() == 0 || !self.would_deliver(machine, slot, event) {
                continue;
            }
            self.withdraw(machine, slot, event);
            let upcall = Upcall { cause: event.cause(), code: 0, address: 0 };
            if !self.push(machine, context, slot, upcall) {
                self.note_end_place(slot, context.rip, context.rsp);
                self.destroy(machine, slot, EndReason::UpcallStack, upcall.cause);
            }
            return;
        }
    }

    /// Pushes a frame on the upcall stack and enters the handler. Says whether there was a stack
    /// to push it on; if not, nothing has changed.
    fn push(
        &mut self,
        machine: &mut impl Machine,
        context: &mut Context,
        slot: u16,
        upcall: Upcall,
    ) -> bool {
        let [entry, base, top, mask] =
            [ControlWord::Entry, ControlWord::StackBase, ControlWord::StackTop, ControlWord::Mask]
                .map(|word| self.control_word(machine, slot, word));
        if !(USER_START..USER_END).contains(&entry) || base >= top || top > USER_END {
            return false;
        }
        // A handler that has run out of stack has its stack pointer just below.
        let nested = base.saturating_sub(PAGE_SIZE) < context.rsp && context.rsp <= top;
        let limit = if nested { context.rsp.wrapping_sub(RED_ZONE) } else { top };
        let Some(frame) = (limit & !15).checked_sub(8 * FRAME_WORDS as u64) else { return false };
        if frame < base || frame >= top {
            return false;
        }
        let words: [u64; FRAME_WORDS] = [
            context.rax,
            context.rcx,
            context.rdx,
            context.rsi,
            context.rdi,
            mask,
            upcall.cause,
            upcall.code,
            upcall.address,
            context.rip,
            context.cs,
            context.rflags,
            context.rsp,
            context.ss,
        ];
        let mut bytes = [0; 8 * FRAME_WORDS];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        if self.write_user(machine, slot, frame, &bytes).is_err() {
            return false;
        }
        let control = machine.page(self.environment(slot).pages.control);
        control[ControlWord::Mask as usize].store(1, Ordering::Relaxed);
        (context.rdi, context.rsi) = (upcall.cause, upcall.code);
        (context.rdx, context.rcx) = (upcall.address, frame);
        (context.rip, context.rsp) = (entry, frame);
        context.rflags &= !HANDLER_FLAGS_OFF;
        self.exposed.count(StatisticsWord::Upcalls, 1);
        self.exposed.count_environment(slot, EnvWord::Upcalls, 1);
        true
    }
}
