//! A tree of runs of pages.

use super::{Entry, InWired, PageIndex, PageTable, Protection, TableFull, USED_FACTOR};
use crate::memory::wired::{AREA_PAGES, WiredMemory};
use core::fmt;
use core::ops::Range;
use exo_user::Error;

/// A run of pages, as a node of the tree. What it holds is the table's own affair.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    first: u32,
    count: u32,
    /// The entry of the first page. Those of the others follow from it.
    entry: u32,
    left: u32,
    right: u32,
}

/// No node.
const NIL: u32 = u32::MAX;

impl Extent {
    fn end(&self) -> u32 {
        self.first + self.count
    }

    /// The word of a page, which may be the one behind the last.
    fn entry_at(&self, page: u32) -> Entry {
        Entry::from_word(self.entry).advanced(page - self.first)
    }
}

/// A page table for huge and mostly empty spaces: pages that follow one another, and whose places
/// do too, are one node, however many they are; so is a reserved or guarded range.
///
/// The nodes are a treap, a search tree whose shape is that of random insertions (R. Seidel and
/// C. R. Aragon, *Randomized search trees*, Algorithmica 16, 1996). Its depth is logarithmic with
/// overwhelming probability.
///
/// How many nodes there may be in the worst case follows from what is populated: a node for each
/// populated page, and one for each run of protected pages without contents. A change that could
/// lead beyond is refused where that is allowed, so that all others find a node.
pub struct Extents<'a> {
    nodes: &'a mut [Extent],
    pages: u32,
    root: u32,
    /// Head of the list of unused nodes, linked through `right`.
    unused: u32,
    used: usize,
    /// Pages that are somewhere.
    populated: usize,
    /// Nodes of pages without contents.
    bare: usize,
}

impl<'a> Extents<'a> {
    /// An empty table for the first `pages` pages.
    pub fn new(nodes: &'a mut [Extent], pages: u32) -> Self {
        let count = nodes.len() as u32;
        for (index, node) in (0..).zip(nodes.iter_mut()) {
            *node = Extent { right: if index + 1 < count { index + 1 } else { NIL }, ..*node };
        }
        let unused = if count == 0 { NIL } else { 0 };
        Self { nodes, pages, root: NIL, unused, used: 0, populated: 0, bare: 0 }
    }

    /// How many runs there are.
    pub fn runs(&self) -> usize {
        self.used
    }

    fn node(&self, index: u32) -> Option<&Extent> {
        self.nodes.get(index as usize)
    }

