//! Upcalls: how exceptions and events reach an environment.
//!
//! The invariant of re-entry: a frame is pushed below everything on the upcall stack that is still
//! in use, because the stack pointer itself says what is. So an event may come at any instruction
//! at which the mask is clear, the last one of a handler included, and every frame is returned to
//! exactly once. The mask is what bounds the depth; a stack that is too small ends its owner.
//!
//! An exception takes the lock only if the software TLB's answer needs another page table, or the
//! upcall stack is not where the hardware finds it.

use crate::board::{CpuCell, EnvCell};
use crate::context::{Context, Frame};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::processor::Processor;
use crate::schedule::Next;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use exo_abi::FrameNumber;
use exo_abi::control::ControlWord;
use exo_abi::layout::USER_END;
use exo_abi::name::PAGE_SIZE;
use exo_abi::tables::{EndReason, EnvWord, StatisticsWord};
use exo_abi::upcall::{Event, FRAME_WORDS, FaultCode, HANDLER_FLAGS_OFF, PAGE_FAULT, RED_ZONE};
use secure_bindings::{FrameMemory, Page, Refill, leaf_entry, refill, writable_frame};

/// The bit of a page fault's error code that says that the page was there.
const PRESENT: u64 = 1;

/// The bytes of an upcall's frame.
const FRAME_SIZE: u64 = 8 * FRAME_WORDS as u64;

/// What is delivered: the cause, the code and the address.
#[derive(Clone, Copy)]
struct Upcall {
    cause: u64,
    code: u64,
    address: u64,
}

/// Where a frame is to be pushed, and what is entered then.
#[derive(Clone, Copy)]
struct Push {
    entry: u64,
    place: u64,
    mask: u64,
}

impl Upcall {
    /// Writes the frame of this upcall, word by word.
    #[inline]
    fn write(&self, frame: &Frame, mask: u64, stored: &[AtomicU64; FRAME_WORDS]) {
        stored[0].store(frame.rax, Relaxed);
        stored[1].store(frame.rcx, Relaxed);
        stored[2].store(frame.rdx, Relaxed);
        stored[3].store(frame.rsi, Relaxed);
        stored[4].store(frame.rdi, Relaxed);
        stored[5].store(mask, Relaxed);
        stored[6].store(self.cause, Relaxed);
        stored[7].store(self.code, Relaxed);
        stored[8].store(self.address, Relaxed);
        stored[9].store(frame.rflags, Relaxed);
        stored[10].store(frame.rsp, Relaxed);
        stored[11].store(frame.rip, Relaxed);
    }
}

/// An exception as the CPU reports it.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// Its vector.
    pub vector: u64,
    /// The CPU's error code; of a page fault that was refused, the [`FaultCode`].
    pub error: u64,
    /// What a page fault could not reach.
    pub address: u64,
}

impl Exception {
    /// What a page fault wanted.
    #[inline]
    fn access(&self) -> FaultCode {
        FaultCode::from_bits_truncate(self.error) & (FaultCode::WRITE | FaultCode::FETCH)
    }
}

