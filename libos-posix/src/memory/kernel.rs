//! What the pager asks of the kernel.

use crate::memory::page_table::PageIndex;
use crate::memory::replacement::Usage;
use crate::memory::resident::HeldFrame;
use crate::memory::store::PageBytes;
use core::ops::Range;
use exo_user::Error;

/// What a page is needed for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// To read.
    Read,
    /// To read and write.
    Write,
}

/// Why a frame could not be bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindError {
    /// The frame was repossessed.
    FrameGone,
    /// The kernel said something else.
    Refused(Error),
}

/// Frames and bindings, as far as paging needs them. The pager sees nothing else of the machine,
/// so that it runs on the host over a model.
///
/// Frames can be repossessed between any two calls: whatever names a frame may find it gone.
pub trait Kernel: Usage {
    /// Takes a frame, filled with zeros. `None`: the contract or the machine has no more.
    fn allocate(&mut self) -> Option<HeldFrame>;

    /// Gives frames back, at most [`BATCH`](crate::memory::BATCH), and breaks all bindings to
    /// them. Those that are gone are passed over.
    fn free(&mut self, frames: &[HeldFrame]);

    /// Whether the frame is still held, in the life that it had when it was taken.
    fn holds(&self, frame: HeldFrame) -> bool;

    /// Binds a page of the paged area. The page counts as unused until it is used again.
    ///
    /// # Errors
    /// All of [`BindError`].
    fn bind(&mut self, page: PageIndex, frame: HeldFrame, access: Access) -> Result<(), BindError>;

    /// Unbinds a page of the paged area.
    fn unbind(&mut self, page: PageIndex);

    /// Gives pages of the paged area other rights. Those that the kernel cannot change, it unbinds.
    fn protect(&mut self, pages: Range<u32>, access: Access);

    /// Binds a frame where the pager itself can reach it, until the next time that this is called.
    /// The kernel takes such a frame last.
    ///
    /// # Errors
    /// All of [`BindError`].
    fn window(&mut self, frame: HeldFrame) -> Result<&mut PageBytes, BindError>;

    /// Binds a frame as a block of the backing store. The kernel takes such a frame last.
    ///
    /// # Errors
    /// All of [`BindError`].
    fn lend(&mut self, block: u32, frame: HeldFrame) -> Result<&'static mut PageBytes, BindError>;

    /// Takes a block from the backing store, which no longer refers to it.
    fn take_back(&mut self, block: u32);

    /// Names a frame in an empty place of the surrender list: the kernel takes it before all else,
    /// should it take frames by force. Or strikes out what stands there.
    fn list(&mut self, place: u8, frame: Option<HeldFrame>);

    /// How many frames the program owes.
    fn debt(&self) -> u64;

    /// Reads the record of lost frames and acknowledges it. Returns how many there are since the
    /// last time.
    fn read_losses(&mut self) -> u64;
}
