//! The calls: numbers, registers, errors and text, from one definition.
//!
//! A call is the `syscall` instruction with its number in `rax` and up to six arguments in `rdi`,
//! `rsi`, `rdx`, `r10`, `r8` and `r9`. It returns 0 or an [`Error`] number in `rax` and a value in
//! `rdx`; `rcx` and `r11` are lost, all other registers are kept. `yield`, `sleep` and `transfer`
//! keep `rsp` only, if they are not refused: whoever gives up the CPU saves what it needs.
//!
//! Whoever gives up the CPU by one of these three is *at rest*, and says with the same call who may
//! enter it meanwhile by a transfer of its own: the *keeper*, one environment,
//! [`ANYBODY`](EnvName::ANYBODY) or [`NONE`](EnvName::NONE). If it is entered, it goes on behind its
//! `syscall` as if the call had returned, with [`ENTERED`] in `rax` and what the other has passed in
//! the registers. It is entered once at most: behind the `syscall` it is at rest no more.

use crate::batch::BatchFlags;
use crate::contract::Kind;
use crate::error::Error;
use crate::name::EnvName;
use crate::rights::Rights;

/// The registers of a call: the number and the arguments, in the order of the module's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    /// `rax`.
    pub number: u64,
    /// `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
    pub arguments: [u64; 6],
}

/// The registers of the arguments, for documents.
pub const ARGUMENT_REGISTERS: [&str; 6] = ["rdi", "rsi", "rdx", "r10", "r8", "r9"];

/// What `rax` is, instead of 0 or an error's number, for whoever was entered while at rest.
pub const ENTERED: u64 = u64::MAX;

/// A value that a register carries.
trait Word: Copy {
    fn pack(self) -> u64;
    fn unpack(word: u64) -> Option<Self>;
}

impl Word for u64 {
    fn pack(self) -> u64 {
        self
    }
    fn unpack(word: u64) -> Option<Self> {
        Some(word)
    }
}

impl Word for u32 {
    fn pack(self) -> u64 {
        u64::from(self)
    }
    fn unpack(word: u64) -> Option<Self> {
        word.try_into().ok()
    }
}

impl Word for EnvName {
    fn pack(self) -> u64 {
        self.0
    }
    fn unpack(word: u64) -> Option<Self> {
        Some(Self(word))
    }
}

impl Word for Kind {
    fn pack(self) -> u64 {
        self as u64
    }
    fn unpack(word: u64) -> Option<Self> {
        Self::from_number(word)
    }
}

impl Word for Rights {
    fn pack(self) -> u64 {
        u64::from(self.bits())
    }
    fn unpack(word: u64) -> Option<Self> {
        Self::from_bits(word.try_into().ok()?)
    }
}

impl Word for BatchFlags {
    fn pack(self) -> u64 {
        self.bits()
    }
    fn unpack(word: u64) -> Option<Self> {
        Self::from_bits(word)
    }
}

/// What becomes of the caller of a control transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum TransferMode {
    /// It stays runnable.
    Asynchronous = 0,
    /// It sleeps, and its slices go to the target.
    Synchronous = 1,
    /// It sleeps, and its slices go to nobody.
    Reply = 2,
}

impl Word for TransferMode {
    fn pack(self) -> u64 {
        self as u64
    }
    fn unpack(word: u64) -> Option<Self> {
        match word {
            0 => Some(Self::Asynchronous),
            1 => Some(Self::Synchronous),
            2 => Some(Self::Reply),
            _ => None,
        }
    }
}

/// A call, for documents.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The number in `rax`.
    pub number: u64,
    /// The name.
    pub name: &'static str,
    /// What it does.
    pub text: &'static str,
    /// Its arguments: name and type.
    pub arguments: &'static [(&'static str, &'static str)],
    /// What `rdx` holds afterwards.
    pub value: &'static str,
    /// Why it may be refused.
    pub errors: &'static [Error],
}

