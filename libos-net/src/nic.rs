//! The link that the kernel offers: a receive ring, filters that lead to it, and the send call.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use exo_user::abi::layout::LIST_MAX;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::request::BindRequest;
use exo_user::abi::ring::{FRAMES_MAX, SLOTS_PER_FRAME};
use exo_user::packet::{self, Packet};
use exo_user::{Error, FrameNumber, Rights, binding, capability, filter, frame, ring, tables};
use packet_filters::Filter;

use crate::link::{Arrival, FilterId, Link, LinkError};
use crate::ring::Ring;

/// Where the ring is bound: in the part of the address space that is a library's own.
const PLACE: u64 = exo_user::layout::FREE.start + (1 << 32);

/// Whether a program has its ring already: there is one place for it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why there is no link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NicError {
    /// The machine has no network device.
    NoDevice,
    /// The program has one already.
    Taken,
    /// No packet frames, or more than a ring has.
    BadSize,
    /// The kernel refused frames, bindings or the ring.
    Refused(Error),
}

impl From<Error> for NicError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl fmt::Display for NicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("the machine has no network device"),
            Self::Taken => f.write_str("the program has a ring already"),
            Self::BadSize => write!(f, "a ring has 1 to {FRAMES_MAX} frames for packets"),
            Self::Refused(error) => write!(f, "the kernel refused the ring: {error:?}"),
        }
    }
}

impl core::error::Error for NicError {}

/// The kernel's network device, as this program may use it.
///
/// The ring lies in frames of the program's own. It and its filters end with this value.
#[derive(Debug)]
pub struct Nic {
    ring: Ring,
    id: u32,
    address: [u8; 6],
    frames: Vec<FrameNumber>,
}

impl Nic {
    /// Takes frames, binds them, and makes a ring with room for `frames * 2` packets.
    ///
    /// # Errors
    /// [`NicError`]; then nothing has been taken.
    pub fn open(frames: u64) -> Result<Self, NicError> {
        let link_address = tables::system().link_address;
        if link_address == 0 {
            return Err(NicError::NoDevice);
        }
        if frames == 0 || frames > FRAMES_MAX || frames >= LIST_MAX {
            return Err(NicError::BadSize);
        }
        if TAKEN.swap(true, Ordering::Acquire) {
            return Err(NicError::Taken);
        }
        let [a, b, c, d, e, f, _, _] = link_address.to_le_bytes();
        let opened = make_ring(frames + 1);
        if opened.is_err() {
            TAKEN.store(false, Ordering::Release);
        }
        let (frames, id, ring) = opened?;
        Ok(Self { ring, id, address: [a, b, c, d, e, f], frames })
    }

    /// The kernel's name for the ring.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How many packets were dropped because the ring was full.
    pub fn dropped(&self) -> u64 {
        self.ring.dropped()
    }
}

/// Takes and binds `pages` frames, and makes a ring of them.
fn make_ring(pages: u64) -> Result<(Vec<FrameNumber>, u32, Ring), Error> {
    let mut frames = vec![FrameNumber::ANY; pages as usize];
    frame::allocate(&mut frames, capability::OWN)?;
    match bind_ring(&frames) {
        Ok((id, ring)) => Ok((frames, id, ring)),
        Err(error) => {
            // SAFETY: there is no ring, and so no reference to what is bound to the frames.
            let _ = unsafe { frame::free(&frames) };
            Err(error)
        }
    }
}

fn bind_ring(frames: &[FrameNumber]) -> Result<(u32, Ring), Error> {
    let rights = Rights::READ | Rights::WRITE | Rights::WIRED;
    let requests = (frames.iter().zip(0..))
        .map(|(&frame, page)| {
            BindRequest::new(PLACE + page * PAGE_SIZE, frame, rights, capability::OWN)
        })
        .collect::<Vec<_>>();
    // SAFETY: `TAKEN` lets one ring at a time have the place, and nothing else is bound there.
    unsafe { binding::bind(&requests)? };
    // SAFETY: the frames are new, and what is in them is read through `Ring` alone.
    let id = unsafe { ring::create(frames)? };
    let slots = (frames.len() as u64 - 1) * SLOTS_PER_FRAME;
    // SAFETY: the header page was bound above, with room for the words and aligned to a page. It
    // stays until `Nic` is dropped, and `Nic` lends the ring to nobody for longer.
    let header = unsafe { core::slice::from_raw_parts(PLACE as *const AtomicU64, HEADER) };
    let packets = (PLACE + PAGE_SIZE) as *const u8;
    // SAFETY: behind the header there are `slots` slots, and the kernel is the producer.
    Ok((id, unsafe { Ring::new(header, packets, slots) }))
}

/// The words of the header page.
const HEADER: usize = PAGE_SIZE as usize / 8;

impl Drop for Nic {
    fn drop(&mut self) {
        // A ring that cannot be destroyed is still written: then its place stays taken.
        if ring::destroy(self.id).is_ok() {
            // SAFETY: the ring is gone, and with this value every reference into it.
            let freed = unsafe { frame::free(&self.frames) };
            TAKEN.store(freed.is_err(), Ordering::Release);
        }
    }
}

impl Link for Nic {
    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn open(&mut self, filter: &Filter) -> Result<FilterId, LinkError> {
        filter::install(filter_language::encode(filter).as_ref(), self.id).map(FilterId).map_err(
            |error| match error {
                Error::NotReserved => LinkError::NotReserved,
                Error::FilterOverlaps => LinkError::Overlaps(filter::overlapped()),
                Error::OverLimit | Error::NoFreeFilters => LinkError::NoRoom,
                other => LinkError::Refused(other),
            },
        )
    }

    fn close(&mut self, filter: FilterId) {
        // One that is not there any more was repossessed: all the same.
        let _ = filter::remove(filter.0);
    }

    fn peek(&mut self) -> Option<Arrival<'_>> {
        self.ring.peek()
    }

    fn release(&mut self) {
        self.ring.release();
    }

    fn send(&mut self, frames: &[&[u8]]) -> Result<usize, LinkError> {
        let mut batch = [Packet::new(&[]); crate::device::BATCH];
        for (packet, frame) in batch.iter_mut().zip(frames) {
            *packet = Packet::new(frame);
        }
        let count = frames.len().min(batch.len());
        packet::send(&batch[..count], capability::NETWORK).map_err(|error| match error {
            Error::QueueFull => LinkError::Busy,
            Error::BadPacket => LinkError::BadFrame,
            Error::NoDevice | Error::NoCapability => LinkError::NoDevice,
            other => LinkError::Refused(other),
        })
    }
}
