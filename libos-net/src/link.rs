//! What carries frames: the kernel's ring and send call, or a wire in a test.

use core::fmt;

use packet_filters::Filter;

/// The longest frame, link header included.
pub const FRAME_MAX: usize = 1514;

/// The name of an installed filter. Frames that it matched carry it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FilterId(pub u32);

/// The oldest frame that has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The filter that claimed it.
    pub filter: FilterId,
    /// Its bytes, link header first.
    pub frame: &'a [u8],
}

/// Why a link refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkError {
    /// There is no network device, or the capability for it is missing.
    NoDevice,
    /// The filter asks for packets that were not reserved for this program.
    NotReserved,
    /// The filter asks for packets that somebody else gets.
    Overlaps(exo_user::filter::Overlapped),
    /// The contract or the kernel's table has no place for another filter.
    NoRoom,
    /// The queue is full: the frames can be sent later.
    Busy,
    /// The first frame can never be sent.
    BadFrame,
    /// The kernel said something else.
    Refused(exo_user::Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NoDevice => "no network device, or no capability for it",
            Self::NotReserved => "the contract's ports do not cover this filter",
            Self::NoRoom => "the contract allows no more filters",
            Self::Busy => "the queue is full",
            Self::BadFrame => "the link does not carry this frame",
            Self::Overlaps(other) => return write!(f, "the filter overlaps {other}"),
            Self::Refused(error) => return write!(f, "the kernel refused: {error:?}"),
        };
        f.write_str(text)
    }
}

impl core::error::Error for LinkError {}

/// What carries frames.
///
/// Wrappers compose: a link that records, delays or loses frames is a link around another.
pub trait Link {
    /// The link address of this end.
    fn address(&self) -> [u8; 6];

    /// Asks for the frames that match `filter` from now on.
    ///
    /// # Errors
    /// [`LinkError::NotReserved`], [`LinkError::Overlaps`], [`LinkError::NoRoom`],
    /// [`LinkError::NoDevice`].
    fn open(&mut self, filter: &Filter) -> Result<FilterId, LinkError>;

    /// Ends what [`Link::open`] began. Frames that were claimed before may still arrive.
    fn close(&mut self, filter: FilterId);

    /// The oldest frame that has arrived and was not released. Does not wait.
    fn peek(&mut self) -> Option<Arrival<'_>>;

    /// Lets go of the frame that [`Link::peek`] shows. Without one it does nothing.
    fn release(&mut self);

    /// Sends frames in order and says how many were taken; the rest was not looked at. The frames'
    /// memory is free again on return.
    ///
    /// # Errors
    /// [`LinkError::Busy`], [`LinkError::BadFrame`], [`LinkError::NoDevice`]: no frame was taken.
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize, LinkError>;
}
