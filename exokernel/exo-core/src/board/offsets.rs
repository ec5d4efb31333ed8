//! Where the fields of a cell are that the entry code uses itself, in bytes from the start of the
//! cell.

use core::mem::offset_of;

/// Of an [`EnvCell`](crate::EnvCell).
pub mod environment {
    use super::offset_of;
    use crate::board::EnvCell;

    /// The address of the exposed entry.
    pub const ENTRY: usize = offset_of!(EnvCell<'_>, entry);
    /// The frame number of the top-level table.
    pub const ROOT: usize = offset_of!(EnvCell<'_>, root);
    /// The kernel's address of the control page.
    pub const CONTROL: usize = offset_of!(EnvCell<'_>, control_address);
    /// While at rest: the instruction pointer.
    pub const RIP: usize = offset_of!(EnvCell<'_>, rip);
    /// While at rest: the stack pointer.
    pub const RSP: usize = offset_of!(EnvCell<'_>, rsp);
    /// While at rest: the flags.
    pub const RFLAGS: usize = offset_of!(EnvCell<'_>, rflags);
    /// While at rest: what the call returns.
    pub const STATUS: usize = offset_of!(EnvCell<'_>, status);
    /// While at rest: who may enter.
    pub const KEEPER: usize = offset_of!(EnvCell<'_>, keeper);
    /// Not 0 if events may be pending.
    pub const POSTED: usize = offset_of!(EnvCell<'_>, posted);
    /// While it does not run: the base of FS.
    pub const FS: usize = offset_of!(EnvCell<'_>, bases);
    /// While it does not run: the base of GS.
    pub const GS: usize = FS + 8;
    /// While asleep: when to wake.
    pub const WAKE_AT: usize = offset_of!(EnvCell<'_>, wake_at);
    /// While asleep: who gets its slices.
    pub const HEIR: usize = offset_of!(EnvCell<'_>, heir);
    /// What is to be reproached with it for slices overrun.
    pub const REPROACH: usize = offset_of!(EnvCell<'_>, reproach);
    /// The size of a cell.
    pub const SIZE: usize = size_of::<EnvCell<'_>>();
}

/// Of a [`CpuCell`](crate::CpuCell).
pub mod cpu {
    use super::offset_of;
    use crate::board::CpuCell;

    /// The address of the counters.
    pub const STATISTICS: usize = offset_of!(CpuCell<'_>, statistics);
    /// The address of the holders of its slice positions.
    pub const SLICES: usize = offset_of!(CpuCell<'_>, slices);
    /// The bitmap of positions that are held.
    pub const HELD: usize = offset_of!(CpuCell<'_>, held);
    /// The position whose slice this is.
    pub const POSITION: usize = offset_of!(CpuCell<'_>, position);
    /// The slot of who holds it.
    pub const HOLDER: usize = offset_of!(CpuCell<'_>, holder);
    /// Whether somebody may owe a slice.
    pub const OWING: usize = offset_of!(CpuCell<'_>, owing);
    /// Whether the slice has ended and the epilogue runs.
    pub const EPILOGUE: usize = offset_of!(CpuCell<'_>, epilogue);
    /// The slot of who runs.
    pub const CURRENT: usize = offset_of!(CpuCell<'_>, current);
    /// Since when it runs.
    pub const SINCE: usize = offset_of!(CpuCell<'_>, since);
}
