//! A function of the program in an environment of its own.
//!
//! For programs that want a second environment and not a second program. The child shares the
//! program's text and constants, has a copy of its data as it is at the creation, and a stack of its
//! own at the same place. It has no heap: what the copy knows of the program's is not there. What
//! it shares beyond that, [`share`] binds for it.
//!
//! The child's name is one below the program's, so that the program controls it. Its contract comes
//! out of the program's, which needs the frames and one environment.

use crate::start::{self, Start};
use crate::upcall::{self, Handlers};
use crate::{binding, capability, environment, frame, layout, slice, tables};
use exo_abi::contract::KINDS;
use exo_abi::layout::LABEL;
use exo_abi::name::PAGE_SIZE;
use exo_abi::request::{BindRequest, EnvironmentRequest};
use exo_abi::{Capability, EnvName, Error, FrameNumber, Kind, Rights};

/// The pages of a child's stack.
const STACK_PAGES: u64 = 4;
/// The least frames of its software TLB, of 128 entries each, and for how many frames that it may hold
/// there is one more: two entries for each.
const TLB_FRAMES: u64 = 2;
const FRAMES_PER_TLB_FRAME: u64 = 64;
/// Frames for hardware page tables, beyond the least.
const TABLE_FRAMES: u64 = 8;
/// The most frames that are donated.
const DONATION_MAX: usize = 128;
/// Where a page is while it is filled.
const WINDOW: u64 = layout::WINDOW.start;

/// What a child may do with its own name.
const OWN_RIGHTS: Rights = Rights::READ
    .union(Rights::WRITE)
    .union(Rights::EXECUTE)
    .union(Rights::GRANT)
    .union(Rights::CONTROL);

/// What a child is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contract<'a> {
    /// What it is called in lists and on the console.
    pub label: &'a str,
    /// Its number among the program's children, which makes its name.
    pub number: u8,
    /// How many frames it may hold beyond those with which it starts.
    pub frames: u64,
    /// How many of these nobody may ask back.
    pub floor: u64,
    /// The least notice, in nanoseconds, that anybody who asks must give.
    pub notice: u64,
    /// How many slices it may hold.
    pub slices: u64,
}

/// Where a child starts.
pub type Entry = extern "sysv64" fn(u64) -> !;

/// A segment of the program's image.
#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    size: u64,
    writable: bool,
    executable: bool,
}

/// The segments of the image, as the ELF header says that the linker puts at its start.
fn segments(start: &Start<'_>) -> impl Iterator<Item = Segment> + use<> {
    let image = start.image_range();
    let read = move |address: u64, size: u64| {
        // SAFETY: the header and the program headers are in the first page of the image, which is
        // bound for ever and never written.
        let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, size as usize) };
        bytes.iter().rev().fold(0_u64, |word, &byte| word << 8 | u64::from(byte))
    };
    let base = image.start;
    let (offset, size, count) = (read(base + 32, 8), read(base + 54, 2), read(base + 56, 2));
    let headers = (0..count).map(move |index| base + offset + index * size);
    headers.filter(move |&header| read(header, 4) == 1).map(move |header| {
        let flags = read(header + 4, 4);
        Segment {
            address: read(header + 16, 8),
            size: read(header + 40, 8),
            writable: flags & 2 != 0,
            executable: flags & 1 != 0,
        }
    })
}

/// Makes a child with the program's image and a stack, ready to be started.
///
/// # Errors
/// `TooFewFrames`: the donation would be larger than this module provides for; otherwise what
/// [`environment::create`], [`frame::allocate`] and [`binding::bind_for`] say.
pub fn create(contract: Contract<'_>) -> Result<EnvName, Error> {
    let start = start::own();
    let own = segments(&start)
        .filter(|segment| segment.writable)
        .map(|segment| segment.size.div_ceil(PAGE_SIZE))
        .sum::<u64>()
        + STACK_PAGES;
    let child = create_empty(contract, &start, own)?;
    furnish(child, &start).inspect_err(|_| remove(child))?;
    Ok(child)
}

fn create_empty(contract: Contract<'_>, start: &Start<'_>, own: u64) -> Result<EnvName, Error> {
    let tlb_frames = TLB_FRAMES + contract.frames / FRAMES_PER_TLB_FRAME;
    let count = tables::system().donation_minimum + tlb_frames + TABLE_FRAMES;
    let mut donation = [FrameNumber::ANY; DONATION_MAX];
    let donation = donation.get_mut(..count as usize).ok_or(Error::TooFewFrames)?;
    let mut limits = [0; KINDS];
    limits[Kind::Frames as usize] = count + own + contract.frames;
    limits[Kind::Slices as usize] = contract.slices;
    let mut floors = [0; KINDS];
    if contract.floor > 0 {
        floors[Kind::Frames as usize] = count + own + contract.floor;
    }
    let mut label = [0; LABEL];
    for (place, byte) in label.iter_mut().zip(contract.label.bytes()) {
        *place = byte;
    }
    let name = start.name().child(contract.number).ok_or(Error::BadArgument)?;
    let request = EnvironmentRequest {
        tlb_frames,
        capability: capability::OWN.into(),
        guard: Capability { name, rights: OWN_RIGHTS }.to_words(),
        limits,
        floors,
        notice: contract.notice,
        label,
        ..EnvironmentRequest::default()
    };
    frame::allocate(donation, capability::OWN)?;
    // SAFETY: the frames are new and nothing is bound to them; also below.
    unsafe { environment::create(&request, donation) }.inspect_err(|_| {
        // SAFETY: as above. Frames that are the caller's own are taken back.
        let _ = unsafe { frame::free(donation) };
    })
}

