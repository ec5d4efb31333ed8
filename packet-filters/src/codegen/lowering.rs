//! From the shapes to instructions: the merge tree.
//!
//! Shapes are tried by precedence, so the first that has a filter for the packet decides. Neighbours
//! whose filters all want the same at the next place share the test of it; a shape between them may
//! be left for later if it wants something else there, since no packet passes both.
//!
//! Code falls through: control reaches the end of what was emitted for a test if nothing behind it
//! matched, whether or not it held. So a test that fails jumps there, and nothing has to be
//! remembered at run time but the base, one register for each shift.

use super::assembler::Assembler;
use super::code::Label;
use super::{BufferTooSmall, Step};
use crate::atom::Atom;
use crate::filter::MAX_SHIFTS;
use crate::overlap::conflicts;
use crate::set::FilterSet;
use crate::shape::Shape;
use crate::table::FREE;

/// A shape, and the place of the first of its atoms that has not been tested.
#[derive(Clone, Copy, Default)]
struct Member {
    shape: u8,
    place: usize,
}

/// What is known about the base at one place in the code.
#[derive(Clone, Copy, Default)]
struct Base {
    /// How many shifts led here; each has its register.
    level: u8,
    /// How many bytes from each base are known to lie in the packet.
    checked: [u32; MAX_SHIFTS + 1],
}

/// The code of a set as it is made.
pub(crate) struct Lowering<'a, 'b> {
    pub(crate) set: &'a FilterSet<'a>,
    pub(crate) assembler: Assembler<'b>,
    pub(crate) trace: &'a mut dyn FnMut(usize, Step<'_>),
}

impl Lowering<'_, '_> {
    /// Emits everything; the length.
    pub(crate) fn all(mut self) -> Result<usize, BufferTooSmall> {
        let mut members = [Member::default(); FREE as usize];
        let order = self.set.order().map(|(shape, _)| Member { shape, place: 0 });
        let used = members.iter_mut().zip(order).map(|(place, member)| *place = member).count();
        let hashed = self.set.order().any(|(_, shape)| !shape.inline);
        self.assembler.prologue(hashed);
        self.branch(members.get_mut(..used).unwrap_or_default(), Base::default(), true);
        self.assembler.epilogue()
    }

    /// Emits the code of a branch of the tree, behind which there may be `nothing` else to try. The
    /// recursion takes one atom of each member at each step.
    fn branch(&mut self, mut rest: &mut [Member], base: Base, nothing: bool) {
        while let Some(first) = rest.first() {
            let Some((_, test)) = self.next(first) else {
                self.leaf(first.shape, base);
                rest = rest.split_at_mut(1).1;
                continue;
            };
            let shared = self.share(rest, &test);
            let (group, others) = rest.split_at_mut(shared);
            self.test(&test, group, base, nothing && others.is_empty());
            rest = others;
        }
    }

    /// The next atom that is the same in all filters of the member's shape.
    fn next(&self, member: &Member) -> Option<(usize, Atom)> {
        let shape = self.set.shape(member.shape);
        let mut atoms = shape.sample.atoms().iter().copied().enumerate().skip(member.place);
        atoms.find(|(place, _)| !shape.varies(*place))
    }

    /// Brings those of the members to the front that can share the test of the first; how many.
    fn share(&self, members: &mut [Member], test: &Atom) -> usize {
        let mut shared = 0;
        for place in 0..members.len() {
            match members.get(place).and_then(|member| self.next(member)) {
                Some((_, next)) if next == *test => {
                    if let Some(between) = members.get_mut(shared..=place) {
                        between.rotate_right(1);
                    }
                    shared += 1;
                }
                Some((_, next)) if conflicts(&[*test], &[next]) => {}
                _ => break,
            }
        }
        shared
    }

