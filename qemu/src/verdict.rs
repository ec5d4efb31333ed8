//! What QEMU's exit status says about the guest.
//!
//! The guest's kernel ends a run by writing a byte `V` to the isa-debug-exit device; QEMU then
//! exits with `V << 1 | 1`. `V` is the code plus [`VERDICT_BASE`], so that a status which QEMU uses
//! for reasons of its own (0 for a reset, 1 for a bad option) is never taken for a verdict.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use exo_abi::boot::{VERDICT_BASE, VERDICT_PANIC};

/// The exit status of `run` for anything that is not the guest's verdict.
pub const TOOL_FAILURE: u8 = 70;

/// The largest code that fits the port's byte after the bias, so that QEMU's status stays a byte.
const LARGEST_CODE: u8 = 63;

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The program (or the first that failed) ended with this code.
    Code(u8),
    /// The kernel panicked.
    KernelPanic,
    /// The machine was reset, which `-no-reboot` turns into an end: most often a triple fault.
    Reset,
    /// QEMU itself failed with this status.
    Qemu(i32),
    /// QEMU was ended by this signal.
    Signal(i32),
}

impl Verdict {
    /// Reads QEMU's exit status.
    #[must_use]
    pub fn from_status(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::from_code(code),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }

    fn from_code(code: i32) -> Self {
        let value = u8::try_from(code).ok().filter(|code| code % 2 == 1).map(|code| code / 2);
        match value.and_then(|value| value.checked_sub(VERDICT_BASE)) {
            Some(code) if u64::from(code) == VERDICT_PANIC => Self::KernelPanic,
            Some(code) if code <= LARGEST_CODE => Self::Code(code),
            _ if code == 0 => Self::Reset,
            _ => Self::Qemu(code),
        }
    }

    /// The exit status that `run` hands to its caller.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::KernelPanic => VERDICT_PANIC as u8,
            Self::Reset | Self::Qemu(_) | Self::Signal(_) => TOOL_FAILURE,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(0) => write!(f, "ended well"),
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::KernelPanic => write!(f, "the kernel panicked"),
            Self::Reset => write!(f, "the machine reset itself, as after a triple fault"),
            Self::Qemu(status) => write!(f, "QEMU failed with status {status}"),
            Self::Signal(signal) => write!(f, "QEMU was ended by signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the guest does, written out once more from the contract.
    fn status_of(code: u8) -> i32 {
        i32::from((code & 0x3f) + 32) << 1 | 1
    }

    #[test]
    fn every_code_comes_back() {
        for code in 0..=LARGEST_CODE {
            let expected = if u64::from(code) == VERDICT_PANIC {
                Verdict::KernelPanic
            } else {
                Verdict::Code(code)
            };
            assert_eq!(Verdict::from_code(status_of(code)), expected);
        }
    }

    #[test]
    fn what_qemu_says_for_itself_is_no_verdict() {
        assert_eq!(Verdict::from_code(0), Verdict::Reset);
        for status in [1, 2, 63, 64, 66, 193, 255] {
            assert_eq!(Verdict::from_code(status), Verdict::Qemu(status));
        }
        assert_ne!(Verdict::Qemu(1).exit_status(), 0);
    }
}
