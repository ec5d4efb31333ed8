//! The kernel's tables, as every environment can read them.
//!
//! Counters and owners change while they are read: a reader that needs two words to agree reads
//! them again. Names carry generations, so that a slot that was reused in between is noticed.

use crate::layout::LABEL;

/// Where a table is, and its shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct TableReference {
    /// The address of the first entry.
    pub address: u64,
    /// The number of entries.
    pub count: u64,
    /// The size of an entry in bytes.
    pub entry_size: u64,
}

/// `"exokern1"` in the first word of the [`SystemPage`].
pub const SYSTEM_MAGIC: u64 = u64::from_le_bytes(*b"exokern1");
/// The version of the calls and layouts.
pub const VERSION: u64 = 1;

/// The first page of the common tables, at [`layout::SYSTEM`](crate::layout::SYSTEM).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SystemPage {
    /// [`SYSTEM_MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u64,
    /// The time in nanoseconds since boot, as of the last tick.
    pub time: u64,
    /// The time stamp counter's ticks per second.
    pub tsc_frequency: u64,
    /// The time stamp counter at boot: `(rdtsc - tsc_boot) * 10^9 / tsc_frequency` is the time.
    pub tsc_boot: u64,
    /// The length of a slice in nanoseconds.
    pub slice: u64,
    /// The number of CPUs that run.
    pub cpus: u64,
    /// The slice positions of each CPU.
    pub positions: u64,
    /// The frames of the machine, the kernel's included.
    pub frames_total: u64,
    /// The frames that nobody holds.
    pub frames_free: u64,
    /// The frames that an environment must be given for itself, at least: see
    /// [`EnvironmentRequest::donation`](crate::request::EnvironmentRequest).
    pub donation_minimum: u64,
    /// The link address of the network device in the low six bytes, first byte lowest; 0: none.
    pub link_address: u64,
    /// The kernel's counters, [`Statistics`], an entry for each CPU.
    pub statistics: TableReference,
    /// The environments, [`EnvEntry`], indexed by slot.
    pub environments: TableReference,
    /// The slices, [`SliceEntry`], `positions` for each CPU in turn.
    pub slices: TableReference,
    /// The filters, [`FilterEntry`], indexed by id.
    pub filters: TableReference,
    /// The rings, [`RingEntry`], indexed by id.
    pub rings: TableReference,
    /// The latest moves of resources, [`Move`]: number `n` is in entry `n % count`.
    pub moves: TableReference,
    /// The frames, [`FrameEntry`], indexed by number.
    pub frames: TableReference,
    /// How many moves there have been so far.
    pub moves_count: u64,
}

/// The words of a [`SystemPage`].
pub const SYSTEM_WORDS: usize = 34;

/// The word of a field in a [`SystemPage`]; of a table, the first of three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
#[expect(missing_docs, reason = "each is the word of the field of that name")]
pub enum SystemWord {
    Magic = 0,
    Version,
    Time,
    TscFrequency,
    TscBoot,
    Slice,
    Cpus,
    Positions,
    FramesTotal,
    FramesFree,
    DonationMinimum,
    LinkAddress,
    Statistics = 12,
    Environments = 15,
    Slices = 18,
    Filters = 21,
    Rings = 24,
    Moves = 27,
    Frames = 30,
    MovesCount = 33,
}

/// A move of resources by the abort protocol: five words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Move {
    /// When, in nanoseconds since boot.
    pub time: u64,
    /// The name of the environment that it happened to.
    pub victim: u64,
    /// The name of who asked last, or who gave.
    pub other: u64,
    /// The [`Cause`] in bits 0 to 7, the [`Kind`](crate::Kind) in bits 8 to 15.
    pub what: u64,
    /// How many; of what was repossessed, the name as in a [`Loss`](crate::contract::Loss).
    pub count: u64,
}

/// The words of a [`Move`].
pub const MOVE_WORDS: usize = 5;
/// How many moves are kept.
pub const MOVES: usize = 1024;

