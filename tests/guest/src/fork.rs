//! Children that run the program's own code.
//!
//! A child shares the frames of what is read and executed, and gets copies of what is written: data
//! as it is now, and an empty stack. It starts in a function of the program's, at once with all
//! statics.

use crate::ground::{self, page};
use crate::rule::{granted, holds};
use crate::{attempt, child};
use core::sync::atomic::AtomicU64;
use exo_user::abi::layout::PAGE_TABLE;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::request::BindRequest;
use exo_user::abi::tables::EnvState;
use exo_user::{
    Capability, EnvName, Error, FrameNumber, Kind, Rights, Start, binding, capability, contract,
    environment, frame, layout, slice, tables, time,
};

/// Where a child starts: with its argument.
pub type Entry = extern "sysv64" fn(u64) -> !;

/// The most pages of a child that are copies.
const COPIES: usize = 48;
/// The pages of a child's stack.
const STACK_PAGES: u64 = 6;
/// The page of the ground through which copies are made.
const WINDOW: u64 = page(900);
/// The frames that a child may hold beside what it has donated.
pub const SPARE: u64 = 12;
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

/// Gives slices back until the program may promise so many.
fn give_back(count: u64) {
    let own = contract::name().0;
    let positions = tables::system().positions as usize;
    for (index, entry) in tables::slices().iter() {
        let account = contract::account(Kind::Slices);
        if account.limit - account.held >= count || account.held == 1 {
            return;
        }
        if entry.holder == own {
            let (cpu, position) = (index / positions, index % positions);
            granted("to give a slice back", slice::give_back(cpu as u32, position as u32, 0));
        }
    }
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

/// Waits until children have done something.
pub fn wait(what: &str, done: impl Fn() -> bool) {
    let end = time::now() + 10 * time::SECOND;
    while !done() {
        holds(what, time::now() < end);
        environment::sleep(time::now() + 100_000);
    }
}

/// A page that the program shares with its children, at the same address everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Meeting;

impl Meeting {
    /// The address.
    pub const PAGE: u64 = page(950);

    /// Binds the page, all of it zero. Once.
    pub fn open() -> FrameNumber {
        let frame = ground::bound(Self::PAGE, ground::DATA | Rights::WIRED);
        (0..512).for_each(|word| ground::store(Self::PAGE + 8 * word, 0));
        frame
    }

    /// A word of it.
    pub fn word(index: usize) -> &'static AtomicU64 {
        holds("a word of the meeting page", index < 512);
        // SAFETY: the page is bound in who has opened it and in who was let in, for good, and used
        // by atomic words alone.
        unsafe { &*((Self::PAGE as *const AtomicU64).add(index)) }
    }
}

/// A child that runs the program's code and shares the meeting page, if there is one.
#[derive(Debug)]
pub struct Fork {
    /// Its name.
    pub name: EnvName,
    copies: Copies,
}

impl Fork {
    /// Makes one with a slice on each of these processors, out of the program's own limit.
    pub fn start(
        begin: &Start<'_>,
        meeting: Option<FrameNumber>,
        cpus: &[u32],
        entry: Entry,
        argument: u64,
    ) -> Self {
        Self::start_with((1, SPARE, 0), begin, meeting, cpus, entry, argument)
    }

    /// As [`Fork::start`], with the last part of its name, and with so many frames that it may hold
    /// itself, of which nobody may ask for some.
    pub fn start_with(
        (part, spare, floor): (u8, u64, u64),
        begin: &Start<'_>,
        meeting: Option<FrameNumber>,
        cpus: &[u32],
        entry: Entry,
        argument: u64,
    ) -> Self {
        give_back(cpus.len() as u64);
        let (mut request, frames, count) = child::request("child", spare);
        let name = child::own_name().child(part).unwrap_or_default();
        let rights = Capability::from_words(request.guard).map(|guard| guard.rights);
        let guard = Capability { name, rights: rights.unwrap_or_default() };
        request.guard = guard.to_words();
        request.floors[Kind::Frames as usize] = if floor > 0 { count as u64 + floor } else { 0 };
        request.limits[Kind::Slices as usize] = cpus.len() as u64;
        // SAFETY: the frames are new, and nothing is bound to them.
        let name = granted("a child", unsafe { environment::create(&request, &frames[..count]) });
        let mut copies = Copies::NONE;
        if let Some(frame) = meeting {
            granted("to meet", share(name, Meeting::PAGE, frame, ground::DATA));
        }
        granted("to start it", start(name, begin, &mut copies, entry, argument));
        let positions = tables::system().positions as u32;
        for &cpu in cpus {
            let taken = (0..positions).find(|&position| {
                let index = (cpu * positions + position) as usize;
                tables::slices().get(index).is_some_and(|entry| entry.holder == 0)
                    && slice::take(cpu, position, name, capability::OWN).is_ok()
            });
            holds("there is a slice for it", taken.is_some());
        }
        Self { name, copies }
    }

    /// What it is doing.
    pub fn state(&self) -> Option<EnvState> {
        EnvState::from_number(tables::environment_named(self.name)?.state)
    }

    /// Its code, once it has ended.
    pub fn end_code(&self) -> Option<u64> {
        let entry = tables::environment_named(self.name)?;
        (entry.state == EnvState::Ended as u64).then_some(entry.end_code)
    }

    /// Ends it, if it has not, and frees all that it had.
    pub fn end(mut self) {
        if self.end_code().is_none() {
            granted("to end a child", environment::destroy(self.name, capability::OWN, 0));
        }
        if self.end_code().is_some() {
            granted("to free its slot", environment::destroy(self.name, capability::OWN, 0));
        }
        self.copies.free();
    }
}
