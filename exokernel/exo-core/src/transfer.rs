//! Protected control transfer: from one environment straight into another.
//!
//! The caller's registers stay where they are. The callee gets the rest of the slice and goes on
//! behind the call by which it rests, with the stack pointer that it stopped with, so that what it
//! was doing is still on its stack. Nothing is buffered: a callee that is not at rest refuses.
//!
//! Who may enter is a part of the rest itself, and nobody can change it before the rest ends: the
//! keeper is in the cell, which only who has the claim writes, and each rest writes it anew.

use crate::board::{EnvCell, GENERATION};
use crate::context::Frame;
use crate::machine::Machine;
use crate::processor::Processor;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::calls::{ENTERED, TransferMode};
use exo_abi::tables::{EnvState, EnvWord, StatisticsWord};
use exo_abi::{EnvName, Error};

const ASYNCHRONOUS: u64 = TransferMode::Asynchronous as u64;
const SYNCHRONOUS: u64 = TransferMode::Synchronous as u64;
const REPLY: u64 = TransferMode::Reply as u64;

impl<M: Machine> Processor<'_, M> {
    /// Transfers control from who runs on this CPU, by the target, the mode and the time in its
    /// registers. Afterwards `frame` is the callee's; the registers that are not in it pass.
    pub(crate) fn transfer(&self, from: &EnvCell<'_>, frame: &mut Frame) -> Result<(), Error> {
        let (target, mode, until) = (EnvName(frame.rdi), frame.rsi, frame.rdx);
        if mode > REPLY {
            return Err(Error::BadArgument);
        }
        let name = from.name();
        if self.shuts_out(target, name) {
            return Err(Error::GateClosed);
        }
        let (to, was) = self.claim_at_rest(target)?;
        if !to.lets_in(name) {
            match was {
                // If its time has come meanwhile, it wakes with the next tick.
                EnvState::Asleep => self.let_sleep(to),
                _ => {
                    self.release(to, was);
                    self.offer(to);
                }
            }
            return Err(Error::GateClosed);
        }
        from.rest(frame, frame.r10);
        self.leave_cell(from, self.machine.now());
        if mode == ASYNCHRONOUS {
            self.release(from, EnvState::Runnable);
            self.offer(from);
        } else {
            from.heir.store(if mode == SYNCHRONOUS { target.0 } else { 0 }, Relaxed);
            from.wake_at.store(until, Relaxed);
            self.release_asleep(from);
        }
        from.count(EnvWord::Transfers, 1);
        self.cpu.count(StatisticsWord::Transfers, 1);
        self.enter(to, target.index() as u16);
        (frame.rax, frame.rdi) = (ENTERED, name.0);
        (frame.rip, frame.rsp) = (to.rip.load(Relaxed), to.rsp.load(Relaxed));
        frame.rflags = to.rflags.load(Relaxed);
        (frame.rcx, frame.r11) = (frame.rip, frame.rflags);
        Ok(())
    }

    /// Does what the short way has left to do of a transfer: the caller, who may run elsewhere by
    /// now, has been released.
    pub fn settle(&self, from: &EnvCell<'_>, mode: u64, until: u64) {
        if mode == ASYNCHRONOUS {
            self.offer(from);
        } else {
            self.settle_sleeper(from, until);
        }
    }

    /// Whether an environment is at rest and does not let in who has this name, without a claim: one
    /// that is of no use might be what a CPU meets that has a slice for the environment.
    fn shuts_out(&self, target: EnvName, name: EnvName) -> bool {
        let Some(cell) = self.board.cells.get(target.index()) else { return false };
        let state = cell.state_word() ^ (target.0 & GENERATION);
        let rests = [EnvState::Asleep as u64, EnvState::Runnable as u64].contains(&state);
        rests && !cell.lets_in(name)
    }

    /// Claims an environment that has stopped of its own will; says what state it was in.
    fn claim_at_rest(&self, target: EnvName) -> Result<(&EnvCell<'_>, EnvState), Error> {
        if let Ok(cell) = self.claim(target, EnvState::Asleep) {
            return Ok((cell, EnvState::Asleep));
        }
        let claimed = self.claim(target, EnvState::Runnable);
        let cell = claimed.map_err(|word| self.refusal(target, word))?;
        Ok((cell, EnvState::Runnable))
    }

    /// Why an environment with this state word, or none, cannot be entered.
    pub(crate) fn refusal(&self, name: EnvName, word: Option<u64>) -> Error {
        let Some(word) = word else { return Error::NoEnvironment };
        if let Err(error) = name.check(self.board.cells[name.index()].name().generation()) {
            return error;
        }
        match EnvState::from_number(word) {
            None | Some(EnvState::Free) => Error::StaleEnvironment,
            Some(EnvState::Ended) => Error::WrongState,
            _ => Error::NotRunnable,
        }
    }
}
