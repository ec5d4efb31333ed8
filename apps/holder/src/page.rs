//! The pages that the frames are behind, and what is in them.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use libos_net::exo_user::abi::name::PAGE_SIZE;
use libos_net::exo_user::abi::request::BindRequest;
use libos_net::exo_user::{Error, FrameNumber, Rights, binding, capability, frame, layout};

/// What is read where a page was lost and covered.
pub(crate) const COVER: u64 = 0x6c6f_7374_6c6f_7374;

/// The most pages.
pub(crate) const MOST: usize = 16_384;

/// The number of the frame that covers lost pages.
static COVER_FRAME: AtomicU64 = AtomicU64::new(0);
/// The numbers of the frames behind the pages, for the handler.
static FRAMES: [AtomicU32; MOST] = [const { AtomicU32::new(0) }; MOST];

/// The address of a page. Pages start behind the one in which the cover is filled.
pub(crate) fn address(index: usize) -> u64 {
    layout::FREE.start + (index as u64 + 1) * PAGE_SIZE
}

/// Puts a new frame behind a page.
///
/// # Errors
/// As [`binding::bind`].
pub(crate) fn furnish(index: usize, frame: FrameNumber) -> Result<(), Error> {
    if let Some(place) = FRAMES.get(index) {
        place.store(frame.0, Relaxed);
    }
    bind(address(index), frame, Rights::READ | Rights::WRITE)
}

/// Binds a page anew that has fallen out of the software TLB.
///
/// # Errors
/// As [`binding::bind`]; `NoFrame` for an address behind which there is none.
pub(crate) fn rebind(at: u64) -> Result<(), Error> {
    let index = at.saturating_sub(address(0)) / PAGE_SIZE;
    let place = FRAMES.get(index as usize).filter(|_| at >= address(0)).ok_or(Error::NoFrame)?;
    furnish(index as usize, FrameNumber(place.load(Relaxed)))
}

/// Binds a page to a frame of the program's own.
///
/// # Errors
/// As [`binding::bind`].
pub(crate) fn bind(address: u64, frame: FrameNumber, rights: Rights) -> Result<(), Error> {
    // SAFETY: nothing refers to these pages: they are read and written by address alone.
    unsafe { binding::bind(&[BindRequest::new(address, frame, rights, capability::OWN)]) }
}

/// Makes the page that stands in for lost ones.
///
/// # Errors
/// What the kernel says to the allocation or the binding.
pub(crate) fn prepare() -> Result<(), Error> {
    let frame = frame::allocate_any(capability::OWN)?;
    let place = layout::FREE.start;
    bind(place, frame, Rights::READ | Rights::WRITE | Rights::WIRED)?;
    COVER_FRAME.store(frame.0.into(), Relaxed);
    restore_cover();
    Ok(())
}

/// Makes the cover what it was, after pages have been filled that may have been lost meanwhile.
pub(crate) fn restore_cover() {
    store(layout::FREE.start, COVER);
}

/// Binds the cover at a page that was lost.
///
/// # Errors
/// As [`binding::bind`].
pub(crate) fn cover(address: u64) -> Result<(), Error> {
    let frame = FrameNumber(COVER_FRAME.load(Relaxed) as u32);
    bind(address & !(PAGE_SIZE - 1), frame, Rights::READ | Rights::WRITE)
}

/// Reads the first word of a page.
pub(crate) fn load(address: u64) -> u64 {
    // SAFETY: a read of a page to which nothing refers. Where it is lost, the handler covers it.
    unsafe { (address as *const u64).read_volatile() }
}

/// Writes the first word of a page that has just been bound.
pub(crate) fn store(address: u64, value: u64) {
    // SAFETY: as for `load`.
    unsafe { (address as *mut u64).write_volatile(value) };
}