/// Why resources move.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u64)]
pub enum Cause {
    /// The victim was asked for as many.
    Asked = 0,
    /// It gave as many back that it owed.
    Surrendered = 1,
    /// The kernel took one by force.
    Repossessed = 2,
    /// It was given the right to hold as many more.
    Granted = 3,
}

impl Move {
    /// Why it moved.
    pub const fn cause(&self) -> Option<Cause> {
        match self.what & 0xff {
            0 => Some(Cause::Asked),
            1 => Some(Cause::Surrendered),
            2 => Some(Cause::Repossessed),
            3 => Some(Cause::Granted),
            _ => None,
        }
    }

    /// What moved.
    pub const fn kind(&self) -> Option<crate::Kind> {
        crate::Kind::from_number(self.what >> 8 & 0xff)
    }
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FrameState {
    /// Not memory, or not for programs: the kernel's own, devices, holes.
    Reserved = 0,
    /// Nobody holds it.
    Free = 1,
    /// An environment holds it.
    Held = 2,
    /// An environment holds it and has donated it to the kernel for its own tables.
    Donated = 3,
}

impl FrameState {
    /// The state with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Reserved),
            1 => Some(Self::Free),
            2 => Some(Self::Held),
            3 => Some(Self::Donated),
            _ => None,
        }
    }
}

/// A frame, as everybody sees it: two words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FrameEntry {
    /// The slot of the environment that holds it.
    pub owner: u16,
    /// The [`FrameState`].
    pub state: u8,
    /// Not zero: a ring or a device uses it.
    pub pins: u8,
    /// Goes up whenever the frame is freed or repossessed.
    pub generation: u32,
    /// How many bindings there are to it.
    pub bindings: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

impl FrameEntry {
    /// The entry as two words.
    pub const fn to_words(self) -> [u64; 2] {
        [
            self.owner as u64
                | (self.state as u64) << 16
                | (self.pins as u64) << 24
                | (self.generation as u64) << 32,
            self.bindings as u64,
        ]
    }

    /// The entry from its two words.
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self {
            owner: words[0] as u16,
            state: (words[0] >> 16) as u8,
            pins: (words[0] >> 24) as u8,
            generation: (words[0] >> 32) as u32,
            bindings: words[1] as u32,
            reserved: 0,
        }
    }
}

/// What an environment is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u64)]
pub enum EnvState {
    /// The slot is free.
    Free = 0,
    /// Created, not started.
    Created = 1,
    /// It can run, and has stopped of its own will: the kernel keeps its stack pointer.
    Runnable = 2,
    /// It runs on a CPU.
    Running = 3,
    /// It waits for an event or a time.
    Asleep = 4,
    /// It has ended; its parent has not yet taken note.
    Ended = 5,
    /// It can run, and was stopped by force: the kernel keeps all its registers.
    Preempted = 6,
}

impl EnvState {
    /// The state in the word [`EnvEntry::state`].
    pub const fn from_number(word: u64) -> Option<Self> {
        match word & 0xff {
            0 => Some(Self::Free),
            1 => Some(Self::Created),
            2 => Some(Self::Runnable),
            3 => Some(Self::Running),
            4 => Some(Self::Asleep),
            5 => Some(Self::Ended),
            6 => Some(Self::Preempted),
            _ => None,
        }
    }
}

/// Why an environment ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u64)]
pub enum EndReason {
    /// It ended itself; the code is its own.
    Exited = 0,
    /// Somebody with the capability ended it; the code is theirs.
    Destroyed = 1,
    /// An exception without a handler; the code is the vector.
    Exception = 2,
    /// An upcall found no stack to push its frame on; the code is the cause of the upcall.
    UpcallStack = 3,
    /// It overran its slices past the threshold.
    Overrun = 4,
}

impl EndReason {
    /// The reason with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Exited),
            1 => Some(Self::Destroyed),
            2 => Some(Self::Exception),
            3 => Some(Self::UpcallStack),
            4 => Some(Self::Overrun),
            _ => None,
        }
    }
}

