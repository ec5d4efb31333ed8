//! Many filters as one decision.

use crate::codegen::assembler::Assembler;
use crate::codegen::lowering::Lowering;
use crate::codegen::{BufferTooSmall, Step, code_for};
use crate::filter::{Filter, Words};
use crate::overlap::{overlaps, project};
use crate::shape::{INLINE, Link, NONE, Shape};
use crate::table::{FREE, ID, Line, SECRET, Table};

/// The memory of a [`FilterSet`], which it never exceeds. What is in it before does not matter.
pub struct Memory<'m> {
    /// The table: see [`lines_for`](crate::lines_for). Emitted code reads it.
    pub lines: &'m [Line],
    /// One for each filter that the set may have, 2^24 at most.
    pub links: &'m mut [Link],
    /// One for each shape that the filters may have, 254 at most.
    pub shapes: &'m mut [Shape],
}

/// Filters, merged: what they have in common is tested once, and of those that look at the same
/// bits the one that wants what is there is found in a hash table.
///
/// Where several filters match a packet, the first by [`Filter::precedence`] gets it. A filter
/// therefore always wins over one that contains it.
///
/// Inserting and removing mostly change the table only, which emitted code sees at once: a reader
/// sees each change wholly or not at all, and never waits. Where the code itself has to change, the
/// set [is stale](FilterSet::is_stale) until it is compiled again; until the new code is used,
/// readers see the filters of before, without those that were removed from a table.
pub struct FilterSet<'m> {
    table: Table<'m>,
    links: &'m mut [Link],
    shapes: &'m mut [Shape],
    /// The shapes that are used, as indices, by precedence.
    order: [u8; FREE as usize],
    used: usize,
    /// The first free id.
    free: u32,
    stale: bool,
}

/// Why a filter was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// There is no memory for another filter.
    Full,
    /// No filter of the set looks at the same bits, and there is no memory for another shape.
    TooManyShapes,
    /// An equal filter is in the set, with this id; the new one would never see a packet, or take all of them.
    Duplicate(u32),
}

impl<'m> FilterSet<'m> {
    /// The empty set. The secret decides where in the table a filter is; who does not know it cannot
    /// make filters that are in each other's way.
    pub fn new(memory: Memory<'m>, secret: &[u64; SECRET]) -> Self {
        let Memory { lines, links, shapes } = memory;
        let ids = links.len().min(ID as usize);
        for (next, link) in (1..).zip(links.iter_mut()) {
            *link = Link { next: if next < ids as u32 { next } else { NONE }, ..Link::FREE };
        }
        FilterSet {
            table: Table::new(lines, secret),
            links,
            shapes,
            order: [0; FREE as usize],
            used: 0,
            free: if ids > 0 { 0 } else { NONE },
            stale: true,
        }
    }

    /// The filter with this id.
    pub fn get(&self, id: u32) -> Option<Filter> {
        let link = self.links.get(id as usize).filter(|link| link.slot != NONE)?;
        let (shape, words) = self.table.content(link.slot)?;
        Some(self.shapes.get(usize::from(shape))?.sample.with_words(&words))
    }

    /// The ids of filters that look at the same bits, from this one on.
    pub fn alike(&self, first: u32) -> impl Iterator<Item = u32> {
        let after = |id: &u32| self.links.get(*id as usize).map(|link| link.next);
        core::iter::successors(Some(first), after).take_while(|id| *id != NONE)
    }

    /// The first of the filters that may match a packet that `filter` matches, of those that
    /// `concerns` picks by their ids.
    ///
    /// Of a shape that looks at no bit which `filter` leaves open one filter is looked at, none of
    /// a shape all of which want something else; of any other shape each.
    pub fn overlap(&self, filter: &Filter, mut concerns: impl FnMut(u32) -> bool) -> Option<u32> {
        self.order().find_map(|(index, shape)| {
            if let Some(words) = project(&shape.sample, filter) {
                return self.table.find(index, &words).filter(|id| concerns(*id));
            }
            let common = shape.sample.keep(|place| !shape.varies(place));
            let mut members = self.alike(shape.first).filter(|_| overlaps(&common, filter));
            members.find(|id| {
                concerns(*id) && self.get(*id).is_some_and(|other| overlaps(&other, filter))
            })
        })
    }

    /// Whether another filter looks at the same bits.
    pub fn has_shape_of(&self, filter: &Filter) -> bool {
        self.known(filter).is_some()
    }

    /// The newest filter of each shape.
    pub fn newest(&self) -> impl Iterator<Item = u32> {
        self.order().map(|(_, shape)| shape.first).filter(|id| *id != NONE)
    }

    /// Adds a filter; its id.
    pub fn insert(&mut self, filter: &Filter) -> Result<u32, InsertError> {
        let words = filter.words();
        let index = match self.known(filter) {
            Some(index) => index,
            None => self.add_shape(filter)?,
        };
        if let Some(of) = self.table.find(index, &words) {
            return Err(InsertError::Duplicate(of));
        }
        let id = self.free;
        let link = self.links.get_mut(id as usize).ok_or(InsertError::Full)?;
        let slot = self.table.insert(index, &words, id).ok_or(InsertError::Full)?;
        let shape = self.shapes.get_mut(usize::from(index)).ok_or(InsertError::TooManyShapes)?;
        self.stale |= shape.widen(&words) || shape.inline;
        shape.members += 1;
        let next = core::mem::replace(&mut shape.first, id);
        self.free = core::mem::replace(link, Link { slot, next, previous: NONE }).next;
        if let Some(next) = self.links.get_mut(next as usize) {
            next.previous = id;
        }
        Ok(id)
    }

