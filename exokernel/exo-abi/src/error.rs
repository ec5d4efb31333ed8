//! Why a call was refused.

/// Defines the errors with their numbers and texts.
macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+) => {
        /// Why a call was refused. A refused call has changed nothing.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum Error {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Error {
            /// Every error, in the order of its number.
            pub const ALL: &'static [(Error, &'static str, &'static str)] =
                &[$((Error::$name, stringify!($name), concat!($($doc),+)),)+];

            /// The error with this number; numbers start at 1.
            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Error::$name),)+
                    _ => None,
                }
            }
        }
    };
}

errors! {
    /// There is no call with this number.
    UnknownCall = 1,
    /// An argument has a value that the call does not know.
    BadArgument = 2,
    /// An address is not in the part of memory that programs may use, or not aligned.
    BadAddress = 3,
    /// Memory that the call should read or write is not bound, or not with the right it takes.
    NotBound = 4,
    /// The list is longer than one call takes.
    TooLong = 5,
    /// The capability slot is empty or beyond the last.
    NoCapability = 6,
    /// The capability presented does not dominate what the call touches.
    NotDominated = 7,
    /// There is no such environment.
    NoEnvironment = 8,
    /// The environment that had this name has ended.
    StaleEnvironment = 9,
    /// The environment is in a state in which the call makes no sense.
    WrongState = 10,
    /// The frame number is beyond the machine's memory, or the frame is the kernel's.
    NoFrame = 11,
    /// The frame asked for is taken.
    FrameTaken = 12,
    /// No frame is free.
    NoFreeFrames = 13,
    /// The frame is not the caller's.
    NotOwner = 14,
    /// The frame is pinned by a ring, or is the kernel memory of an environment.
    FramePinned = 15,
    /// The contract does not allow more of this kind.
    OverLimit = 16,
    /// The contract's floor would be broken.
    BelowFloor = 17,
    /// The environment's donated memory is spent: donate frames and call again.
    DonationSpent = 18,
    /// The software TLB has no place left that isn't wired.
    TlbFull = 19,
    /// A page may be writable or executable, not both.
    WriteExecute = 20,
    /// The page is not bound.
    PageNotBound = 21,
    /// The slice position does not exist.
    NoSlice = 22,
    /// The slice position belongs to somebody else.
    SliceTaken = 23,
    /// There is no environment slot left.
    NoFreeEnvironments = 24,
    /// The epoch acknowledged is not the current one: read the record again.
    StaleEpoch = 25,
    /// The bytes are not a filter.
    BadFilter = 26,
    /// The filter overlaps one of somebody else's.
    FilterOverlaps = 27,
    /// The filter is not contained in a reservation of the caller's.
    NotReserved = 28,
    /// There is no such filter, or it is not the caller's.
    NoFilter = 29,
    /// There is no place for another filter.
    NoFreeFilters = 30,
    /// There is no such ring, or it is not the caller's.
    NoRing = 31,
    /// There is no place for another ring.
    NoFreeRings = 32,
    /// The machine has no such device.
    NoDevice = 33,
    /// The device's queue is full: try again after the next event.
    QueueFull = 34,
    /// The packet is shorter or longer than the link carries.
    BadPacket = 35,
    /// The target cannot run here now: it is asleep, not started, running elsewhere, or has slices
    /// elsewhere.
    NotRunnable = 36,
    /// The kind of resource does not take part in this call.
    BadKind = 37,
    /// The donated memory is less than the environment needs at least.
    TooFewFrames = 38,
    /// The target is at rest, but the caller is not its keeper.
    GateClosed = 39,
    /// The batch names a call that cannot be part of one, or that cannot be undone.
    NotInBatch = 40,
    /// The program is not one, does what it may not, or can cost too much.
    BadProgram = 41,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_are_dense() {
        for (index, &(error, _, text)) in Error::ALL.iter().enumerate() {
            assert_eq!(error as usize, index + 1);
            assert_eq!(Error::from_number(error as u64), Some(error));
            assert!(!text.trim().is_empty());
        }
        assert_eq!(Error::from_number(0), None);
    }
}
