//! Receive rings and filters of the hostile programs.

use crate::{ground, rule};
use exo_user::abi::ring;
use exo_user::{FrameNumber, Rights, filter, ring as calls, tables};
use filter_language::{Builder, encode};
use packet_filters::Filter;

/// A ring whose header page is bound at the first page of the ground.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    /// Its id.
    pub id: u32,
    /// The header page and the first page of slots.
    pub frames: [FrameNumber; 2],
}

impl Ring {
    /// A ring of two slots.
    pub fn create() -> Self {
        Self::of::<2>()
    }

    /// A ring of so many frames: the header page, and pages of two slots each.
    pub fn of<const COUNT: usize>() -> Self {
        let frames = ground::frames::<COUNT>();
        rule::granted(
            "the header page",
            ground::bind(ground::GROUND, frames[0], Rights::READ | Rights::WRITE),
        );
        // SAFETY: the frames are new; the ground is read and written by address alone.
        let id = rule::granted("a ring", unsafe { calls::create(&frames) });
        Self { id, frames: [frames[0], frames[1]] }
    }

    /// Packets that were put in or found no place, as the kernel counts them.
    pub fn arrived(&self) -> u64 {
        let entry = tables::rings().get(self.id as usize).unwrap_or_default();
        entry.delivered + entry.dropped
    }

    /// Packets that were put in, as the kernel counts them.
    pub fn delivered(&self) -> u64 {
        tables::rings().get(self.id as usize).unwrap_or_default().delivered
    }

    /// Writes a word of the header page.
    pub fn set(&self, word: usize, value: u64) {
        ground::store(ground::GROUND + 8 * word as u64, value);
    }

    /// Takes everything out.
    pub fn drain(&self) {
        self.set(ring::CONSUMED, ground::load(ground::GROUND + 8 * ring::PRODUCED as u64));
    }
}

/// The filter of a builder.
pub fn filter(builder: Builder) -> Filter {
    let filter = builder.build();
    rule::holds("the filter is one", filter.is_ok());
    filter.unwrap_or(ANY_IPV4)
}

/// Every IPv4 packet.
const ANY_IPV4: Filter = match Builder::ethertype(0x0800).build() {
    Ok(filter) => filter,
    Err(_) => panic!("not a filter"),
};

/// Installs the filter of a builder.
pub fn install(builder: Builder, ring: Ring) -> u32 {
    rule::granted("a filter", filter::install(encode(&filter(builder)).as_ref(), ring.id))
}
