//! What filters have in common that look at the same bits.

use crate::filter::{Filter, Words};

/// Filters up to this many that look at the same bits are compared one after the other, with
/// their values in the code; more are looked up in the table.
pub(crate) const INLINE: u32 = 4;

/// The end of a list of filters.
pub(crate) const NONE: u32 = u32::MAX;

/// One shape of a [`FilterSet`](crate::FilterSet): the filters that look at the same bits.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What all of the filters look at; where they want the same, also that.
    pub sample: Filter,
    /// The atoms of which the values differ, or differed when the code was made, as bits by place.
    pub varies: u16,
    /// How many there are.
    pub members: u32,
    /// The id of the first of them.
    pub first: u32,
    /// Whether their values are in the code, compared with one after the other.
    pub inline: bool,
}

/// What a [`FilterSet`](crate::FilterSet) keeps for each id that it may give.
#[derive(Clone, Debug)]
pub struct Link {
    /// Where in the table the filter is.
    pub(crate) slot: u32,
    /// The next filter of the same shape, or the next free id.
    pub(crate) next: u32,
    pub(crate) previous: u32,
}

impl Link {
    /// A place that is free.
    pub const FREE: Link = Link { slot: NONE, next: NONE, previous: NONE };
}

impl Shape {
    /// A place that is free.
    pub const FREE: Shape =
        Shape { sample: Filter::ANY, varies: 0, members: 0, first: NONE, inline: true };

    pub(crate) fn is_of(&self, filter: &Filter) -> bool {
        self.sample.fields().eq(filter.fields())
    }

    pub(crate) fn varies(&self, place: usize) -> bool {
        self.varies >> place & 1 != 0
    }

    /// Takes note of the values of a new member; whether fewer are the same in all than before.
    pub(crate) fn widen(&mut self, words: &Words) -> bool {
        let before = self.varies;
        for (place, (word, other)) in self.sample.words().iter().zip(words).enumerate() {
            self.varies |= u16::from(word != other) << place;
        }
        self.varies != before
    }
}
