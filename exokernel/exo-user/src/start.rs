//! How a program starts: the start block that `init` writes and [`Start`] reads.

use crate::{capability, layout};
use core::ops::Range;
use exo_abi::name::PAGE_SIZE;
use exo_abi::{CapabilityName, Error, FrameNumber};

/// `"exostart"` in the first word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"exostart");
/// The words before the arguments.
pub const HEADER_WORDS: usize = 8;
/// The most bytes of arguments.
pub const ARGUMENTS_MAX: usize = PAGE_SIZE as usize - HEADER_WORDS * 8;

/// What a program is told at its start. It travels in one page: [`MAGIC`], the words in this order,
/// the arguments' length, the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start<'a> {
    /// The first frame of the boot archive. The others follow it.
    pub archive_frame: FrameNumber,
    /// The length of the boot archive in bytes.
    pub archive_length: u64,
    /// The addresses from the first to behind the last page of the image.
    pub image: (u64, u64),
    /// The seed for everything random.
    pub seed: u64,
    /// The last part of the program's name.
    pub part: u8,
    /// The arguments, one text.
    arguments: &'a str,
}

impl<'a> Start<'a> {
    /// A start with these arguments and everything else zero, to be filled in.
    pub const fn new(arguments: &'a str) -> Self {
        let archive_frame = FrameNumber(0);
        Self { archive_frame, archive_length: 0, image: (0, 0), seed: 0, part: 0, arguments }
    }

    /// The arguments, one text.
    pub fn arguments(&self) -> &'a str {
        self.arguments
    }

    /// The program's own name, for which it has the capability in slot
    /// [`OWN`](crate::capability::OWN).
    pub fn name(&self) -> CapabilityName {
        capability::programs().child(self.part).unwrap_or_default()
    }

    /// The value of the argument `name=value`, if there is one.
    pub fn argument(&self, name: &str) -> Option<&'a str> {
        self.arguments
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The number in the argument `name=number`, or `default` where it is missing or no number.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.argument(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// The page as which this travels.
    ///
    /// # Errors
    /// [`Error::TooLong`] for more arguments than a page holds.
    pub fn write(&self, page: &mut [u8]) -> Result<(), Error> {
        let words: [u64; HEADER_WORDS] = [
            MAGIC,
            self.archive_frame.0.into(),
            self.archive_length,
            self.image.0,
            self.image.1,
            self.seed,
            self.part.into(),
            self.arguments.len() as u64,
        ];
        let (header, rest) = page.split_at_mut_checked(HEADER_WORDS * 8).ok_or(Error::TooLong)?;
        for (chunk, word) in header.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        rest.get_mut(..self.arguments.len())
            .ok_or(Error::TooLong)?
            .copy_from_slice(self.arguments.as_bytes());
        Ok(())
    }

    /// What the page says, or `None` if it is no start block.
    pub fn read(page: &'a [u8]) -> Option<Self> {
        let (header, rest) = page.split_at_checked(HEADER_WORDS * 8)?;
        let mut words = [0; HEADER_WORDS];
        for (word, chunk) in words.iter_mut().zip(header.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        let [magic, frame, archive_length, from, to, seed, part, length] = words;
        let arguments = core::str::from_utf8(rest.get(..length.try_into().ok()?)?).ok()?;
        (magic == MAGIC).then_some(Self {
            archive_frame: FrameNumber(frame.try_into().ok()?),
            archive_length,
            image: (from, to),
            seed,
            part: part.try_into().ok()?,
            arguments,
        })
    }

    /// The pages of the image.
    pub fn image_range(&self) -> Range<u64> {
        self.image.0..self.image.1
    }
}

/// The start block of this program, where `init` has bound it.
///
/// # Panics
/// When the program was not started by `init`, and has none.
pub fn own() -> Start<'static> {
    let page = layout::START_BLOCK as *const u8;
    // SAFETY: `init` binds the page, read only, before it starts the program, and nobody writes to
    // it afterwards.
    let page = unsafe { core::slice::from_raw_parts(page, PAGE_SIZE as usize) };
    Start::read(page).expect("the start block")
}

/// Makes a program of a function: defines its entry, its panic handler and its heap.
///
/// - `program!(main)` with `fn main(start: &Start) -> u64`, which returns the exit code.
/// - `program!(main, heap = EXPRESSION => TYPE)` for a program with another global allocator.
/// - `program!(first = main)` for the program that the kernel itself starts, with
///   `fn main(archive_length: u64) -> u64`.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        $crate::program!($main, heap = $crate::heap::Heap::new() => $crate::heap::Heap);
    };
    ($main:path, heap = $heap:expr => $type:ty) => {
        $crate::program!(@entry |_argument| {
            let main: fn(&$crate::Start<'_>) -> u64 = $main;
            main(&$crate::start::own())
        }, $heap, $type);
    };
    (first = $main:path) => {
        $crate::program!(@entry |argument| {
            let main: fn(u64) -> u64 = $main;
            main(argument)
        }, $crate::heap::Heap::new(), $crate::heap::Heap);
    };
    (@entry |$argument:ident| $body:block, $heap:expr, $type:ty) => {
        // In a block of its own, so that no name here is in the way of the program's.
        const _: () = {
            #[global_allocator]
            static HEAP: $type = $heap;

            #[panic_handler]
            fn panic(info: &::core::panic::PanicInfo<'_>) -> ! {
                $crate::panic::end(info)
            }

            extern "sysv64" fn run($argument: u64) -> ! {
                $crate::environment::exit($body)
            }

            // Where the program starts: with the argument in `rdi` and a stack pointer that is a
            // multiple of 16. The zero frame pointer ends every backtrace.
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            extern "sysv64" fn _start() -> ! {
                ::core::arch::naked_asm!("xor ebp, ebp", "call {run}", "ud2", run = sym run)
            }
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_init_writes_is_what_the_program_reads() {
        let start = Start {
            archive_frame: FrameNumber(77),
            archive_length: 123_456,
            image: (0x20_0000, 0x21_0000),
            seed: 9,
            part: 3,
            ..Start::new("seconds=5 name=x flag")
        };
        let mut page = [0; PAGE_SIZE as usize];
        start.write(&mut page).unwrap();
        assert_eq!(Start::read(&page), Some(start));
        assert_eq!(start.number("seconds", 1), 5);
        assert_eq!(start.number("second", 1), 1);
        assert_eq!(start.argument("name"), Some("x"));
    }

    #[test]
    fn arguments_have_to_fit() {
        let mut page = [0; PAGE_SIZE as usize];
        let text = [b'x'; ARGUMENTS_MAX + 1];
        let text = core::str::from_utf8(&text).unwrap();
        assert_eq!(Start::new(&text[1..]).write(&mut page), Ok(()));
        assert!(Start::read(&page).is_some());
        assert_eq!(Start::new(text).write(&mut page), Err(Error::TooLong));
    }

    proptest! {
        #[test]
        fn no_page_makes_the_reader_fail(mut page: [u8; 96], magic: bool, length in 0..99u64) {
            if magic {
                page[..8].copy_from_slice(&MAGIC.to_le_bytes());
                page[48..64].copy_from_slice(&(u128::from(length) << 64).to_le_bytes());
            }
            let _ = Start::read(&page);
        }
    }
}
