//! Refusals in words, for people.

use std::fmt;

use packet_filters::ebpf::{Reason, Refusal};

/// A refusal that says in words what is wrong, and where.
#[derive(Clone, Copy, Debug)]
pub struct Explained(pub Refusal);

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}: {}", self.0.at, explain(self.0.reason))
    }
}

impl std::error::Error for Explained {}

/// What is wrong with a program.
pub const fn explain(reason: Reason) -> &'static str {
    match reason {
        Reason::Length => "the program is empty, too long, or no whole number of slots",
        Reason::UnknownOpcode => "unknown instruction",
        Reason::FunctionCall => {
            "only helpers can be called, by number: functions have to be inlined"
        }
        Reason::Atomic => "atomic operations are not supported",
        Reason::LegacyPacket => "the legacy way to read packets is not supported",
        Reason::MapReference => "there are no maps, variables or addresses",
        Reason::WideCut => "the second half of the constant is missing",
        Reason::ReservedField => "a field that is not used is not zero, or has no such value",
        Reason::NoRegister => "there are registers 0 to 10",
        Reason::FrameWritten => "r10 can't be written",
        Reason::JumpOutside => "jumps out of the program",
        Reason::JumpIntoWide => "jumps into the middle of a constant",
        Reason::EndReached => "runs over the end of the program",
        Reason::UnsetRegister => {
            "reads a register that may hold nothing, or different kinds of values, here"
        }
        Reason::UnsetStack => {
            "reads a part of the stack that may hold nothing, or a part of a pointer"
        }
        Reason::NotAPointer => "the access is not through a pointer",
        Reason::PointerArithmetic => {
            "pointers can be moved by numbers, and subtracted and compared in one region"
        }
        Reason::PointerStored => {
            "a pointer may be stored only on the stack, whole, at a known place"
        }
        Reason::PointerReturned => "the result has to be a number",
        Reason::PointerOverwritten => {
            "may overwrite a pointer on the stack, at a place that is not known"
        }
        Reason::ReadOnly => "the region can't be written",
        Reason::OutOfBounds => "the access is always out of bounds",
        Reason::NoHelper => "there is no such helper",
        Reason::WrongArgument => "an argument is not what the helper wants",
        Reason::Loop => "goes back, and there may be no loops",
        Reason::TooManyTargets => "too many places are jumped to",
        Reason::TooTangled => "what registers hold changes with every pass over the program",
        Reason::TooCostly => "too much may happen on one way through the program",
    }
}
