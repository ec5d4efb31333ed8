//! Why a program is refused. People are told in other words, by the crate `ebpf-tools`.

/// Why a program was refused, and at which slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The slot, counted from 0; for [`Reason::Length`], how many whole slots there are.
    pub at: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The program is empty, longer than [`MAX_SLOTS`](super::MAX_SLOTS), or no whole number of slots.
    Length,
    /// No instruction of the RFC.
    UnknownOpcode,
    /// A call of something else than a helper.
    FunctionCall,
    /// An atomic operation.
    Atomic,
    /// An access to the packet as classic BPF has it.
    LegacyPacket,
    /// A constant that stands for something of a loader: a map, a variable.
    MapReference,
    /// A constant of 64 bits without its second slot.
    WideCut,
    /// A field that the encoding does not use is not zero, or it has no such value.
    ReservedField,
    /// A register above 10.
    NoRegister,
    /// A write to register 10.
    FrameWritten,
    /// A jump out of the program.
    JumpOutside,
    /// A jump to the second slot of a constant.
    JumpIntoWide,
    /// Control goes on behind the last slot.
    EndReached,
    /// A register that, on one way at least, holds nothing or another kind of value.
    UnsetRegister,
    /// A part of the stack that may hold nothing, or only a part of a pointer.
    UnsetStack,
    /// An access through a number.
    NotAPointer,
    /// A pointer where only numbers make sense, or two of different regions.
    PointerArithmetic,
    /// A pointer stored elsewhere than whole on the stack, at a known place.
    PointerStored,
    /// A pointer as the result.
    PointerReturned,
    /// A store to a place on the stack that is not known, where a pointer may be.
    PointerOverwritten,
    /// A store to a region that programs may not change.
    ReadOnly,
    /// An access that is outside of its region each time.
    OutOfBounds,
    /// A helper that the profile does not have.
    NoHelper,
    /// An argument of another kind than the helper wants.
    WrongArgument,
    /// A jump back, where the profile has no loops.
    Loop,
    /// More than [`MAX_TARGETS`](super::MAX_TARGETS) places that are jumped to.
    TooManyTargets,
    /// What registers hold still changes after the last pass that is made.
    TooTangled,
    /// One way has more instructions than can be counted.
    TooCostly,
}