    /// One length check for all that the group has in common, the test, and what is behind it.
    fn test(&mut self, test: &Atom, group: &mut [Member], mut base: Base, nothing: bool) {
        (self.trace)(self.assembler.code.position(), Step::Test(*test));
        let mut exit = Label::new();
        let level = base.level;
        let reach = group.iter().map(|member| self.reach(member.shape, level)).min();
        self.check(&mut base, level, reach.unwrap_or(0), &mut exit);
        for member in group.iter_mut() {
            member.place = self.next(member).map_or(0, |(place, _)| place + 1);
        }
        let only = group.first().filter(|only| nothing && self.next(only).is_none());
        match (*test, only) {
            // The last test of all decides without a jump, which nobody could foretell.
            (Atom::Compare { .. }, Some(only)) if self.is_single(only.shape) => {
                self.trace_shape(only.shape);
                self.assembler.accept_if(level, test, self.set.shape(only.shape).first);
            }
            (Atom::Compare { .. }, _) => {
                self.assembler.test(level, test, &mut exit);
                self.branch(group, base, nothing);
            }
            (Atom::Shift { offset, mask, shift }, _) => {
                self.assembler.shift_base(level, offset, mask, shift);
                base.level += 1;
                self.branch(group, base, nothing);
            }
        }
        self.assembler.code.bind(exit);
        (self.trace)(self.assembler.code.position(), Step::End);
    }

    /// Tells the filters of one shape apart.
    fn leaf(&mut self, index: u8, mut base: Base) {
        let (set, shape) = (self.set, self.set.shape(index));
        self.trace_shape(index);
        let mut exit = Label::new();
        for (level, place, atom) in fields(shape) {
            if shape.varies(place) {
                self.check(&mut base, level, atom.end(), &mut exit);
            }
        }
        let open = fields(shape).filter(|(_, place, _)| shape.varies(*place));
        if !shape.inline {
            let words = shape.sample.words();
            self.assembler.look_up(set.hash_table(), index, &words, open, &mut exit);
            return self.assembler.code.bind(exit);
        }
        for id in set.alike(shape.first) {
            let mut other = Label::new();
            let words = set.words(id).unwrap_or_default();
            for (level, place, atom) in open.clone() {
                let key = words.get(place).copied().unwrap_or(0);
                self.assembler.test(level, &atom.with_key(key), &mut other);
            }
            self.assembler.accept(id);
            self.assembler.code.bind(other);
        }
        self.assembler.code.bind(exit);
    }

    /// Whether a shape is that of one filter, all of which is in the code.
    fn is_single(&self, shape: u8) -> bool {
        let shape = self.set.shape(shape);
        shape.inline && shape.members == 1
    }

    fn trace_shape(&mut self, index: u8) {
        (self.trace)(self.assembler.code.position(), Step::Shape(self.set.shape(index)));
    }

    /// Sees to it that so many bytes from a base are in the packet.
    fn check(&mut self, base: &mut Base, level: u8, reach: u32, short: &mut Label) {
        if let Some(checked) = base.checked.get_mut(usize::from(level))
            && *checked < reach
        {
            self.assembler.check_length(level, reach, short);
            *checked = reach;
        }
    }

    /// How many bytes from the base of a level every filter of a shape needs before it can match.
    /// Offsets behind a later shift count too, since a base never moves back.
    fn reach(&self, shape: u8, level: u8) -> u32 {
        let fields = fields(self.set.shape(shape)).filter(|(own, ..)| *own >= level);
        fields.map(|(.., atom)| atom.end()).max().unwrap_or(0)
    }
}

/// The atoms of a shape, each with its level and place.
fn fields(shape: &Shape) -> impl Iterator<Item = (u8, usize, Atom)> + Clone {
    let atoms = shape.sample.atoms().iter().copied().enumerate();
    atoms.scan(0, |level, (place, atom)| {
        let own = *level;
        *level += u8::from(matches!(atom, Atom::Shift { .. }));
        Some((own, place, atom))
    })
}
