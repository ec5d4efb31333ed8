//! Why a program is refused.

use core::fmt;

/// Why a program was refused, and at which slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The slot, counted from 0; for [`Reason::Length`], how many whole slots there are.
    pub at: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// Each reason with its text, which is its documentation too.
macro_rules! reasons {
    ($($name:ident: $text:literal,)*) => {
        /// What is wrong with a program.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $(#[doc = $text] $name,)*
        }

        impl fmt::Display for Reason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Reason::$name => $text,)*
                })
            }
        }
    };
}

reasons! {
    Length: "the program is empty, too long, or no whole number of slots",
    UnknownOpcode: "unknown instruction",
    FunctionCall: "only helpers can be called, by number: functions have to be inlined",
    Atomic: "atomic operations are not supported",
    LegacyPacket: "the legacy way to read packets is not supported",
    MapReference: "there are no maps, variables or addresses",
    WideCut: "the second half of the constant is missing",
    ReservedField: "a field that is not used is not zero, or has no such value",
    NoRegister: "there are registers 0 to 10",
    FrameWritten: "r10 can't be written",
    JumpOutside: "jumps out of the program",
    JumpIntoWide: "jumps into the middle of a constant",
    EndReached: "runs over the end of the program",
    UnsetRegister: "reads a register that may hold nothing, or different kinds of values, here",
    UnsetStack: "reads a part of the stack that may hold nothing, or a part of a pointer",
    NotAPointer: "the access is not through a pointer",
    PointerArithmetic: "pointers can be moved by numbers, and subtracted and compared in one region",
    PointerStored: "a pointer may be stored only on the stack, whole, at a known place",
    PointerReturned: "the result has to be a number",
    PointerOverwritten: "may overwrite a pointer on the stack, at a place that is not known",
    ReadOnly: "the region can't be written",
    OutOfBounds: "the access is always out of bounds",
    NoHelper: "there is no such helper",
    WrongArgument: "an argument is not what the helper wants",
    Loop: "goes back, and there may be no loops",
    TooManyTargets: "too many places are jumped to",
    TooTangled: "what registers hold changes with every pass over the program",
    TooCostly: "too much may happen on one way through the program",
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}: {}", self.at, self.reason)
    }
}

impl core::error::Error for Refusal {}
