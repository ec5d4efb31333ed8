//! What the program holds, of each kind.

use crate::page;
use alloc::vec::Vec;
use core::mem;
use libos_net::exo_user::loss::Reader;
use libos_net::exo_user::{
    EnvName, Error, FrameNumber, Kind, Rights, Start, binding, capability, contract, filter, frame,
    println, ring, slice, tables,
};
use libos_net::filter_language::{Builder, encode};

/// How many lost frames a liar remembers.
const REMEMBERED: usize = 64;
/// The kinds that are held.
const KINDS: [Kind; 4] = [Kind::Frames, Kind::Slices, Kind::Filters, Kind::Rings];

/// What is held, and how much of it at most.
pub(crate) struct Stock {
    /// The frame behind each page, as long as there is one.
    pages: Vec<Option<FrameNumber>>,
    lost: Vec<FrameNumber>,
    slices: u64,
    rings: Vec<(u32, [FrameNumber; 2])>,
    rings_most: usize,
    filters: Vec<u32>,
    filters_most: usize,
    /// The source port that the next filter is for, so that no two are the same.
    source: u16,
    port: u16,
    record: Reader,
}

impl Stock {
    /// Nothing yet.
    ///
    /// # Errors
    /// There is no frame to stand in for lost ones.
    pub(crate) fn new(start: &Start<'_>) -> Result<Self, &'static str> {
        page::prepare().map_err(|_| "no frame for the cover")?;
        Ok(Self {
            pages: (0..start.number("frames", 64).min(page::MOST as u64)).map(|_| None).collect(),
            lost: Vec::with_capacity(REMEMBERED),
            slices: start.number("slices", contract::account(Kind::Slices).limit),
            rings: Vec::new(),
            rings_most: start.number("rings", 0) as usize,
            filters: Vec::new(),
            filters_most: start.number("filters", 0) as usize,
            source: 1,
            port: start.number("port", 4000) as u16,
            record: Reader::new(),
        })
    }

    /// Takes all that may be held.
    pub(crate) fn fill(&mut self) {
        while self.rings.len() < self.rings_most && self.add_ring().is_ok() {}
        while self.filters.len() < self.filters_most && self.add_filter().is_ok() {}
        while held_slices() < self.slices && take_slice().is_some() {}
        for index in 0..self.pages.len() {
            if self.pages[index].is_none() && self.add_page(index).is_err() {
                break;
            }
        }
        page::restore_cover();
    }

    fn add_page(&mut self, index: usize) -> Result<(), Error> {
        let frame = frame::allocate_any(capability::OWN)?;
        // From now on it can be taken, and told.
        self.pages[index] = Some(frame);
        let bound = page::furnish(index, frame);
        match bound {
            Ok(()) => page::store(page::address(index), index as u64),
            Err(_) => {
                self.pages[index] = None;
                free(&[frame]);
            }
        }
        bound
    }

    fn add_ring(&mut self) -> Result<(), Error> {
        let mut frames = [FrameNumber::ANY; 2];
        frame::allocate(&mut frames, capability::OWN)?;
        // SAFETY: the frames are new, and nothing is bound to them.
        match unsafe { ring::create(&frames) } {
            Ok(id) => self.rings.push((id, frames)),
            Err(error) => {
                free(&frames);
                return Err(error);
            }
        }
        Ok(())
    }

    fn add_filter(&mut self) -> Result<(), Error> {
        let (ring, _) = self.rings.first().ok_or(Error::NoRing)?;
        let builder = Builder::udp_port(self.port).source_port(self.source);
        let built = builder.build().map_err(|_| Error::BadFilter)?;
        self.filters.push(filter::install(encode(&built).as_ref(), *ring)?);
        self.source = self.source.wrapping_add(1).max(1);
        Ok(())
    }

    /// Gives back what is owed, of each kind the last.
    pub(crate) fn pay(&mut self) {
        for kind in KINDS {
            while contract::debt(kind) > 0 && self.give(kind) {}
        }
    }

    /// Gives one back; says whether there was one.
    fn give(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Frames => {
                let Some(index) = self.pages.iter().rposition(Option::is_some) else {
                    return false;
                };
                if let Some(frame) = self.pages[index].take() {
                    free(&[frame]);
                }
                true
            }
            Kind::Slices => own_slices()
                .last()
                .is_some_and(|(cpu, position)| slice::give_back(cpu, position, 0).is_ok()),
            Kind::Filters => self.filters.pop().is_some_and(|id| filter::remove(id).is_ok()),
            Kind::Rings => self.rings.pop().is_some_and(|(id, frames)| {
                let given = ring::destroy(id).is_ok();
                free(&frames);
                self.forget_what_is_gone();
                given
            }),
            Kind::Environments => false,
        }
    }

