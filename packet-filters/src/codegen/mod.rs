//! Machine code for a set of filters: x86-64, position independent, straight from the tree.

mod assembler;
pub(crate) mod code;
mod lowering;

use core::fmt;

use crate::branch::Branch;
use assembler::Assembler;

/// The type of the emitted function: address and length of a packet to a number that [`verdict`]
/// reads.
///
/// # Safety
///
/// To call it, the code must be unchanged since it was compiled, and all `length` bytes at
/// `packet` must be readable. The contents of the packet may change during the call.
pub type Classifier = unsafe extern "sysv64" fn(packet: *const u8, length: u64) -> u64;

/// The id in what a [`Classifier`] returned: it returns id + 1, or 0 if no filter matched.
pub const fn verdict(returned: u64) -> Option<u32> {
    match returned.checked_sub(1) {
        Some(id) => Some(id as u32),
        None => None,
    }
}

/// Why no code came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// The buffer is too small.
    BufferTooSmall {
        /// How many bytes the code has.
        needed: usize,
    },
    /// The code has 2 GiB or more, further than its jumps can go.
    TooLarge,
}

/// Compiles the tree into `buffer`; the length of the code.
pub(crate) fn compile(root: &Branch<'_>, buffer: &mut [u8]) -> Result<usize, CompileError> {
    let mut code = Assembler::new(buffer);
    code.prologue();
    lowering::branch(&mut code, root, lowering::Base::START);
    code.epilogue();
    code.finish()
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::BufferTooSmall { needed } => {
                write!(f, "the buffer is too small for {needed} bytes of code")
            }
            CompileError::TooLarge => write!(f, "the code is too large for its jumps"),
        }
    }
}

impl core::error::Error for CompileError {}