impl EnvCell<'_> {
    pub(crate) fn control_word(&self, machine: &impl FrameMemory, word: ControlWord) -> u64 {
        self.control(machine)[word as usize].load(Relaxed)
    }

    /// Whether events may be pending. If not, none is.
    #[inline]
    pub(crate) fn was_posted(&self) -> bool {
        self.posted.load(SeqCst) != 0
    }

    /// The events that have happened and that nobody has taken.
    #[inline]
    pub(crate) fn pending(&self, machine: &impl FrameMemory) -> u64 {
        if self.was_posted() { self.withdraw(machine, 0) } else { 0 }
    }

    /// Makes events that no longer hold not pending. Returns those that are.
    pub(crate) fn withdraw(&self, machine: &impl FrameMemory, events: u64) -> u64 {
        let pending = &self.control(machine)[ControlWord::Pending as usize];
        self.posted.store(0, SeqCst);
        pending.fetch_and(!events, SeqCst);
        let left = pending.load(SeqCst);
        if left != 0 {
            self.posted.store(1, SeqCst);
        }
        left
    }

    /// Sets an event's bit. Who may sleep or run elsewhere has to be woken as well.
    pub(crate) fn post(&self, machine: &impl FrameMemory, event: Event) {
        self.control(machine)[ControlWord::Pending as usize].fetch_or(event.bit(), SeqCst);
        self.posted.store(1, SeqCst);
    }

    /// Whether an event would be delivered as an upcall now.
    pub(crate) fn would_deliver(&self, machine: &impl FrameMemory, event: Event) -> bool {
        let control = self.control(machine);
        let [entry, mask, enabled] = [ControlWord::Entry, ControlWord::Mask, ControlWord::Enabled]
            .map(|word| control[word as usize].load(Relaxed));
        entry != 0 && mask == 0 && enabled & event.bit() != 0
    }

    /// The first event that is pending and would be delivered.
    #[inline]
    fn deliverable(&self, machine: &impl FrameMemory) -> Option<Event> {
        if !self.was_posted() {
            return None;
        }
        let control = self.control(machine);
        let [pending, enabled, mask, entry] =
            [ControlWord::Pending, ControlWord::Enabled, ControlWord::Mask, ControlWord::Entry]
                .map(|word| control[word as usize].load(SeqCst));
        let wanted = pending & enabled;
        if wanted == 0 || mask != 0 || entry == 0 {
            // The program may have taken what was posted.
            self.withdraw(machine, 0);
            return None;
        }
        Event::ALL.get(wanted.trailing_zeros() as usize).copied()
    }

    /// Where a frame for an upcall goes. `None`: there is no stack for it. That the place can be
    /// written to is still to be seen.
    #[inline]
    fn prepare(&self, control: &Page, rsp: u64) -> Option<Push> {
        let [entry, base, top, mask] =
            [ControlWord::Entry, ControlWord::StackBase, ControlWord::StackTop, ControlWord::Mask]
                .map(|word| control[word as usize].load(Relaxed));
        // Without an entry nothing is to be written: the exception itself ends its owner. Whether
        // there is a page below is checked by whoever writes the frame; an entry that is no code
        // faults there.
        if entry.wrapping_sub(1) >= USER_END - 1 {
            return None;
        }
        // A handler that has run out of stack has its stack pointer just below.
        let size = top.wrapping_sub(base);
        let nested =
            rsp.wrapping_sub(base).wrapping_add(PAGE_SIZE - 1) < size.wrapping_add(PAGE_SIZE);
        let limit = if nested { rsp.wrapping_sub(RED_ZONE) } else { top };
        let place = (limit & !15).wrapping_sub(FRAME_SIZE);
        (place.wrapping_sub(base) < size).then_some(Push { entry, place, mask })
    }

    /// The frame of a page to which the program can write, for the next time too.
    #[cold]
    #[inline(never)]
    fn find_page(&self, machine: &impl FrameMemory, page: u64, breaks: u64) -> Option<FrameNumber> {
        let frame = writable_frame(machine, self.root(), page)?;
        self.remember(page, frame, breaks);
        Some(frame)
    }

    /// Enters the handler, whose frame has been written.
    #[inline]
    fn enter_handler(&self, control: &Page, frame: &mut Frame, push: Push, upcall: Upcall) {
        control[ControlWord::Mask as usize].store(1, Relaxed);
        (frame.rdi, frame.rsi) = (upcall.cause, upcall.code);
        (frame.rdx, frame.rcx) = (upcall.address, push.place);
        (frame.rip, frame.rsp) = (push.entry, push.place);
        frame.rflags &= !HANDLER_FLAGS_OFF;
        self.count(EnvWord::Upcalls, 1);
    }
}