    /// Reads the record of losses, and forgets what was lost.
    pub(crate) fn count_losses(&mut self, now: u64) {
        let mut count = 0;
        let mut gone: Vec<FrameNumber> = Vec::new();
        let mut record = mem::take(&mut self.record);
        let read = record.frames(|frame| gone.push(frame));
        self.record = record;
        if let Err(error) = read {
            println!("holder: the record: {error:?}");
        }
        for frame in gone {
            if let Some(place) = self.pages.iter_mut().find(|place| **place == Some(frame)) {
                *place = None;
                count += 1;
                self.remember(frame);
            }
        }
        self.forget_what_is_gone();
        if count > 0 {
            println!("@lab {now} told frames {count}");
        }
    }

    fn remember(&mut self, frame: FrameNumber) {
        if self.lost.len() == REMEMBERED {
            self.lost.remove(0);
        }
        self.lost.push(frame);
    }

    /// Rings and filters that are no longer this program's.
    fn forget_what_is_gone(&mut self) {
        let own = contract::name().0;
        let mine = |holder: Option<u64>| holder == Some(own);
        self.rings.retain(|(id, frames)| {
            let kept = mine(tables::rings().get(*id as usize).map(|entry| entry.holder));
            if !kept {
                free(frames);
            }
            kept
        });
        self.filters
            .retain(|id| mine(tables::filters().get(*id as usize).map(|entry| entry.holder)));
    }

    /// Looks at all pages, and whether each holds what was put there.
    ///
    /// # Errors
    /// One doesn't.
    pub(crate) fn work(&self) -> Result<(), &'static str> {
        for (index, place) in self.pages.iter().enumerate() {
            if place.is_some() {
                let word = page::load(page::address(index));
                if word != index as u64 && word != page::COVER {
                    return Err("a page holds what nobody put there");
                }
            }
        }
        Ok(())
    }

    /// Tries to bind frames that were lost; says whether that was possible for one that is not this
    /// program's again.
    pub(crate) fn rebind_lost(&self) -> bool {
        let own = contract::name().index();
        self.lost.iter().any(|&frame| {
            let entry = tables::frames().get(frame.0 as usize).unwrap_or_default();
            let address = page::address(self.pages.len() + 1);
            let bound = page::bind(address, frame, Rights::READ).is_ok();
            if bound {
                // SAFETY: nothing refers to the page.
                let _ = unsafe { binding::unbind(address, 1) };
            }
            bound && usize::from(entry.owner) != own
        })
    }
}

fn free(frames: &[FrameNumber]) {
    // SAFETY: what was bound to them is read by address alone, and no more. Those that were lost
    // in between are not this program's to free.
    if unsafe { frame::free(frames) }.is_err() && frames.len() > 1 {
        frames.iter().for_each(|&frame| free(&[frame]));
    }
}

/// The slices that are this program's.
fn own_slices() -> impl Iterator<Item = (u32, u32)> {
    slices_of(contract::name().0)
}

fn slices_of(holder: u64) -> impl Iterator<Item = (u32, u32)> {
    let positions = tables::system().positions.max(1) as usize;
    let entries = tables::slices().iter().filter(move |(_, entry)| entry.holder == holder);
    entries.map(move |(index, _)| ((index / positions) as u32, (index % positions) as u32))
}

fn held_slices() -> u64 {
    contract::account(Kind::Slices).held
}

/// Takes a slice that nobody has, on a processor where it has one, or on the first.
fn take_slice() -> Option<()> {
    let home = own_slices().next().map_or(0, |(cpu, _)| cpu);
    let (cpu, position) = slices_of(0).find(|(cpu, _)| *cpu == home)?;
    slice::take(cpu, position, EnvName::NONE, 0).ok()
}
