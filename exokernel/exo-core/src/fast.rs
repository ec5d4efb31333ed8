//! The calls that take no lock: those that only concern who runs.

use crate::board::EnvCell;
use crate::context::Context;
use crate::machine::Machine;
use crate::processor::Processor;
use exo_abi::calls::Number;
use exo_abi::tables::{EnvWord, StatisticsWord};
use exo_abi::{Error, Registers, Rights};
use secure_bindings::{Protect, protect};

const NULL: u64 = Number::Null as u64;
const YIELD: u64 = Number::Yield as u64;
const SLEEP: u64 = Number::Sleep as u64;
const TRANSFER: u64 = Number::Transfer as u64;

impl Context {
    /// The registers of a call.
    pub(crate) fn call(&self) -> Registers {
        Registers {
            number: self.rax,
            arguments: [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9],
        }
    }

    /// Writes what a call has got.
    pub(crate) fn answer(&mut self, result: Result<u64, Error>) {
        (self.rax, self.rdx) = match result {
            Ok(value) => (0, value),
            Err(error) => (error as u64, 0),
        };
    }
}

impl<M: Machine> Processor<'_, M> {
    /// The program in `cell` has executed `syscall`. Returns whether that was a call that needs nothing, and has
    /// been made; if not, [`call`](Self::call) has to make it.
    #[inline]
    pub fn null(&self, cell: &EnvCell<'_>, context: &mut Context) -> bool {
        if context.rax != NULL || cell.was_posted() {
            return false;
        }
        self.count_call(cell);
        context.answer(Ok(cell.name().0));
        true
    }

    /// Counts a call of the program in `cell`.
    #[inline]
    pub fn count_call(&self, cell: &EnvCell<'_>) {
        self.cpu.count(StatisticsWord::Calls, 1);
        cell.count(EnvWord::Calls, 1);
    }

    /// Whether the program in `cell` can go on at once after a call that was made.
    pub fn goes_on(&self, cell: &EnvCell<'_>) -> bool {
        !cell.was_posted()
    }

    /// The program in `cell` has made the call that gives pages other rights. Returns whether they were
    /// its own, and have them; if not, nothing has changed.
    pub fn protect(&self, cell: &EnvCell<'_>, context: &mut Context) -> bool {
        if context.rdi != 0 {
            return false;
        }
        let rights = u16::try_from(context.r8).ok().and_then(Rights::from_bits);
        let Some(rights) = rights else { return false };
        let (page, count) = (context.rdx, context.r10);
        let Some(leaf) = cell.leaf(self.machine, page, self.board.breaks()) else { return false };
        match protect(self.machine, leaf, page, count, rights) {
            Protect::Locked => return false,
            Protect::Done => {}
            Protect::Narrowed => {
                if cell.remembers(page, count) {
                    self.machine.flush_space(cell.root());
                } else {
                    self.machine.forget(cell.root(), Some(page).filter(|_| count == 1));
                }
            }
        }
        self.count_call(cell);
        context.answer(Ok(0));
        true
    }

    /// The program in `cell` has executed `syscall` with these registers; `rcx` and `r11` of the context are
    /// not looked at. If the call gives the CPU up, its answer is in the caller's cell. Returns whether
    /// the call was made: if not, nothing has changed, and [`Kernel::call`](crate::Kernel::call) has to
    /// make it. If it was, [`Processor::leave`] says what is next.
    pub fn call(&self, cell: &EnvCell<'_>, context: &mut Context) -> bool {
        if context.rax != TRANSFER {
            self.count_call(cell);
        }
        let made = match context.rax {
            TRANSFER => self.transfer(cell, context),
            YIELD => self.give_way(context, cell),
            SLEEP => self.sleep(context, cell),
            _ => return false,
        };
        if let Err(error) = made {
            self.cpu.count(StatisticsWord::Refused, 1);
            context.answer(Err(error));
        }
        true
    }
}