/// An environment, as everybody sees it. All fields are words; [`EnvWord`] numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct EnvEntry {
    /// The [`EnvName`](crate::EnvName).
    pub name: u64,
    /// Its parent's name.
    pub parent: u64,
    /// The [`EnvState`] in bits 0 to 7; while it runs, the number of the CPU in bits 8 to 15. Bit
    /// 16: it is being ended. Bits 32 to 63: the generation of its name.
    pub state: u64,
    /// When it has ended: the [`EndReason`].
    pub end_reason: u64,
    /// When it has ended: the code that goes with the reason.
    pub end_code: u64,
    /// When it ended by an exception: the instruction's address.
    pub end_rip: u64,
    /// When it ended by an exception: the address that faulted.
    pub end_address: u64,
    /// Run time in nanoseconds.
    pub run_time: u64,
    /// Calls made, but for control transfers.
    pub calls: u64,
    /// Upcalls received.
    pub upcalls: u64,
    /// Exceptions caused, page faults included.
    pub exceptions: u64,
    /// Hardware page-table misses that the software TLB answered.
    pub refills: u64,
    /// Nanoseconds of slices overrun.
    pub excess: u64,
    /// Frames held, donated ones included.
    pub frames: u64,
    /// The limit of frames.
    pub frames_limit: u64,
    /// The floor of frames.
    pub frames_floor: u64,
    /// Frames donated to the kernel.
    pub frames_donated: u64,
    /// Slices held.
    pub slices: u64,
    /// Filters held, reservations included.
    pub filters: u64,
    /// Rings held.
    pub rings: u64,
    /// How often it was asked for something.
    pub asks: u64,
    /// What it gave back when asked, all kinds together.
    pub surrendered: u64,
    /// What was taken by force, all kinds together.
    pub repossessed: u64,
    /// Control transfers made.
    pub transfers: u64,
    /// What it has to give back, all kinds together.
    pub debt: u64,
    /// What the creator called it, filled up with zeros.
    pub label: [u8; LABEL],
}

/// The words of an [`EnvEntry`].
pub const ENV_WORDS: usize = 27;

/// The word of a field in an [`EnvEntry`], as the kernel writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
#[expect(missing_docs, reason = "each is the word of the field of that name")]
pub enum EnvWord {
    Name,
    Parent,
    State,
    EndReason,
    EndCode,
    EndRip,
    EndAddress,
    RunTime,
    Calls,
    Upcalls,
    Exceptions,
    Refills,
    Excess,
    Frames,
    FramesLimit,
    FramesFloor,
    FramesDonated,
    Slices,
    Filters,
    Rings,
    Asks,
    Surrendered,
    Repossessed,
    Transfers,
    Debt,
    Label,
}

/// A slice position: one word, the name of its holder or 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SliceEntry {
    /// The [`EnvName`](crate::EnvName) of its holder.
    pub holder: u64,
}

/// A packet filter: four words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FilterEntry {
    /// The name of its holder; 0: the id is free.
    pub holder: u64,
    /// The ring where packets go, or [`NO_RING`]: a reservation.
    pub ring: u64,
    /// Packets matched.
    pub matches: u64,
    /// Packets matched that found the ring full.
    pub dropped: u64,
}

/// In place of a ring: the filter only reserves packets for its holder.
pub const NO_RING: u64 = u64::MAX;
/// How many send templates an environment has.
pub const SEND_TEMPLATES: u64 = 8;
/// In place of a ring, plus less than [`SEND_TEMPLATES`]: the filter is that send template of its
/// holder's.
pub const SEND_TEMPLATE: u64 = NO_RING - SEND_TEMPLATES;

/// A receive ring: four words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct RingEntry {
    /// The name of its holder; 0: the id is free.
    pub holder: u64,
    /// The number of packet slots.
    pub slots: u64,
    /// Packets delivered.
    pub delivered: u64,
    /// Packets dropped because the ring was full.
    pub dropped: u64,
}