impl<M: Machine> Processor<'_, M> {
    /// The program in `cell` has caused a CPU exception that is not answered. Returns whether that is dealt
    /// with: if not, nothing has changed, and [`Kernel::exception`] has to.
    #[inline(always)]
    pub fn exception(&self, cell: &EnvCell<'_>, frame: &mut Frame, exception: Exception) -> bool {
        let Exception { vector: cause, error: code, address } = exception;
        let upcall = Upcall { cause, code, address };
        if !self.push(frame, cell, upcall) {
            return false;
        }
        self.cpu.count(StatisticsWord::Exceptions, 1);
        cell.count(EnvWord::Exceptions, 1);
        true
    }

    /// The program in `cell` has caused a page fault. Answers it, or says why not. With
    /// [`Refill::Locked`], [`Kernel::exception`] has to; if it was to be `soon`, this has to be asked
    /// again before.
    #[inline(always)]
    pub fn page_fault(&self, cell: &EnvCell<'_>, fault: Exception, soon: bool) -> Refill {
        let (breaks, m) = (self.board.breaks(), self.machine);
        let leaf = match cell.known_leaf(fault.address, breaks) {
            None if soon => return Refill::Locked,
            known => known.or_else(|| cell.find_leaf(m, fault.address, breaks)),
        };
        let entry = leaf.map(|leaf| leaf_entry(m, leaf, fault.address));
        let done = refill(m, entry, cell.tlb(), fault.address, fault.access(), soon);
        if let Refill::Refused(code) = done
            && code.contains(FaultCode::LOST)
        {
            // Whoever takes the frame may not have written it down yet: it does so under the lock.
            return Refill::Locked;
        }
        if done == Refill::Done {
            if fault.error & PRESENT != 0 {
                return Refill::Locked;
            }
            self.cpu.count(StatisticsWord::Refills, 1);
            cell.count(EnvWord::Refills, 1);
        }
        done
    }

    /// Pushes a frame through the hardware's own tables and enters the handler.
    #[inline(always)]
    fn push(&self, frame: &mut Frame, cell: &EnvCell<'_>, upcall: Upcall) -> bool {
        let control = cell.control(self.machine);
        let Some(push) = cell.prepare(control, frame.rsp) else { return false };
        self.push_at(frame, (cell, control), (upcall, push))
    }

    /// Pushes a frame at a place.
    #[inline(always)]
    fn push_at(
        &self,
        frame: &mut Frame,
        (cell, control): (&EnvCell<'_>, &Page),
        (upcall, push): (Upcall, Push),
    ) -> bool {
        let first = (push.place % PAGE_SIZE) as usize / 8;
        let page = push.place & !(PAGE_SIZE - 1);
        let breaks = self.board.breaks();
        let known = cell.remembered(page, breaks);
        let Some(frame_of_page) = known.or_else(|| cell.find_page(self.machine, page, breaks))
        else {
            return false;
        };
        let page = self.machine.page(frame_of_page);
        // One that would reach over the end of a page is left to the kernel.
        let Some(stored) = page[first..].first_chunk::<FRAME_WORDS>() else { return false };
        upcall.write(frame, push.mask, stored);
        cell.enter_handler(control, frame, push, upcall);
        self.cpu.count(StatisticsWord::Upcalls, 1);
        true
    }

    /// Delivers the first pending event that who runs wants and does not hold back.
    #[inline]
    pub(crate) fn deliver(&self, context: &mut Context) -> Next {
        let Some(slot) = self.cpu.current() else { return Next::Idle };
        let cell = self.board.cell(slot);
        match cell.deliverable(self.machine) {
            Some(event) => self.deliver_event(cell, context, event),
            None => Next::Run,
        }
    }

    #[inline(never)]
    fn deliver_event(&self, cell: &EnvCell<'_>, context: &mut Context, event: Event) -> Next {
        let upcall = Upcall { cause: event.cause(), code: 0, address: 0 };
        if !self.push(context, cell, upcall) {
            return Next::Resolve;
        }
        cell.withdraw(self.machine, event.bit());
        Next::Run
    }
}