    /// Takes the filter with this id out of the set.
    pub fn remove(&mut self, id: u32) -> Option<Filter> {
        let filter = self.get(id)?;
        let free = Link { next: self.free, ..Link::FREE };
        let Link { slot, next, previous } =
            core::mem::replace(self.links.get_mut(id as usize)?, free);
        let (index, _) = self.table.content(slot)?;
        self.table.remove(slot);
        let shape = self.shapes.get_mut(usize::from(index))?;
        shape.members -= 1;
        self.stale |= shape.inline || shape.members == 0;
        match self.links.get_mut(previous as usize) {
            Some(link) => link.next = next,
            None => shape.first = next,
        }
        if let Some(link) = self.links.get_mut(next as usize) {
            link.previous = previous;
        }
        self.free = id;
        Some(filter)
    }

    /// Whether emitted code no longer does what trying every filter in turn does.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Writes a function that tells the id of the filter that gets a packet, as x86-64 machine code,
    /// to the front of `buffer`. Returns its length in bytes.
    ///
    /// The code has the type [`Classifier`](crate::Classifier) and can run at any address. It
    /// reads the packet and [the table](FilterSet::table), writes no memory but its stack, of which
    /// it uses 32 bytes beside its return address, and changes only the registers that a function
    /// may change. A buffer of [`code_for`](crate::code_for) the shapes is always large enough.
    ///
    /// Once this has succeeded, the set must not be changed again until no reader uses the code of
    /// before.
    pub fn compile(&mut self, buffer: &mut [u8]) -> Result<usize, BufferTooSmall> {
        self.compile_traced(buffer, &mut |_, _| ())
    }

    /// The same, and says what each part of the code does, and at which byte it begins.
    pub fn compile_traced(
        &mut self,
        buffer: &mut [u8],
        trace: &mut dyn FnMut(usize, Step<'_>),
    ) -> Result<usize, BufferTooSmall> {
        let needed = code_for(self.used);
        if buffer.len() < needed {
            return Err(BufferTooSmall { needed });
        }
        self.tidy();
        let length =
            Lowering { set: self, assembler: Assembler::new(buffer, self), trace }.all()?;
        self.stale = false;
        Ok(length)
    }

    /// What emitted code wants as its last argument. It may be used as long as the lines are there.
    pub fn table(&self) -> *const Line {
        self.table.start()
    }

    pub(crate) fn hash_table(&self) -> &Table<'m> {
        &self.table
    }

    /// The shapes that are used with their indices, by precedence.
    pub(crate) fn order(&self) -> impl Iterator<Item = (u8, &Shape)> {
        let used = self.order.iter().take(self.used);
        used.filter_map(|index| Some((*index, self.shapes.get(usize::from(*index))?)))
    }

    pub(crate) fn shape(&self, index: u8) -> &Shape {
        self.shapes.get(usize::from(index)).unwrap_or(&Shape::FREE)
    }

    /// The words of the filter with this id.
    pub(crate) fn words(&self, id: u32) -> Option<Words> {
        Some(self.table.content(self.links.get(id as usize)?.slot)?.1)
    }

    /// The shape of a filter, if there is one.
    fn known(&self, filter: &Filter) -> Option<u8> {
        self.order().find(|(_, shape)| shape.is_of(filter)).map(|(index, _)| index)
    }

    /// Finds a place for the shape of a filter, and one in the order.
    fn add_shape(&mut self, filter: &Filter) -> Result<u8, InsertError> {
        if self.free == NONE {
            return Err(InsertError::Full);
        }
        let unused = |index: &u8| !self.order.iter().take(self.used).any(|other| other == index);
        let room = self.shapes.len().min(usize::from(FREE)) as u8;
        let index = (0..room).find(unused).ok_or(InsertError::TooManyShapes)?;
        let before = |(_, shape): &(u8, &Shape)| shape.sample.precedence(filter).is_lt();
        let place = self.order().take_while(before).count();
        let shape = self.shapes.get_mut(usize::from(index)).ok_or(InsertError::TooManyShapes)?;
        *shape = Shape { sample: *filter, ..Shape::FREE };
        let tail = self.order.get_mut(place..=self.used).ok_or(InsertError::TooManyShapes)?;
        tail.rotate_right(1);
        if let Some(first) = tail.first_mut() {
            *first = index;
        }
        self.used += 1;
        self.stale = true;
        Ok(index)
    }

    /// Forgets the shapes that no filter has, and decides of each other how it is looked up.
    fn tidy(&mut self) {
        let mut kept = 0;
        for place in 0..self.used {
            let index = self.order.get(place).copied().unwrap_or(FREE);
            let Some(shape) = self.shapes.get(usize::from(index)) else { continue };
            if shape.members == 0 {
                continue;
            }
            let mut fresh = Shape { inline: shape.members <= INLINE, ..shape.clone() };
            if fresh.inline {
                let mut values = self.alike(shape.first).filter_map(|id| self.words(id));
                let first = values.next().unwrap_or_default();
                fresh.sample = fresh.sample.with_words(&first);
                fresh.varies = 0;
                values.for_each(|words| {
                    fresh.widen(&words);
                });
            }
            if let Some(shape) = self.shapes.get_mut(usize::from(index)) {
                *shape = fresh;
            }
            if let Some(place) = self.order.get_mut(kept) {
                *place = index;
            }
            kept += 1;
        }
        self.used = kept;
    }
}
