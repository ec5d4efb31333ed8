//! Backtraces for the host tool, which knows the functions' names.

use crate::{contract, layout, println, tables};
use core::fmt;
use core::ops::Range;
use exo_abi::name::PAGE_SIZE;

/// The most callers that are named: with more, the line would not stay in one piece.
const CALLERS: usize = 12;

/// Addresses as the host tool reads them.
struct Callers {
    rip: u64,
    frame: u64,
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {:#x}", self.rip)?;
        let load = |address: u64| {
            // SAFETY: `walk` asks only for words inside the program's stacks, which are bound
            // wherever a frame pointer that came from the stack itself points.
            unsafe { (address as *const u64).read() }
        };
        let mut result = Ok(());
        walk(self.frame, &layout::STACK, load, |caller| {
            result = result.and(write!(f, " {caller:#x}"));
        });
        result
    }
}

/// Follows frame pointers inside `stack`, upwards only, and tells the return addresses.
fn walk(mut frame: u64, stack: &Range<u64>, load: impl Fn(u64) -> u64, mut tell: impl FnMut(u64)) {
    let mut below = stack.start;
    for _ in 0..CALLERS {
        if frame < below || !frame.is_multiple_of(8) || frame >= stack.end - 8 {
            return;
        }
        let caller = load(frame + 8);
        if caller < PAGE_SIZE {
            return;
        }
        tell(caller);
        below = frame + 16;
        frame = load(frame);
    }
}

/// Prints where the program is and who called it: from this instruction and frame pointer on.
pub fn print(rip: u64, frame: u64) {
    let entry = tables::environment_named(contract::name()).unwrap_or_default();
    println!("@backtrace {}{}", tables::label(&entry), Callers { rip, frame });
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn callers(start: u64, memory: &[u64]) -> Vec<u64> {
        let mut callers = Vec::new();
        let stack = 0x1000..0x1000 + memory.len() as u64 * 8;
        let load = |address: u64| memory[(address - 0x1000) as usize / 8];
        walk(start, &stack, load, |caller| callers.push(caller));
        callers
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let memory = [0, 0, 0x1020, 0x20_0001, 0, 0x20_0002];
        assert_eq!(callers(0x1010, &memory), [0x20_0001, 0x20_0002]);
    }

    #[test]
    fn a_broken_chain_ends_the_walk() {
        assert_eq!(callers(0x1010, &[0, 0, 0x1010, 0x20_0001]), [0x20_0001], "a loop");
        assert_eq!(callers(0x1011, &[0; 4]), [], "misaligned");
        assert_eq!(callers(0x1018, &[0; 4]), [], "reaches over the end");
        assert_eq!(callers(u64::MAX - 7, &[0; 4]), [], "far away");
    }
}