impl CpuCell<'_> {
    /// Takes note that a refill has answered a fault. Returns whether that can help: not if the
    /// page was there and the same fault was answered just before, with no upcall or call since. The CPU
    /// then objects to something else, as some emulators do to `iretq` under SMAP.
    fn has_refilled(&self, cell: &EnvCell<'_>, rip: u64, exception: Exception) -> bool {
        if exception.error & PRESENT == 0 {
            return true;
        }
        let [upcalls, calls] =
            [EnvWord::Upcalls, EnvWord::Calls].map(|word| cell.word(word).load(Relaxed));
        let fault = [rip, exception.address, upcalls.wrapping_add(calls)];
        let last = [0, 1, 2].map(|word: usize| self.refilled[word].swap(fault[word], Relaxed));
        last != fault
    }
}

impl<M: Machine> Kernel<'_, M> {
    /// As [`Processor::exception`], for what that could not do.
    pub fn exception(&mut self, context: &mut Context, exception: Exception) {
        let board = self.board;
        let cpu = self.here().cpu;
        let Some(current) = cpu.current() else { return };
        let mut code = exception.error;
        if exception.vector == PAGE_FAULT {
            let access = exception.access();
            match self.bindings.refill(current, exception.address, access) {
                Refill::Done if cpu.has_refilled(board.cell(current), context.rip, exception) => {
                    cpu.count(StatisticsWord::Refills, 1);
                    self.board.cell(current).count(EnvWord::Refills, 1);
                    return;
                }
                Refill::Refused(fault) => code = fault.bits(),
                _ => code = (access | FaultCode::PROTECTION).bits(),
            }
        }
        cpu.count(StatisticsWord::Exceptions, 1);
        self.board.cell(current).count(EnvWord::Exceptions, 1);
        let upcall = Upcall { cause: exception.vector, code, address: exception.address };
        let wanted = board.cell(current).control_word(self.machine, ControlWord::Entry) != 0;
        if !wanted || !self.push(context, current, upcall) {
            let reason = if wanted { EndReason::UpcallStack } else { EndReason::Exception };
            self.note_end_place(current, context.rip, upcall.address);
            self.destroy(current, reason, upcall.cause);
        }
    }

    fn note_end_place(&mut self, slot: u16, rip: u64, address: u64) {
        self.board.cell(slot).expose(EnvWord::EndRip, rip);
        self.board.cell(slot).expose(EnvWord::EndAddress, address);
    }

    /// Says that something has happened to an environment, wakes it, and lets the CPU know on
    /// which it runs.
    pub(crate) fn post(&mut self, slot: u16, event: Event) {
        let cell = self.board.cell(slot);
        cell.post(self.machine, event);
        self.here().wake(cell);
        if let Some(cpu) = cell.runs_on()
            && cpu != self.machine.cpu()
        {
            self.machine.kick(cpu);
        }
    }

    /// As [`Processor::deliver`], through the software TLB.
    pub(crate) fn deliver(&mut self, context: &mut Context, slot: u16) {
        let Some(event) = self.board.cell(slot).deliverable(self.machine) else { return };
        self.board.cell(slot).withdraw(self.machine, event.bit());
        let upcall = Upcall { cause: event.cause(), code: 0, address: 0 };
        if !self.push(context, slot, upcall) {
            self.note_end_place(slot, context.rip, context.rsp);
            self.destroy(slot, EndReason::UpcallStack, upcall.cause);
        }
    }

    /// As [`Processor::push`], where the hardware does not find the upcall stack yet, or a page ends in the
    /// middle of the frame: it then goes below. Says whether there was a stack to push the frame on; if
    /// not, nothing has changed.
    fn push(&mut self, frame: &mut Frame, slot: u16, upcall: Upcall) -> bool {
        let (machine, board) = (self.machine, self.board);
        let cell = board.cell(slot);
        let control = cell.control(machine);
        let Some(mut push) = cell.prepare(control, frame.rsp) else { return false };
        let over = push.place.wrapping_add(FRAME_SIZE) % PAGE_SIZE;
        if over < FRAME_SIZE {
            push.place = push.place.wrapping_sub(over);
        }
        push.place >= cell.control_word(machine, ControlWord::StackBase)
            && self.bindings.refill(slot, push.place, FaultCode::WRITE) == Refill::Done
            && self.here().push_at(frame, (cell, control), (upcall, push))
    }
}