    /// The priority of a node: a hash of its index, of which all bits depend on all.
    fn priority(index: u32) -> u32 {
        let mixed = (index ^ index >> 16).wrapping_mul(0x7feb_352d);
        let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x846c_a68b);
        mixed ^ mixed >> 16
    }

    /// The run that contains the page, or else the first one behind it.
    fn at_or_after(&self, page: u32) -> Option<&Extent> {
        let (mut index, mut found) = (self.root, None);
        while let Some(node) = self.node(index) {
            if page < node.end() {
                found = Some(node);
                if node.first <= page {
                    break;
                }
                index = node.left;
            } else {
                index = node.right;
            }
        }
        found
    }

    fn take(&mut self, extent: Extent) -> u32 {
        let index = self.unused;
        let Some(node) = self.nodes.get_mut(index as usize) else { return NIL };
        self.unused = node.right;
        *node = Extent { left: NIL, right: NIL, ..extent };
        self.used += 1;
        self.count(index, 1);
        index
    }

    fn release(&mut self, index: u32) {
        self.count(index, -1);
        self.nodes[index as usize].right = self.unused;
        self.unused = index;
        self.used -= 1;
    }

    /// Counts a node in, or out.
    fn count(&mut self, index: u32, sign: isize) {
        let node = self.nodes[index as usize];
        let (populated, bare) = match Entry::from_word(node.entry).is_populated() {
            true => (node.count as isize, 0),
            false => (0, 1),
        };
        self.populated = self.populated.wrapping_add_signed(sign * populated);
        self.bare = self.bare.wrapping_add_signed(sign * bare);
    }

    /// Splits a tree into the runs that start before a page and the others.
    fn split(&mut self, tree: u32, page: u32) -> (u32, u32) {
        let Some(&node) = self.node(tree) else { return (NIL, NIL) };
        if node.first < page {
            let (left, right) = self.split(node.right, page);
            self.nodes[tree as usize].right = left;
            (tree, right)
        } else {
            let (left, right) = self.split(node.left, page);
            self.nodes[tree as usize].left = right;
            (left, tree)
        }
    }

    /// Joins two trees, all of whose runs are in order.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        match (self.node(left).copied(), self.node(right).copied()) {
            (None, _) => right,
            (_, None) => left,
            (Some(a), Some(b)) => {
                if Self::priority(left) > Self::priority(right) {
                    self.nodes[left as usize].right = self.join(a.right, right);
                    left
                } else {
                    self.nodes[right as usize].left = self.join(left, b.left);
                    right
                }
            }
        }
    }

    fn last(&self, mut tree: u32) -> u32 {
        while let Some(node) = self.node(tree).filter(|node| node.right != NIL) {
            tree = node.right;
        }
        tree
    }

    fn first(&self, mut tree: u32) -> u32 {
        while let Some(node) = self.node(tree).filter(|node| node.left != NIL) {
            tree = node.left;
        }
        tree
    }

    fn release_all(&mut self, tree: u32) {
        if let Some(&node) = self.node(tree) {
            self.release_all(node.left);
            self.release_all(node.right);
            self.release(tree);
        }
    }

    /// Ends the last run of a tree before a page. Returns what was behind that page.
    fn cut(&mut self, tree: u32, page: u32) -> Option<Extent> {
        let index = self.last(tree);
        let node = *self.node(index).filter(|node| node.end() > page)?;
        self.count(index, -1);
        self.nodes[index as usize].count = page - node.first;
        self.count(index, 1);
        let entry = node.entry_at(page).to_word();
        Some(Extent { first: page, count: node.end() - page, entry, ..node })
    }

    /// Gives a run of pages new entries, which follow from the first one. It may need two nodes more
    /// than before.
    fn replace(&mut self, pages: Range<u32>, entry: Entry) {
        let (left, rest) = self.split(self.root, pages.start);
        let mut tail = self.cut(left, pages.start);
        let (old, mut right) = self.split(rest, pages.end);
        if let Some(behind) = self.cut(old, pages.end) {
            tail = Some(behind);
        } else if let Some(first) = tail
            && first.end() > pages.end
        {
            let entry = first.entry_at(pages.end).to_word();
            tail =
                Some(Extent { first: pages.end, count: first.end() - pages.end, entry, ..first });
        } else {
            tail = None;
        }
        self.release_all(old);
        if let Some(tail) = tail {
            let node = self.take(tail);
            right = self.join(node, right);
        }
        let middle = self.grown(left, &mut right, pages, entry);
        let left = self.join(left, middle);
        self.root = self.join(left, right);
    }

    /// A node for a run, unless it continues the last of `left`; what continues it goes into it.
    fn grown(&mut self, left: u32, right: &mut u32, pages: Range<u32>, entry: Entry) -> u32 {
        if entry == Entry::default() {
            return NIL;
        }
        let mut count = pages.end - pages.start;
        if let Some(&next) = self.node(self.first(*right))
            && next.first == pages.end
            && Entry::from_word(next.entry) == entry.advanced(count)
        {
            count += next.count;
            let (joined, others) = self.split(*right, next.end());
            self.release_all(joined);
            *right = others;
        }
        let before = self.last(left);
        match self.node(before) {
            Some(node) if node.end() == pages.start && node.entry_at(pages.start) == entry => {
                self.count(before, -1);
                self.nodes[before as usize].count += count;
                self.count(before, 1);
                NIL
            }
            _ => self.take(Extent {
                first: pages.start,
                count,
                entry: entry.to_word(),
                ..Extent::default()
            }),
        }
    }

    /// Whether a page has no neighbours with which it could form a run; then the node that is its alone,
    /// if there is one. Pages that are scattered are found so, and no tree has to be taken apart.
    fn alone(&self, page: u32) -> Option<u32> {
        let touches = |node: &Extent| node.end() == page || node.first == page + 1;
        let mut index = self.root;
        while let Some(node) = self.node(index) {
            if touches(node) {
                return None;
            } else if page < node.first {
                index = node.left;
            } else if page >= node.end() {
                index = node.right;
            } else {
                break;
            }
        }
        let Some(&node) = self.node(index) else { return Some(NIL) };
        let before = self.node(self.last(node.left)).is_some_and(touches);
        let behind = self.node(self.first(node.right)).is_some_and(touches);
        (node.count == 1 && !before && !behind).then_some(index)
    }

    /// Puts a node into a tree, where no run has its pages.
    fn insert(&mut self, tree: u32, new: u32) -> u32 {
        let first = self.nodes[new as usize].first;
        match self.node(tree).copied() {
            Some(node) if Self::priority(tree) > Self::priority(new) => {
                if first < node.first {
                    self.nodes[tree as usize].left = self.insert(node.left, new);
                } else {
                    self.nodes[tree as usize].right = self.insert(node.right, new);
                }
                tree
            }
            _ => {
                let (left, right) = self.split(tree, first);
                let node = &mut self.nodes[new as usize];
                (node.left, node.right) = (left, right);
                new
            }
        }
    }

    /// Whether two more runs can be described, whatever else changes afterwards.
    fn has_room(&self) -> bool {
        self.populated + self.bare + 2 <= self.nodes.len()
    }

    /// Whether a piece without contents can get another protection. Only what is taken from an end
    /// of its run, and described no more, needs no room.
    fn has_room_for(&self, piece: &Range<u32>, entry: Entry) -> bool {
        let inside = |extent: &Extent| extent.first < piece.start && piece.end < extent.end();
        let ends = entry == Entry::default() && !self.at_or_after(piece.start).is_some_and(inside);
        ends || self.has_room()
    }

    /// The next piece of a range whose entries follow from the first, and that first entry.
    fn piece(&self, pages: &Range<u32>) -> (Range<u32>, Entry) {
        match self.at_or_after(pages.start).filter(|extent| extent.first < pages.end) {
            Some(extent) if extent.first <= pages.start => {
                (pages.start..pages.end.min(extent.end()), extent.entry_at(pages.start))
            }
            Some(extent) => (pages.start..extent.first, Entry::default()),
            None => (pages.clone(), Entry::default()),
        }
    }
}

