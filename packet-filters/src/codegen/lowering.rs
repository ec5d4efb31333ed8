//! From the tree to instructions.
//!
//! Code for a branch falls through: whether or not something matched, control reaches the end of
//! what was emitted for it, with the best rank so far in rax. So a group that fails jumps to its
//! own end, where the next group of the same branch begins. Each node of the tree has one parent,
//! hence nothing has to be remembered at run time but the base, one register for each shift.

use super::assembler::Assembler;
use super::code::{Condition, Label};
use crate::atom::Shape;
use crate::branch::{Branch, Group};

/// What is known about the base at one place in the code.
#[derive(Clone, Copy)]
pub(crate) struct Base {
    /// How many shifts led here; each has its register.
    level: u8,
    /// How many bytes from the base are known to lie in the packet.
    checked: u32,
}

impl Base {
    /// The first byte of the packet, nothing checked.
    pub(crate) const START: Base = Base { level: 0, checked: 0 };
}

/// Emits the code of a branch.
///
/// The recursion is bounded: each step of [`choose`] halves a group, each other step uses up one
/// atom of all members.
pub(crate) fn branch(code: &mut Assembler<'_>, branch: &Branch<'_>, base: Base) {
    if let Some(entry) = branch.end() {
        code.keep_higher(entry.rank());
    }
    for members in branch.groups() {
        group(code, &members, base);
    }
}

/// One length check for all that the members have in common, one load, then the choice.
fn group(code: &mut Assembler<'_>, group: &Group<'_>, mut base: Base) {
    let mut exit = Label::default();
    let reach = group.reach();
    if reach > base.checked {
        code.check_length(base.level, reach, &mut exit);
        base.checked = reach;
    }
    match group.shape {
        Shape::Compare { offset, width, mask } => {
            code.load(base.level, offset, width);
            if mask != width.full_mask() {
                code.mask(width.memory_order(mask));
            }
            choose(code, group, base, &mut exit);
        }
        Shape::Shift { offset, mask, shift } => {
            code.shift_base(base.level, offset, mask, shift);
            let base = Base { level: base.level + 1, checked: 0 };
            branch(code, &group.all(), base);
        }
    }
    code.bind(exit);
}

/// Searches the loaded value among those of the group.
fn choose(code: &mut Assembler<'_>, group: &Group<'_>, base: Base, exit: &mut Label) {
    let Some(split) = group.split() else {
        return;
    };
    let (mut below, mut above) = (Label::default(), Label::default());
    code.compare(split.key);
    match (split.below.is_empty(), split.above.is_empty()) {
        (true, true) => code.jump_if(Condition::NotEqual, exit),
        (low_empty, high_empty) => {
            code.jump_if(Condition::Below, if low_empty { exit } else { &mut below });
            code.jump_if(Condition::Above, if high_empty { exit } else { &mut above });
        }
    }
    branch(code, &split.equal, base);
    for (side, label) in [(&split.below, below), (&split.above, above)] {
        if !side.is_empty() {
            code.jump(exit);
            code.bind(label);
            choose(code, side, base, exit);
        }
    }
}
