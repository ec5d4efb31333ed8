//! Lightweight remote procedure calls: the arguments lie on a stack that client and server share
//! (Bershad, Anderson, Lazowska, Levy, "Lightweight remote procedure call", 1990).
//!
//! The client writes its arguments where the server reads them, the server its results where the
//! client reads them, and nobody copies anything in between. What passes in registers is the number
//! of the procedure and a status. A page for the stack is what both have bound; how it came there
//! is not this module's business ([`child::share`](crate::child::share) is one way).
//!
//! Either side may change the stack at any time. So its words are read one by one, and what was
//! checked has to be what was read.

use crate::gate::{Answer, Failure, Request};
use crate::rpc;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::EnvName;
use exo_abi::name::PAGE_SIZE;

/// The words of an argument stack.
pub const STACK_WORDS: usize = PAGE_SIZE as usize / 8;

/// In the first word of an answer.
const DONE: u64 = 0;
const UNKNOWN: u64 = 1;

/// A page of words that two environments share.
#[derive(Clone, Copy, Debug)]
pub struct ArgumentStack {
    words: &'static [AtomicU64],
}

impl ArgumentStack {
    /// The stack in the page at this address.
    ///
    /// # Safety
    /// The page is bound, can be written, and stays so for ever; nothing else refers to it.
    pub unsafe fn at(page: u64) -> Self {
        // SAFETY: the caller's promise. Atomic words may change at any time.
        let words = unsafe { core::slice::from_raw_parts(page as *const AtomicU64, STACK_WORDS) };
        Self { words }
    }

    /// A word; 0 behind the end.
    pub fn get(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Relaxed))
    }

    /// Sets a word; nothing behind the end.
    pub fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.words.get(index) {
            word.store(value, Relaxed);
        }
    }
}

/// Why a procedure was not called, or did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LrpcError {
    /// The server has no such procedure, or no stack of this client.
    Unknown,
    /// The call failed.
    Failed(Failure),
}

/// What a client needs for its calls.
#[derive(Debug)]
pub struct Binding {
    server: EnvName,
    /// The arguments before a call, the results after it.
    pub stack: ArgumentStack,
}

impl Binding {
    /// A binding to a server that has this stack too.
    pub fn new(server: EnvName, stack: ArgumentStack) -> Self {
        Self { server, stack }
    }

    /// Calls a procedure by its number, and waits for its value until a time.
    ///
    /// # Errors
    /// [`LrpcError`].
    pub fn call(&mut self, procedure: u64, until: u64) -> Result<u64, LrpcError> {
        let words = [procedure, 0, 0, 0, 0, 0];
        match rpc::call_lean(self.server, words, until) {
            Ok([DONE, value, ..]) => Ok(value),
            Ok(_) => Err(LrpcError::Unknown),
            Err(failure) => Err(LrpcError::Failed(failure)),
        }
    }
}

/// A procedure: gets the arguments, leaves the results, and returns its value.
pub type Procedure = fn(&ArgumentStack) -> u64;

/// What a server offers to one client.
#[derive(Debug)]
pub struct Interface<'a> {
    /// The client.
    pub client: EnvName,
    /// The stack that they share.
    pub stack: ArgumentStack,
    /// The procedures, by number.
    pub procedures: &'a [Procedure],
}

impl Interface<'_> {
    /// Answers a request, if it comes from the client. A part of what a server gives to
    /// [`gate::serve`](crate::gate::serve).
    pub fn dispatch(&self, request: &mut Request) -> Answer {
        let number = request.message.words[0];
        let procedure = usize::try_from(number).ok().and_then(|index| self.procedures.get(index));
        let (status, value) = match procedure {
            Some(procedure) if request.caller() == self.client => (DONE, procedure(&self.stack)),
            _ => (UNKNOWN, 0),
        };
        request.message.words[..2].copy_from_slice(&[status, value]);
        Answer::Now
    }
}