/// Defines the calls.
macro_rules! calls {
    ($($(#[doc = $doc:literal])+
       $number:literal $name:ident($($argument:ident: $type:ty),*) -> $value:literal
       ! [$($error:ident),*];)+) => {
        /// A call with its arguments.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[expect(missing_docs, reason = "the text of each call explains its arguments")]
        pub enum Call {
            $($(#[doc = $doc])+ $name { $($argument: $type),* },)+
        }

        /// The calls' numbers.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        #[expect(missing_docs, reason = "each is the number of the call of that name")]
        pub enum Number {
            $($name = $number,)+
        }

        /// Every call, in the order of its number.
        pub const CALLS: &[Description] = &[$(Description {
            number: $number,
            name: stringify!($name),
            text: concat!($($doc, "\n"),+),
            arguments: &[$((stringify!($argument), stringify!($type))),*],
            value: $value,
            errors: &[$(Error::$error),*],
        },)+];

        impl Call {
            /// The call in its registers.
            #[inline]
            #[allow(unused_assignments, unused_mut, unused_variables)]
            pub fn pack(self) -> Registers {
                match self {
                    $(Call::$name { $($argument),* } => {
                        let mut arguments = [0; 6];
                        let mut next = 0;
                        $(arguments[next] = $argument.pack(); next += 1;)*
                        Registers { number: $number, arguments }
                    })+
                }
            }

            /// The call that is in the registers. Registers that it doesn't use are not looked at.
            ///
            /// # Errors
            /// [`Error::UnknownCall`] and [`Error::BadArgument`].
            #[inline]
            #[allow(unused_assignments, unused_mut, unused_variables)]
            pub fn unpack(registers: &Registers) -> Result<Self, Error> {
                match registers.number {
                    $($number => {
                        let mut words = registers.arguments.iter().copied();
                        Ok(Call::$name {
                            $($argument: <$type>::unpack(words.next().unwrap_or(0))
                                .ok_or(Error::BadArgument)?),*
                        })
                    })+
                    _ => Err(Error::UnknownCall),
                }
            }
        }
    };
}

calls! {
    /// Does nothing and says who is asking.
    0 Null() -> "the caller's name" ! [];

    /// Gives the rest of the slice to `target`, or with no name to whoever holds the next slice.
    /// Returns when the caller runs again. Meanwhile the keeper may enter. Who holds slices on other
    /// CPUs cannot be run here by it: it would not be there when they come.
    1 Yield(target: EnvName, keeper: EnvName) -> "nothing" ! [NoEnvironment, StaleEnvironment, WrongState, NotRunnable];

    /// Sleeps until an event is pending or the time (nanoseconds since boot) has come. Returns at
    /// once if either holds. Meanwhile the keeper may enter.
    2 Sleep(until: u64, keeper: EnvName) -> "nothing" ! [];

    /// Writes text to the console. Whole lines stay together, with the caller's label before each;
    /// text without a line end waits for it. Control characters are replaced.
    3 ConsoleWrite(address: u64, length: u64) -> "nothing" ! [BadAddress, NotBound, TooLong];

    /// Reads what has been typed, at most `length` bytes; does not wait. The capability needs
    /// `CONSOLE`. From now on the caller gets the console event.
    4 ConsoleRead(capability: u32, address: u64, length: u64) -> "the number of bytes"
        ! [NoCapability, NotDominated, BadAddress, NotBound, TooLong];

    /// Takes the frames in a list of four-byte numbers; `ANY` is replaced by the number of a free
    /// one. The frames' guard is the name of the capability in slot `capability`. All or none.
    /// A frame that is taken for the first time since it was freed is zero.
    5 FrameAllocate(list: u64, count: u64, capability: u32) -> "nothing"
        ! [BadAddress, NotBound, TooLong, NoCapability, NoFrame, FrameTaken, NoFreeFrames, OverLimit];

    /// Gives the frames in the list back, and breaks every binding to them. All or none.
    6 FrameFree(list: u64, count: u64) -> "nothing"
        ! [BadAddress, NotBound, TooLong, NoFrame, NotOwner, FramePinned, BadArgument];

    /// Makes the frames in the list those of another environment: they count against its limit,
    /// and its name's guard becomes theirs. Bindings stay. The capability needs `GRANT` over it.
    /// All or none.
    7 FrameTransfer(environment: EnvName, capability: u32, list: u64, count: u64) -> "nothing"
        ! [NoEnvironment, StaleEnvironment, WrongState, NoCapability, NotDominated, BadAddress,
           NotBound, TooLong, NoFrame, NotOwner, FramePinned, OverLimit, BadArgument];

    /// Binds pages to frames, from a list of bind requests, in the caller's or in another
    /// environment's address space (then `capability` needs `CONTROL` over it). Each request's own
    /// capability must dominate its frames' guards with the rights of the pages. A page that is
    /// bound is bound anew. No more than 1,024 pages. All or none.
    8 Bind(environment: EnvName, capability: u32, list: u64, count: u64) -> "nothing"
        ! [NoEnvironment, StaleEnvironment, WrongState, NoCapability, NotDominated, BadAddress,
           NotBound, TooLong, BadArgument, NoFrame, WriteExecute, DonationSpent, TlbFull];

    /// Unbinds `count` pages from the address `page` on; pages that are not bound are passed over.
    9 Unbind(environment: EnvName, capability: u32, page: u64, count: u64) -> "the number of pages that were bound"
        ! [NoEnvironment, StaleEnvironment, WrongState, NoCapability, NotDominated, BadAddress, TooLong];

    /// Gives `count` pages from the address `page` on new rights, none that their frames' bindings
    /// would not have been allowed: rights can be taken away and given back up to those with which
    /// the page was bound. All pages must be bound. All or none.
    10 Protect(environment: EnvName, capability: u32, page: u64, count: u64, rights: Rights) -> "nothing"
        ! [NoEnvironment, StaleEnvironment, WrongState, NoCapability, NotDominated, BadAddress,
           TooLong, BadArgument, PageNotBound, WriteExecute];

    /// Creates an environment from an environment request. Its parent is the caller; what its
    /// contract promises comes out of the caller's.
    11 EnvironmentCreate(request: u64) -> "the new environment's name"
        ! [BadAddress, NotBound, TooLong, BadArgument, NoCapability, NotDominated, NoFrame, NotOwner,
           FramePinned, TooFewFrames, OverLimit, BelowFloor, NoFreeEnvironments];

    /// Starts a created environment at `entry` with the stack pointer `stack` and `argument` in
    /// `rdi`. The capability needs `CONTROL`.
    12 EnvironmentStart(environment: EnvName, capability: u32, entry: u64, stack: u64, argument: u64) -> "nothing"
        ! [NoEnvironment, StaleEnvironment, WrongState, NoCapability, NotDominated, BadAddress];

    /// Ends an environment with a code: the caller itself (no name; does not return), or another
    /// for which the capability has `CONTROL`. All that it holds is free again, its limits go back
    /// to its parent, and its children become its parent's. For one that has ended already, its
    /// slot is freed.
    13 EnvironmentDestroy(environment: EnvName, capability: u32, code: u64) -> "nothing"
        ! [NoEnvironment, StaleEnvironment, NoCapability, NotDominated];

    /// Puts a capability (two words) in slot `destination` of an environment: the caller itself,
    /// or another for which the capability in slot `authority` has `GRANT`. It must be dominated
    /// by the caller's capability in slot `source`. One without rights empties the slot.
    14 CapabilityGrant(environment: EnvName, authority: u32, destination: u32, source: u32, low: u64, high: u64) -> "nothing"
        ! [NoEnvironment, StaleEnvironment, WrongState, NoCapability, NotDominated, BadArgument];

    /// Takes slice `position` of `cpu` for an environment: the caller (no name), or another for
    /// which the capability has `CONTROL`. `NOBODY` gives back a position that the caller holds, or
    /// that an environment holds over which the capability has `CONTROL`. With a position that it has
    /// just got, an environment owes a slice: it waits for a turn.
    15 Slice(cpu: u32, position: u32, environment: EnvName, capability: u32) -> "nothing"
        ! [NoSlice, SliceTaken, NoEnvironment, StaleEnvironment, WrongState, NoCapability,
           NotDominated, OverLimit];

    /// Asks an environment for `count` resources of a kind back: frames, slices, filters or rings. Its limit goes down and the
    /// caller's up by `count` at once; what it then holds above its limit is its debt, due when
    /// `wall` nanoseconds have passed or it has run for `own`, but never before the notice in its
    /// contract. The capability needs `REVOKE`.
    16 Revoke(environment: EnvName, capability: u32, kind: Kind, count: u64, own: u64, wall: u64) -> "the debt"
        ! [NoEnvironment, StaleEnvironment, WrongState, NoCapability, NotDominated, BadArgument,
           BelowFloor, BadKind];

    /// Gives `count` of the caller's limit of a kind to an environment. Needs no capability: it
    /// can only do good.
    17 Grant(environment: EnvName, kind: Kind, count: u64) -> "nothing"
        ! [NoEnvironment, StaleEnvironment, WrongState, BadArgument, OverLimit, BelowFloor];

    /// Says that the record of losses of a kind has been read up to `epoch`, the current one, and
    /// clears its bitmap.
    18 Acknowledge(kind: Kind, epoch: u64) -> "nothing" ! [BadArgument, StaleEpoch, BadKind];

    /// Makes a receive ring of frames that the caller holds: a list of four-byte numbers, the
    /// header page first. The frames are pinned until the ring is destroyed.
    19 RingCreate(list: u64, count: u64) -> "the ring's id"
        ! [BadAddress, NotBound, TooLong, BadArgument, NoFrame, NotOwner, FramePinned, OverLimit,
           NoFreeRings];

    /// Destroys a ring of the caller's, and the filters that lead to it.
    20 RingDestroy(ring: u32) -> "nothing" ! [NoRing];

    /// Installs an encoded filter that leads to one of the caller's rings. It must be contained in
    /// one of the caller's reservations. With `NO_RING` it is a reservation, for the caller or
    /// another environment; the capability then needs `NETWORK` with the root name. Filters and
    /// reservations of different environments must not overlap; the control page says which one does.
    /// An environment may bring 8 shapes, which are combinations of bits that filters look at. With
    /// `SEND_TEMPLATE` plus up to 7, and the same right, it is a template of packets that the
    /// environment may send, in the place of the one before; there is no id, and no limit counts it.
    /// Children begin with their parent's. With the same right, a filter of another environment's leads
    /// to one of its rings, reserved or not.
    21 FilterInstall(environment: EnvName, capability: u32, address: u64, length: u64, ring: u64) -> "the filter's id"
        ! [BadAddress, NotBound, TooLong, BadFilter, NoEnvironment, StaleEnvironment, WrongState,
           NoCapability, NotDominated, NoRing, NotReserved, FilterOverlaps, OverLimit, NoFreeFilters];

    /// Removes a filter or reservation of the caller's, or of anybody's if the capability has `NETWORK`
    /// with the root name.
    22 FilterRemove(filter: u32, capability: u32) -> "nothing" ! [NoFilter];

    /// Sends packets, from a list of send requests. The capability needs `NETWORK`, and each packet
    /// has to match a send template of the caller's. Stops at the first that cannot be sent; refused
    /// only if that is the first of all.
    23 Send(capability: u32, list: u64, count: u64) -> "the number of packets sent"
        ! [NoCapability, NotDominated, BadAddress, NotBound, TooLong, BadPacket, NotReserved, NoDevice,
           QueueFull];

    /// Donates frames of the caller to the kernel, for the caller's tables. All or none. What these can do
    /// without is taken by force when the caller owes frames, before what it has wired.
    24 Donate(list: u64, count: u64) -> "nothing"
        ! [BadAddress, NotBound, TooLong, NoFrame, NotOwner, FramePinned, BadArgument];

    /// Ends the machine with a code. The capability needs `MACHINE`.
    25 MachineExit(capability: u32, code: u64) -> "nothing" ! [NoCapability, NotDominated];

    /// Transfers control: the target goes on behind its own call on the rest of the caller's slice,
    /// with the stack pointer and the flags that it stopped with, `ENTERED` in `rax`, the caller's
    /// name in `rdi`, and in all other registers but `rcx` and `r11` what the caller has there. The
    /// target must be at rest, with the caller as its keeper. With mode 0 (`Asynchronous`) the caller
    /// stays runnable; with 1 (`Synchronous`) it sleeps as if by `sleep(until)`, and its slices go to
    /// the target as long as it does; with 2 (`Reply`) it sleeps and keeps its slices to itself.
    /// Meanwhile the keeper may enter. Returns 0 when the caller is woken and was not entered; if it
    /// waited for a target that ended, `StaleEnvironment`.
    26 Transfer(target: EnvName, mode: TransferMode, until: u64, keeper: EnvName) -> "nothing"
        ! [NoEnvironment, StaleEnvironment, WrongState, NotRunnable, GateClosed, BadArgument];

    /// Makes the calls in a list of batch entries, one after the other, and writes into each entry
    /// what it got. Stops at the first that is refused. With `ROLL_BACK` the calls made until then
    /// are undone, so that all or none are made, and the batch is refused with that call's error;
    /// every call of the list must be one that can be undone. Calls that give the CPU up, end an
    /// environment or are batches themselves cannot be in one.
    27 Batch(list: u64, count: u64, flags: BatchFlags) -> "the number of calls that were made"
        ! [BadAddress, NotBound, TooLong, BadArgument, NotInBatch];

    /// Gives a ring of the caller's a handler, in the place of the one before: an eBPF program that
    /// sees each packet before it is put into the ring. It reads and writes the frame `state`, which
    /// is the caller's and stays pinned, and may send if the capability has `NETWORK`. A program
    /// that is refused, or can cost more than a packet may, is `BadProgram`; the crate
    /// `packet-filters` says why. With length 0 the ring has no handler any more.
    28 HandlerInstall(ring: u32, capability: u32, address: u64, length: u64, state: u32) -> "nothing"
        ! [NoRing, BadAddress, NotBound, TooLong, NoFrame, NotOwner, FramePinned, BadProgram];

    /// Takes a name back. What the capability (two words) dominates goes, with everything that was
    /// made of it: the rights, from all capabilities below the name that anybody else holds; if
    /// `READ`, `WRITE` or `EXECUTE` is among them, also everybody else's bindings to the frames that
    /// the name or one below it guards. Those are looked for from frame `frame` on, a bounded number in
    /// a call. The caller's slot `source` must dominate the capability with `GRANT`.
    29 CapabilityRevoke(source: u32, low: u64, high: u64, frame: u64) -> "the frame to go on with, 0 at the end"
        ! [NoCapability, NotDominated, BadArgument];

    /// Says that words of a frame have changed: if one of the predicates there holds, the environment
    /// whose frame it is gets the predicate event, and is woken. The capability must be one with which
    /// the caller could write to the frame.
    30 Notify(frame: u32, capability: u32) -> "1 if a predicate holds, else 0"
        ! [NoCapability, NotDominated, NoFrame];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_few() {
        for (index, call) in CALLS.iter().enumerate() {
            assert_eq!(call.number as usize, index, "{}", call.name);
            assert!(call.arguments.len() <= ARGUMENT_REGISTERS.len(), "{}", call.name);
        }
        assert!(CALLS.len() <= 32, "the budget of calls");
    }

    #[test]
    fn every_call_survives_its_registers() {
        for call in CALLS {
            let registers = Registers { number: call.number, arguments: [1, 2, 1, 4, 5, 6] };
            let unpacked = Call::unpack(&registers).unwrap();
            let packed = unpacked.pack();
            assert_eq!(packed.number, call.number);
            for index in 0..6 {
                let given = registers.arguments[index];
                let expected = if index < call.arguments.len() { given } else { 0 };
                assert_eq!(packed.arguments[index], expected, "{}", call.name);
            }
            assert_eq!(Call::unpack(&packed), Ok(unpacked));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut registers = Registers { number: 999, arguments: [0; 6] };
        assert_eq!(Call::unpack(&registers), Err(Error::UnknownCall));
        registers = Registers { number: 18, arguments: [99, 0, 0, 0, 0, 0] };
        assert_eq!(Call::unpack(&registers), Err(Error::BadArgument));
    }
}