/// Counters of one CPU: all words; [`StatisticsWord`] numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Statistics {
    /// Calls, but for control transfers.
    pub calls: u64,
    /// Calls refused.
    pub refused: u64,
    /// Exceptions in programs.
    pub exceptions: u64,
    /// Misses answered by a software TLB.
    pub refills: u64,
    /// Upcalls.
    pub upcalls: u64,
    /// Device and timer interrupts.
    pub interrupts: u64,
    /// Times that another environment was switched to.
    pub switches: u64,
    /// Nanoseconds in which no environment could run.
    pub idle: u64,
    /// Packets received.
    pub received: u64,
    /// Packets received that no filter wanted.
    pub unclaimed: u64,
    /// Packets sent.
    pub sent: u64,
    /// Asks by the abort protocol.
    pub asks: u64,
    /// Names given back when asked.
    pub surrendered: u64,
    /// Names taken by force.
    pub repossessed: u64,
    /// Environments created.
    pub created: u64,
    /// Environments ended.
    pub ended: u64,
    /// Control transfers.
    pub transfers: u64,
    /// No counter: when the slice ends that runs there, in nanoseconds since boot.
    pub slice_end: u64,
    /// Packets that a handler has seen, and gone through to its end.
    pub handled: u64,
    /// Packets at which a handler was ended: they went into the ring.
    pub trapped: u64,
}

/// The words of [`Statistics`].
pub const STATISTICS_WORDS: usize = 20;

/// The word of a field in [`Statistics`], as the kernel counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
#[expect(missing_docs, reason = "each is the word of the field of that name")]
pub enum StatisticsWord {
    Calls,
    Refused,
    Exceptions,
    Refills,
    Upcalls,
    Interrupts,
    Switches,
    Idle,
    Received,
    Unclaimed,
    Sent,
    Asks,
    Surrendered,
    Repossessed,
    Created,
    Ended,
    Transfers,
    SliceEnd,
    Handled,
    Trapped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn words_are_the_fields() {
        assert_eq!(size_of::<EnvEntry>(), ENV_WORDS * 8);
        assert_eq!(offset_of!(EnvEntry, label), EnvWord::Label as usize * 8);
        assert_eq!(offset_of!(EnvEntry, frames), EnvWord::Frames as usize * 8);
        assert_eq!(offset_of!(EnvEntry, asks), EnvWord::Asks as usize * 8);
        assert_eq!(size_of::<Statistics>(), STATISTICS_WORDS * 8);
        assert_eq!(offset_of!(Statistics, slice_end), StatisticsWord::SliceEnd as usize * 8);
        assert_eq!(size_of::<Move>(), MOVE_WORDS * 8);
        assert_eq!(size_of::<SystemPage>(), SYSTEM_WORDS * 8);
        for (place, word) in [
            (offset_of!(SystemPage, time), SystemWord::Time),
            (offset_of!(SystemPage, positions), SystemWord::Positions),
            (offset_of!(SystemPage, frames_free), SystemWord::FramesFree),
            (offset_of!(SystemPage, link_address), SystemWord::LinkAddress),
            (offset_of!(SystemPage, slices), SystemWord::Slices),
            (offset_of!(SystemPage, frames), SystemWord::Frames),
            (offset_of!(SystemPage, moves_count), SystemWord::MovesCount),
        ] {
            assert_eq!(place, word as usize * 8);
        }
    }

    #[test]
    fn frame_entries_round_trip() {
        let entry = FrameEntry {
            owner: 300,
            state: FrameState::Donated as u8,
            pins: 2,
            generation: 0xdead_beef,
            bindings: 17,
            reserved: 0,
        };
        assert_eq!(FrameEntry::from_words(entry.to_words()), entry);
        assert_eq!(size_of::<FrameEntry>(), 16);
    }
}
