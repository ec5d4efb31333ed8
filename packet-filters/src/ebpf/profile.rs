//! What a program is given: its arguments, the memory it may reach, the functions it may call.

/// The most regions that a profile can have.
pub const MAX_REGIONS: usize = 4;

/// The most helpers that a profile can have.
pub const MAX_HELPERS: usize = 16;

/// The world of a kind of programs, as data.
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    /// What is in registers 1 to 5 at the start.
    pub arguments: [Argument; 5],
    /// The memory beside the stack; at most [`MAX_REGIONS`]. The first is reached the fastest.
    pub regions: &'a [Region],
    /// The helpers by number, at most [`MAX_HELPERS`]; there may be gaps.
    pub helpers: &'a [Option<Helper>],
    /// Whether jumps and calls may go back. They burn fuel then.
    pub loops: bool,
}

/// A piece of memory. Its length may be fixed or vary from run to run; it may grow during a run, in
/// a helper, and never shrinks.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The least bytes that it has.
    pub minimum: u32,
    /// The most bytes that it has, less than 2^31.
    pub maximum: u32,
    /// Whether programs may store to it. Its start is aligned to 8 bytes then.
    pub writable: bool,
}

/// What a register holds when a program starts, or has to hold when it calls a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// At the start: nothing. For a helper: it does not look.
    Nothing,
    /// A number.
    Number,
    /// A pointer into the region of this index; at the start, to its first byte.
    Pointer(u8),
    /// The length of the region of this index at the start of the run. For a helper: a number.
    Length(u8),
}

/// A function of the kernel's that programs may call.
#[derive(Clone, Copy, Debug)]
pub struct Helper {
    /// What it is called in tools.
    pub name: &'static str,
    /// What has to be in registers 1 to 5.
    pub arguments: [Argument; 5],
    /// What a call costs at most, in instructions.
    pub cost: u32,
}

/// A filter's part that could not be brought into the declarative form: it sees the packet and
/// says whether the filter matches (not zero) or not. A load past the end of the packet ends it, and
/// the packet does not match.
///
/// `bool residual(const uint8_t *packet, uint64_t length)`
pub const RESIDUAL: Profile<'static> = Profile {
    arguments: [
        Argument::Pointer(0),
        Argument::Length(0),
        Argument::Nothing,
        Argument::Nothing,
        Argument::Nothing,
    ],
    regions: &[Region { minimum: 0, maximum: 65535, writable: false }],
    helpers: &[],
    loops: false,
};

/// A condition under which a sleeping environment wakes. It sees the words that were declared with
/// it, as they are at one time, and the time.
///
/// `bool predicate(const uint64_t *words, uint64_t count, uint64_t now)`
pub const PREDICATE: Profile<'static> = Profile {
    arguments: [
        Argument::Pointer(0),
        Argument::Length(0),
        Argument::Number,
        Argument::Nothing,
        Argument::Nothing,
    ],
    regions: &[Region { minimum: 8, maximum: 64, writable: false }],
    helpers: &[],
    loops: false,
};
