//! Compiled programs on pages of this process that can be executed and not written.

use std::io;

use memmap2::{Mmap, MmapMut};
use packet_filters::ebpf::{Activation, Compiled, Trap, Verified};

/// The machine code of a program, alone.
pub fn compile(program: &mut Verified<'_>) -> Vec<u8> {
    // The longest instruction, a call of a function, takes less than 128 bytes.
    let mut code = vec![0; 1024 + 128 * program.slots().len()];
    let length = program.compile(&mut code).expect("the buffer is large enough");
    code.truncate(length);
    code
}

/// Code that can be run.
#[derive(Debug)]
pub struct Executable {
    pages: Mmap,
}

impl Executable {
    /// Puts the code on pages of its own.
    pub fn new(code: &[u8]) -> io::Result<Self> {
        let mut pages = MmapMut::map_anon(code.len())?;
        pages.copy_from_slice(code);
        Ok(Executable { pages: pages.make_exec()? })
    }

    /// Runs the code: the value of register 0 at the exit, or why there was none.
    ///
    /// # Safety
    ///
    /// The code is what [`compile`] made, and the activation is as [`Compiled`] wants it.
    pub unsafe fn run(&self, activation: &mut Activation) -> Result<u64, Trap> {
        // SAFETY: the caller says that the pages hold a function of this type.
        let compiled: Compiled = unsafe { std::mem::transmute(self.pages.as_ptr()) };
        // SAFETY: the caller says that it may be called with this activation.
        unsafe { compiled(activation, activation.first()) }.outcome()
    }
}