impl fmt::Debug for Extents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extents").field("runs", &self.used).finish_non_exhaustive()
    }
}

impl PageTable for Extents<'_> {
    fn pages(&self) -> u32 {
        self.pages
    }

    fn get(&self, page: PageIndex) -> Entry {
        let extent = self.at_or_after(page.0).filter(|extent| extent.first <= page.0);
        extent.map_or(Entry::default(), |extent| extent.entry_at(page.0))
    }

    fn set(&mut self, page: PageIndex, entry: Entry) -> Result<(), TableFull> {
        let before = self.get(page);
        if page.0 >= self.pages || before == entry {
            return Ok(());
        }
        let pages = page.0..page.0 + 1;
        if !before.is_populated() && !self.has_room_for(&pages, entry) {
            return Err(TableFull);
        }
        match self.alone(page.0).filter(|_| entry != Entry::default()) {
            Some(NIL) => {
                let word = entry.to_word();
                let extent = Extent { first: page.0, count: 1, entry: word, ..Extent::default() };
                let node = self.take(extent);
                self.root = self.insert(self.root, node);
            }
            Some(node) => {
                self.count(node, -1);
                self.nodes[node as usize].entry = entry.to_word();
                self.count(node, 1);
            }
            None => self.replace(pages, entry),
        }
        Ok(())
    }

    fn next(&self, pages: Range<u32>) -> Option<PageIndex> {
        let extent = self.at_or_after(pages.start)?;
        let page = extent.first.max(pages.start);
        (page < pages.end).then_some(PageIndex(page))
    }

    fn protect(&mut self, pages: Range<u32>, protection: Protection) -> Result<(), TableFull> {
        let mut rest = pages.start..pages.end.min(self.pages);
        while !rest.is_empty() {
            let (piece, entry) = self.piece(&rest);
            rest.start = piece.end;
            if entry.protection != protection {
                let changed = Entry { protection, ..entry };
                if !entry.is_populated() && !self.has_room_for(&piece, changed) {
                    return Err(TableFull);
                }
                self.replace(piece, changed);
            }
        }
        Ok(())
    }
}

impl InWired for Extents<'static> {
    fn in_wired(memory: &mut WiredMemory, frames: usize) -> Result<Self, Error> {
        let nodes = memory.slice(frames * USED_FACTOR, Extent::default)?;
        Ok(Self::new(nodes, AREA_PAGES))
    }
}
