//! Children that run the program's own code.
//!
//! A child shares the frames of what is read and executed, and gets copies of what is written: data
//! as it is now, and an empty stack. It starts in a function of the program's, at once with all
//! statics.

use crate::attempt;
use crate::ground::{self, page};
use crate::rule::{granted, holds};
use exo_user::abi::layout::PAGE_TABLE;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::request::BindRequest;
use exo_user::{
    EnvName, Error, FrameNumber, Rights, Start, binding, capability, environment, frame, layout,
    tables,
};

/// Where a child starts: with its argument.
pub type Entry = extern "sysv64" fn(u64) -> !;

/// The most pages of a child that are copies.
const COPIES: usize = 48;
/// The pages of a child's stack.
const STACK_PAGES: u64 = 6;
/// The page of the ground through which copies are made.
const WINDOW: u64 = page(900);
const WRITE: u64 = 1 << 1;
const NO_EXECUTE: u64 = 1 << 63;

/// The frames of the program's that a child's copies are in.
#[derive(Debug)]
pub struct Copies {
    frames: [FrameNumber; COPIES],
    count: usize,
}

impl Copies {
    /// None.
    pub const NONE: Self = Self { frames: [FrameNumber::ANY; COPIES], count: 0 };

    /// Gives them back, when the child has ended.
    pub fn free(&mut self) {
        ground::free(&self.frames[..self.count]);
        self.count = 0;
    }

    fn add(&mut self) -> Result<FrameNumber, Error> {
        holds("a child has few pages", self.count < COPIES);
        let frame = frame::allocate_any(capability::OWN)?;
        self.frames[self.count] = frame;
        self.count += 1;
        Ok(frame)
    }
}

/// Gives a child the program's image and a stack, and starts it. [`attempt::prepare`] was called.
///
/// # Errors
/// What the kernel says; the copies are in `copies` all the same.
pub fn start(
    child: EnvName,
    start: &Start<'_>,
    copies: &mut Copies,
    entry: Entry,
    argument: u64,
) -> Result<(), Error> {
    for address in (start.image.0..start.image.1).step_by(PAGE_SIZE as usize) {
        // Between the parts of the image nothing is bound.
        if attempt::read(address).is_some() {
            continue;
        }
        // SAFETY: the page has just been touched.
        let entry = unsafe { ((PAGE_TABLE + (address >> 12) * 8) as *const u64).read_volatile() };
        let (mut rights, mut behind) = (Rights::READ, tables::frame_behind(address));
        if entry & WRITE != 0 {
            rights |= Rights::WRITE;
            behind = Some(copy(address, copies)?);
        } else if entry & NO_EXECUTE == 0 {
            rights |= Rights::EXECUTE;
        }
        share(child, address, behind.ok_or(Error::NoFrame)?, rights)?;
    }
    let top = layout::STACK.end;
    for address in (top - STACK_PAGES * PAGE_SIZE..top).step_by(PAGE_SIZE as usize) {
        share(child, address, copies.add()?, Rights::READ | Rights::WRITE)?;
    }
    // As a call leaves it.
    environment::start(child, capability::OWN, entry as *const () as u64, top - 8, argument)
}

/// Binds a frame of the program's at a page of a child's, for good.
///
/// # Errors
/// What the kernel says.
pub fn share(
    child: EnvName,
    address: u64,
    frame: FrameNumber,
    rights: Rights,
) -> Result<(), Error> {
    let request = BindRequest::new(address, frame, rights | Rights::WIRED, capability::OWN);
    binding::bind_for(child, capability::OWN, &[request])
}

fn copy(address: u64, copies: &mut Copies) -> Result<FrameNumber, Error> {
    let frame = copies.add()?;
    ground::bind(WINDOW, frame, ground::DATA)?;
    for offset in (0..PAGE_SIZE).step_by(8) {
        ground::store(WINDOW + offset, ground::load(address + offset));
    }
    // SAFETY: nothing refers to the window.
    granted("to unbind the window", unsafe { binding::unbind(WINDOW, 1) });
    Ok(frame)
}