fn furnish(child: EnvName, start: &Start<'_>) -> Result<(), Error> {
    for segment in segments(start) {
        let mut rights = Rights::READ | Rights::WIRED;
        rights.set(Rights::WRITE, segment.writable);
        rights.set(Rights::EXECUTE, segment.executable);
        for page in pages(segment.address, segment.size) {
            if segment.writable {
                give_copy(child, page, rights, Some(page))?;
            } else {
                share(child, page, rights)?;
            }
        }
    }
    share(child, layout::START_BLOCK, Rights::READ | Rights::WIRED)?;
    let stack = layout::STACK.end - STACK_PAGES * PAGE_SIZE;
    for page in pages(stack, STACK_PAGES * PAGE_SIZE) {
        give_copy(child, page, Rights::READ | Rights::WRITE | Rights::WIRED, None)?;
    }
    Ok(())
}

fn pages(address: u64, size: u64) -> impl Iterator<Item = u64> {
    (address & !(PAGE_SIZE - 1)..address + size).step_by(PAGE_SIZE as usize)
}

/// Binds the frame behind a page of the program's at the same page of the child.
///
/// # Errors
/// `PageNotBound`: the program has no such page; otherwise what [`binding::bind_for`] says.
pub fn share(child: EnvName, page: u64, rights: Rights) -> Result<(), Error> {
    // SAFETY: the read makes sure that the page is in the hardware's tables; its value is not used.
    // If it is not bound, it is an exception like any other.
    unsafe { (page as *const u8).read_volatile() };
    let frame = tables::frame_behind(page).ok_or(Error::PageNotBound)?;
    binding::bind_for(
        child,
        capability::OWN,
        &[BindRequest::new(page, frame, rights, capability::OWN)],
    )
}

/// Gives the child a new frame at a page, with a copy of a page of the program's.
fn give_copy(child: EnvName, page: u64, rights: Rights, from: Option<u64>) -> Result<(), Error> {
    let new = frame::allocate_any(capability::OWN)?;
    let result = (|| {
        if let Some(from) = from {
            fill(new, from)?;
        }
        let request = BindRequest::new(page, new, rights, capability::OWN);
        binding::bind_for(child, capability::OWN, &[request])?;
        frame::transfer(&[new], child, capability::OWN)
    })();
    result.inspect_err(|_| {
        // SAFETY: the program has not bound it but in the window, to which nothing refers.
        let _ = unsafe { frame::free(&[new]) };
    })
}

fn fill(new: FrameNumber, from: u64) -> Result<(), Error> {
    let data = Rights::READ | Rights::WRITE;
    // SAFETY: the window is for this alone. What is copied is data of this program's that nobody
    // changes meanwhile, for this is its only thread of control.
    unsafe {
        binding::bind(&[BindRequest::new(WINDOW, new, data, capability::OWN)])?;
        (WINDOW as *mut u64).copy_from_nonoverlapping(from as *const u64, PAGE_SIZE as usize / 8);
        binding::unbind(WINDOW, 1)?;
    }
    Ok(())
}

/// Starts a child.
///
/// # Errors
/// As [`environment::start`].
pub fn start(child: EnvName, entry: Entry, argument: u64) -> Result<(), Error> {
    // As if it had been called: the place of a return address is on the stack.
    let stack = layout::STACK.end - 8;
    environment::start(child, capability::OWN, entry as *const () as u64, stack, argument)
}

/// Where a child starts that computes for ever, and at the end of each slice does nothing but give
/// the processor up: whom a scheduler can be tried on. It needs one frame beyond those with which
/// it starts, for its upcall stack.
pub extern "sysv64" fn compute(_: u64) -> ! {
    static HANDLERS: Handlers =
        Handlers { slice_end: Some(upcall::give_slice_up), ..Handlers::NONE };
    if upcall::install_with_stack(1, &HANDLERS).is_err() {
        environment::exit(1);
    }
    loop {
        core::hint::black_box(());
    }
}

/// Takes a slice for a child.
///
/// # Errors
/// As [`slice::take`].
pub fn take_slice(child: EnvName, cpu: u32, position: u32) -> Result<(), Error> {
    slice::take(cpu, position, child, capability::OWN)
}

/// Ends a child, if it has not ended yet, and frees its slot.
pub fn remove(child: EnvName) {
    for _ in 0..2 {
        // If it is gone already, so much the better.
        let _ = environment::destroy(child, capability::OWN, 0);
    }
}
