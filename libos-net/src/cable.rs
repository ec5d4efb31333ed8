//! A link in memory: two ends of a cable, for tests and for two stacks in one program.
//!
//! The filters are the real ones. A cable can be told to lose, repeat, damage or reorder frames.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use packet_filters::Filter;

use crate::link::{Arrival, FRAME_MAX, FilterId, Link, LinkError};

/// How many frames a direction holds. More than that are lost, as in a ring that is full.
const DEPTH: usize = 256;

/// What happens to a frame on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrives.
    Deliver,
    /// It doesn't.
    Lose,
    /// It arrives twice.
    Repeat,
    /// It arrives with one bit changed, the one with this number modulo its length.
    Damage(usize),
    /// It overtakes the frames before it.
    Overtake,
}

/// What one end has received.
#[derive(Default)]
struct Side {
    filters: BTreeMap<FilterId, Filter>,
    arrived: VecDeque<(FilterId, Vec<u8>)>,
    next_filter: u32,
}

impl Side {
    /// The filter with the most conditions that matches, as in the kernel.
    fn classify(&self, frame: &[u8]) -> Option<FilterId> {
        (self.filters.iter().filter(|(_, filter)| filter.matches(frame)))
            .max_by_key(|(_, filter)| filter.bits())
            .map(|(&id, _)| id)
    }

    fn arrive(&mut self, frame: &[u8], first: bool) {
        let Some(filter) = self.classify(frame) else { return };
        if self.arrived.len() >= DEPTH {
            return;
        }
        // Behind the oldest, which may be looked at just now.
        let place = if first { self.arrived.len().min(1) } else { self.arrived.len() };
        self.arrived.insert(place, (filter, frame.to_vec()));
    }
}

type Weather = dyn FnMut(&[u8]) -> Fate;

/// One end of a cable.
pub struct End {
    address: [u8; 6],
    own: Rc<RefCell<Side>>,
    other: Rc<RefCell<Side>>,
    weather: Rc<RefCell<Weather>>,
    /// The frame that is being looked at.
    current: Option<(FilterId, Vec<u8>)>,
}

/// A new cable: its two ends, with different link addresses.
pub fn cable() -> (End, End) {
    cable_in(|_| Fate::Deliver)
}

/// A new cable on which `weather` decides the fate of each frame, in both directions.
pub fn cable_in(weather: impl FnMut(&[u8]) -> Fate + 'static) -> (End, End) {
    let sides = [Rc::<RefCell<Side>>::default(), Rc::default()];
    let weather: Rc<RefCell<Weather>> = Rc::new(RefCell::new(weather));
    let end = |own: usize| End {
        address: [2, 0, 0, 0, 0, own as u8 + 1],
        own: Rc::clone(&sides[own]),
        other: Rc::clone(&sides[1 - own]),
        weather: Rc::clone(&weather),
        current: None,
    };
    (end(0), end(1))
}

impl End {
    /// How many filters this end has.
    pub fn filters(&self) -> usize {
        self.own.borrow().filters.len()
    }

    /// Puts a frame on the cable that no stack has made.
    pub fn inject(&mut self, frame: &[u8]) {
        let fate = (self.weather.borrow_mut())(frame);
        let mut other = self.other.borrow_mut();
        match fate {
            Fate::Deliver => other.arrive(frame, false),
            Fate::Lose => {}
            Fate::Repeat => {
                other.arrive(frame, false);
                other.arrive(frame, false);
            }
            Fate::Damage(bit) => {
                let mut damaged = frame.to_vec();
                if let Some(byte) = damaged.get_mut(bit / 8 % frame.len().max(1)) {
                    *byte ^= 1 << (bit % 8);
                }
                other.arrive(&damaged, false);
            }
            Fate::Overtake => other.arrive(frame, true),
        }
    }
}

impl Link for End {
    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn open(&mut self, filter: &Filter) -> Result<FilterId, LinkError> {
        let mut own = self.own.borrow_mut();
        let id = FilterId(own.next_filter);
        own.next_filter += 1;
        own.filters.insert(id, *filter);
        Ok(id)
    }

    fn close(&mut self, filter: FilterId) {
        self.own.borrow_mut().filters.remove(&filter);
    }

    fn peek(&mut self) -> Option<Arrival<'_>> {
        if self.current.is_none() {
            self.current = self.own.borrow_mut().arrived.pop_front();
        }
        let (filter, frame) = self.current.as_ref()?;
        Some(Arrival { filter: *filter, frame })
    }

    fn release(&mut self) {
        self.current = None;
    }

    fn send(&mut self, frames: &[&[u8]]) -> Result<usize, LinkError> {
        for frame in frames {
            if frame.len() > FRAME_MAX {
                return Err(LinkError::BadFrame);
            }
            self.inject(frame);
        }
        Ok(frames.len())
    }
}

impl core::fmt::Debug for End {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("End").field("address", &self.address).finish_non_exhaustive()
    }
}
