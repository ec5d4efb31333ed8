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

/// A handler of packets at their arrival. It sees the packet, a page of its owner's memory, and a
/// reply that is empty at first; and which filter the packet has matched. Its result is 0, or
/// [`KEEP`], [`QUIET`], or both: so it is also the predicate that says when its owner is to wake.
///
/// `uint64_t handler(const uint8_t *packet, uint64_t length, uint8_t *state, uint8_t *reply,
/// uint64_t filter)`
///
/// - 1, `uint64_t take(const uint8_t *from, uint64_t length)`: appends bytes of the packet to the
///   reply, which may be as long as a packet. Returns its length; nothing happens if not all find
///   room.
/// - 2, `uint64_t copy(const uint8_t *from, uint64_t length, uint8_t *to)`: copies bytes of the packet
///   into the state. Returns their Internet checksum's sum (16 bits, not inverted), or, if not all
///   find room, all bits set and nothing was copied.
/// - 3, `uint64_t reply(uint64_t length)`: so many bytes of the reply, as it is at the exit, are sent
///   then. Returns 1, or 0 if there are not so many or it is no packet. If its owner could not send
///   them, it is as if the program had been ended early.
pub const HANDLER: Profile<'static> = Profile {
    arguments: [
        Argument::Pointer(0),
        Argument::Length(0),
        Argument::Pointer(1),
        Argument::Pointer(2),
        Argument::Number,
    ],
    regions: &[
        Region { minimum: 14, maximum: 1514, writable: false },
        Region { minimum: 4096, maximum: 4096, writable: true },
        Region { minimum: 0, maximum: 1514, writable: true },
    ],
    helpers: &[
        None,
        helper("take", [Argument::Pointer(0), Argument::Number, Argument::Nothing], 200),
        helper("copy", [Argument::Pointer(0), Argument::Number, Argument::Pointer(1)], 1000),
        helper("reply", [Argument::Number, Argument::Nothing, Argument::Nothing], 1000),
    ],
    loops: true,
};

/// In the result of a [`HANDLER`]: the packet is not put into the ring.
pub const KEEP: u64 = 1;

/// In the result of a [`HANDLER`]: its owner is not told of the packet, and sleeps on.
pub const QUIET: u64 = 2;

const fn helper(name: &'static str, [a, b, c]: [Argument; 3], cost: u32) -> Option<Helper> {
    Some(Helper { name, arguments: [a, b, c, Argument::Nothing, Argument::Nothing], cost })
}
