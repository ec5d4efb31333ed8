//! Profiles of programs that the kernel does not run yet: the verifier and the compiler are the same.

use packet_filters::ebpf::{Argument, Profile, Region};

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
