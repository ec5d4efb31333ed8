//! Binding pages to frames, and answering misses of the hardware.

use crate::frame::{FrameTable, Link};
use crate::memory::{FrameMemory, TranslationCache};
use crate::space::Space;
use crate::tables::{self, ACCESSED, BOUND, Change, DIRTY, LEAF_ENTRIES, PRESENT};
use crate::tlb::{Entry, GROUP_SPAN, LOST, Place, Tlb, VALID, rights_in};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use exo_abi::layout::{USER_END, USER_START};
use exo_abi::name::PAGE_SIZE;
use exo_abi::request::BindRequest;
use exo_abi::upcall::FaultCode;
use exo_abi::{CapabilityName, Error, FrameNumber, Rights};

/// All frames and all address spaces.
pub struct Bindings<'a, M> {
    /// The memory that the frames are, and the hardware that caches translations.
    pub(crate) machine: &'a M,
    /// The frame table.
    pub frames: FrameTable<'a>,
    pub(crate) spaces: &'a mut [Option<Space>],
}

/// The flushes of one call. After so many pages, one flush of the whole space costs less.
pub(crate) struct Shootdown<'m, C> {
    cache: &'m C,
    root: FrameNumber,
    pages: u32,
}

const FLUSH_PAGES: u32 = 32;

impl<'m, C: TranslationCache> Shootdown<'m, C> {
    pub(crate) fn new(cache: &'m C, root: FrameNumber) -> Self {
        Self { cache, root, pages: 0 }
    }

    /// Takes a hardware entry away and returns what it was.
    pub(crate) fn clear(&mut self, entry: &AtomicU64, page: u64) -> u64 {
        if entry.load(Relaxed) == 0 {
            return 0;
        }
        let old = entry.swap(0, Relaxed);
        if old & PRESENT != 0 {
            self.forget(page);
        }
        old
    }

    /// Makes the CPUs forget a page whose entry allows less than it did.
    fn forget(&mut self, page: u64) {
        self.pages += 1;
        if self.pages <= FLUSH_PAGES {
            self.cache.flush(self.root, page);
        }
    }

    /// After this no CPU uses what was taken away.
    pub(crate) fn finish(self) {
        if self.pages > FLUSH_PAGES {
            self.cache.flush_space(self.root);
        }
    }
}

/// Whether `page` is the address of a page that can be bound.
fn check_page(page: u64) -> Result<(), Error> {
    if page.is_multiple_of(PAGE_SIZE) && (USER_START..USER_END).contains(&page) {
        Ok(())
    } else {
        Err(Error::BadAddress)
    }
}

/// Whether so many pages from an address on can be bound. Returns where they end.
///
/// # Errors
/// [`Error::BadAddress`].
pub fn check_pages(page: u64, count: u64) -> Result<u64, Error> {
    check_page(page)?;
    let end = count.checked_mul(PAGE_SIZE).and_then(|length| page.checked_add(length));
    end.filter(|&end| end <= USER_END).ok_or(Error::BadAddress)
}

/// Whether a page can have these rights. The hardware cannot forbid to read what may be written or
/// executed; no rights at all is a guard page.
fn check_rights(rights: Rights) -> Result<(), Error> {
    let beyond_reading = rights.intersects(Rights::WRITE | Rights::EXECUTE);
    if !Rights::PAGE.contains(rights) || beyond_reading && !rights.contains(Rights::READ) {
        return Err(Error::BadArgument);
    }
    if rights.contains(Rights::WRITE | Rights::EXECUTE) {
        return Err(Error::WriteExecute);
    }
    Ok(())
}

/// What an access needs, and what the hardware notes about it.
fn needed(access: FaultCode) -> (Rights, u64) {
    if access.contains(FaultCode::WRITE) {
        (Rights::WRITE, ACCESSED | DIRTY)
    } else if access.contains(FaultCode::FETCH) {
        (Rights::EXECUTE, ACCESSED)
    } else {
        (Rights::READ, ACCESSED)
    }
}

/// The hardware entry that answers an access, from a page's entry in the software TLB; or why the
/// access is refused. Everything about rights is in `head`, the entry's first word, read once.
fn wanted_entry(entry: Entry<'_>, head: u64, access: FaultCode) -> Result<u64, FaultCode> {
    if head & (VALID | LOST) == LOST {
        return Err(access | FaultCode::LOST);
    }
    let (needed, used) = needed(access);
    let rights = rights_in(head);
    if head & VALID == 0 || !rights.contains(needed) {
        return Err(access | FaultCode::PROTECTION);
    }
    let new = tables::binding_entry(entry.target().0, entry.granted(), rights);
    Ok(new | used | entry.remembered())
}

/// Answers an access from the entry that the hardware has: it remembers one that allowed less, or
/// objects to something else.
fn refresh(
    m: &impl TranslationCache,
    (root, page): (FrameNumber, u64),
    hardware: &AtomicU64,
    old: u64,
    access: FaultCode,
) -> Result<(), FaultCode> {
    if !tables::allows(old, access) {
        return Err(access | FaultCode::PROTECTION);
    }
    let (_, used) = needed(access);
    // If it has changed meanwhile, the access faults again.
    let _ = hardware.compare_exchange(old, old | used, Relaxed, Relaxed);
    m.flush(root, page);
    Ok(())
}

/// What came of an attempt to answer a page fault without the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refill {
    /// The hardware has the entry.
    Done,
    /// The access is not allowed, or the page is not bound.
    Refused(FaultCode),
    /// A table is missing: see [`Bindings::refill`].
    TableMissing,
}

/// Why an access is refused, if the hardware's entry in this leaf table is enough to say so.
#[inline]
pub fn refused(
    m: &impl FrameMemory,
    leaf: FrameNumber,
    address: u64,
    access: FaultCode,
) -> Option<FaultCode> {
    let entry = m.page(leaf)[tables::index(address, 0)].load(Relaxed);
    (entry != 0 && !tables::allows(entry, access)).then_some(access | FaultCode::PROTECTION)
}

/// As [`Bindings::refill`], for the address space that is current on this CPU, while others may
/// change it. If its tables suffice, nothing else is needed.
///
/// Whoever takes a binding away first clears the entry of the software TLB, then that of the
/// hardware. Here the hardware's is set first, and the other looked at again: if the binding has
/// gone meanwhile, one of the two sees it.
///
/// `leaf` is the page's leaf table, as [`leaf_table`] has it.
#[inline(always)]
pub fn refill<M: FrameMemory + TranslationCache>(
    m: &M,
    (root, leaf, tlb): (FrameNumber, Option<FrameNumber>, Tlb),
    address: u64,
    access: FaultCode,
) -> Refill {
    if !(USER_START..USER_END).contains(&address) {
        return Refill::Refused(access | FaultCode::PROTECTION);
    }
    let page = address & !(PAGE_SIZE - 1);
    let hardware = leaf.map(|leaf| &m.page(leaf)[tables::index(page, 0)]);
    if let Some(hardware) = hardware {
        let old = hardware.load(Relaxed);
        if old != 0 {
            let done = refresh(m, (root, page), hardware, old, access);
            return done.map_or_else(Refill::Refused, |()| Refill::Done);
        }
    }
    let Some(Place { entry, .. }) = tlb.find(m, page) else { return Refill::Refused(access) };
    let before = entry.head();
    let new = match wanted_entry(entry, before, access) {
        Ok(new) => new,
        Err(code) => return Refill::Refused(code),
    };
    let Some(hardware) = hardware else { return Refill::TableMissing };
    let set = hardware.compare_exchange(0, new, SeqCst, Relaxed).is_ok();
    // The page may have been bound anew meanwhile, with the same rights to another frame: then only
    // the frame tells.
    if set && (entry.head_again() != before || entry.target().0 != tables::frame_in(new)) {
        hardware.swap(0, Relaxed);
    }
    Refill::Done
}

/// The leaf table of a page, if there is one. It stays one as long as the address space is current and
/// nothing has been flushed of it.
pub fn leaf_table(m: &impl FrameMemory, root: FrameNumber, page: u64) -> Option<FrameNumber> {
    tables::walk(m, root, page).ok()
}

/// What came of an attempt to give pages other rights without the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protect {
    /// They have them.
    Done,
    /// They have them, and CPUs may remember that they had more: those translations are to be
    /// forgotten.
    Narrowed,
    /// Nothing has changed. [`Bindings::protect`] has to do it, or to say why not.
    Locked,
}

/// Gives pages of the address space that is current on this CPU other rights, without the lock, if all
/// are in one leaf table, which is `leaf`.
///
/// A page whose binding somebody takes away meanwhile is passed over, as if it had gone afterwards.
pub fn protect(
    m: &impl FrameMemory,
    leaf: FrameNumber,
    page: u64,
    count: u64,
    rights: Rights,
) -> Protect {
    let Some(change) = Change::to(rights) else { return Protect::Locked };
    let first = tables::index(page, 0);
    // What programs cannot bind has no leaf table, or no entry in it that is a binding.
    let whole = page.is_multiple_of(PAGE_SIZE);
    if !whole || count == 0 || count > (LEAF_ENTRIES - first) as u64 {
        return Protect::Locked;
    }
    let entries = &m.page(leaf)[first..first + count as usize];
    let (mut all, mut any) = (u64::MAX, 0);
    for entry in entries {
        let word = entry.load(Relaxed);
        all &= word;
        any |= word;
    }
    if !change.is_simple(all, any) {
        return Protect::Locked;
    }
    for entry in entries {
        change_entry(entry, change);
    }
    if change.narrows(all, any) { Protect::Narrowed } else { Protect::Done }
}

/// Gives the binding in an entry other rights, if it is still there. Returns what it was.
#[inline]
fn change_entry(entry: &AtomicU64, change: Change) -> u64 {
    let mut old = entry.load(Relaxed);
    while old & BOUND != 0 {
        match entry.compare_exchange(old, change.apply(old), Relaxed, Relaxed) {
            Ok(_) => break,
            Err(now) => old = now,
        }
    }
    old
}

/// The frame behind an address to which the hardware lets the program write, for a write by the
/// kernel. The write is noted like one by the hardware.
pub fn writable_frame(
    m: &impl FrameMemory,
    root: FrameNumber,
    address: u64,
) -> Option<FrameNumber> {
    if !(USER_START..USER_END).contains(&address) {
        return None;
    }
    let entry = tables::entry(m, root, address)?;
    let word = entry.load(Relaxed);
    let frame = tables::writable_frame(word)?;
    if word & (ACCESSED | DIRTY) != ACCESSED | DIRTY {
        // Only if it still stands: an entry that has gone must not come back in part.
        entry.compare_exchange(word, word | ACCESSED | DIRTY, Relaxed, Relaxed).ok()?;
    }
    Some(frame)
}

impl<'a, M: FrameMemory + TranslationCache> Bindings<'a, M> {
    /// No address spaces yet, as many as there are places in `spaces`.
    pub fn new(machine: &'a M, frames: FrameTable<'a>, spaces: &'a mut [Option<Space>]) -> Self {
        spaces.fill_with(|| None);
        Self { machine, frames, spaces }
    }

    /// The top-level table of environment slot `index`.
    pub fn root(&self, index: u16) -> Option<FrameNumber> {
        Some(self.space(index)?.root)
    }

    /// The software TLB of environment slot `index`.
    pub fn tlb(&self, index: u16) -> Option<Tlb> {
        Some(self.space(index)?.tlb)
    }

    pub(crate) fn space(&self, index: u16) -> Option<&Space> {
        self.spaces.get(usize::from(index))?.as_ref()
    }

    /// An address space, and the frames for it.
    pub(crate) fn split(&mut self, index: u16) -> Option<(&mut Space, &mut FrameTable<'a>)> {
        let space = self.spaces.get_mut(usize::from(index))?.as_mut()?;
        Some((space, &mut self.frames))
    }

    pub(crate) fn space_mut(&mut self, index: u16) -> Option<&mut Space> {
        self.spaces.get_mut(usize::from(index))?.as_mut()
    }

    /// Binds pages to held frames, all or none. A page that is bound is bound anew; of two
    /// requests for one page the last holds. `allow` says whether a request may bind a frame with a
    /// guard; it is asked once for frames in a row with the same. Bindings that are not wired may be
    /// evicted to make place, this batch's own included.
    ///
    /// Hardware entries are made while there is memory for tables; the rest is left to
    /// [`refill`](Self::refill).
    ///
    /// # Errors
    /// [`Error::NoEnvironment`], [`Error::BadAddress`] (page), [`Error::BadArgument`] (rights that
    /// a page cannot have), [`Error::WriteExecute`], [`Error::NoFrame`] (nobody holds it), what
    /// `allow` says, [`Error::TlbFull`].
    pub fn bind_all(
        &mut self,
        index: u16,
        requests: impl Iterator<Item = BindRequest> + Clone,
        allow: impl Fn(&BindRequest, &CapabilityName) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (m, mut wired) = (self.machine, 0);
        let space = self.space(index).ok_or(Error::NoEnvironment)?;
        let (root, tlb) = (space.root, space.tlb);
        for request in requests.clone() {
            let rights = request.rights().ok_or(Error::BadArgument)?;
            check_rights(rights)?;
            check_pages(request.page(), request.count())?;
            let first = FrameNumber(request.frame);
            self.frames.guards(first, request.count(), |guard| allow(&request, guard))?;
            // So many groups at most.
            let groups = request.count().div_ceil(GROUP_SPAN / PAGE_SIZE) + 1;
            wired += if rights.contains(Rights::WIRED) { groups } else { 0 };
        }
        let mut groups = requests.flat_map(|request| request.pieces(GROUP_SPAN));
        let crowded = |group: &BindRequest| !tlb.group(m, group.page()).has_room(wired);
        if groups.clone().any(|group| crowded(&group)) {
            self.claim_all(index, groups.clone().filter(crowded))?;
        }
        let mut shootdown = Shootdown::new(m, root);
        let done = groups.try_for_each(|group| self.insert(index, group, &mut shootdown));
        shootdown.finish();
        done
    }

    /// Makes sure that what these requests want, each within one group, finds places: claims one for
    /// each wired page, and looks that each other page keeps one that may go.
    #[cold]
    #[inline(never)]
    fn claim_all(
        &mut self,
        index: u16,
        requests: impl Iterator<Item = BindRequest> + Clone,
    ) -> Result<(), Error> {
        let m = self.machine;
        let space = self.space(index).ok_or(Error::NoEnvironment)?;
        let (root, tlb, hand) = (space.root, space.tlb, space.hand);
        let mut shootdown = Shootdown::new(m, root);
        let place = |page| tlb.group(m, page).place(page, hand);
        let pages = requests.flat_map(|request| request.pieces(PAGE_SIZE));
        let is_wired =
            |page: &BindRequest| page.rights().unwrap_or_default().contains(Rights::WIRED);
        let wired = pages.clone().filter(is_wired).map(|request| request.page());
        let mut fits = wired.clone().all(|page| {
            let Some(place) = place(page) else { return false };
            if place.entry.page() == page {
                place.entry.claim(None);
            } else {
                self.remove(Link::new(index, place.slot), &mut shootdown);
                place.note_filled();
                place.entry.claim(Some(page));
            }
            true
        });
        fits = fits && pages.clone().all(|request| place(request.page()).is_some());
        shootdown.finish();
        if fits {
            return Ok(());
        }
        for page in wired {
            if let Some(place) = tlb.find(m, page)
                && place.entry.disclaim()
            {
                tlb.empty(m, place.slot);
            }
        }
        Err(Error::TlbFull)
    }

    /// Binds pages of one group, for which everything was checked.
    fn insert(
        &mut self,
        index: u16,
        request: BindRequest,
        shootdown: &mut Shootdown<'_, M>,
    ) -> Result<(), Error> {
        let m = self.machine;
        let (space, frames) = self.split(index).ok_or(Error::NoEnvironment)?;
        space.hand = space.hand.wrapping_add(1);
        let (tlb, hand) = (space.tlb, space.hand);
        let (first, rights) = (request.page(), request.rights().unwrap_or_default());
        let group = tlb.group(m, first);
        // All pages of a group have the same leaf table.
        let leaf = space.leaf(m, frames, first, false);
        let entry_bits = tables::binding_entry(FrameNumber(0), rights, rights);
        for at in 0..=u32::from(request.more) {
            let (page, frame) =
                (first + u64::from(at) * PAGE_SIZE, FrameNumber(request.frame + at));
            let place = group.place(page, hand).ok_or(Error::TlbFull)?;
            let (slot, entry) = (place.slot, place.entry);
            let link = Link::new(index, slot);
            if entry.head() != 0 {
                self.remove(link, shootdown);
            }
            let (generation, next) = self.frames.chain_in(frame, link).ok_or(Error::NoFrame)?;
            if next != Link::NONE
                && let Some(neighbour) = self.entry_at(next)
            {
                neighbour.set_links(neighbour.links().0, link);
            }
            place.note_filled();
            entry.bind(page, (frame, generation), rights, next);
            if let Some(leaf) = leaf {
                // The old entry, if there was one, went with the old binding. One that stands here
                // comes from a refill on another CPU, and may have noted a write already.
                let new = entry_bits | frame.address();
                let _ = leaf[tables::index(page, 0)].compare_exchange(0, new, Relaxed, Relaxed);
            }
        }
        Ok(())
    }

    /// Takes a binding away: from the hardware, the chain of its frame, the software TLB. Entries
    /// that are no bindings are emptied.
    pub(crate) fn remove(&mut self, link: Link, shootdown: &mut Shootdown<'_, M>) {
        let m = self.machine;
        let Some(space) = self.space_mut(link.space()) else { return };
        let (tlb, entry) = (space.tlb, space.tlb.entry(m, link.slot()));
        if entry.is_valid() {
            let page = entry.page();
            // First the software TLB, then the hardware: see `refill`.
            entry.invalidate();
            if let Some(hardware) = tables::entry(m, space.root, page) {
                shootdown.clear(hardware, page);
            }
            self.unchain(entry);
        }
        tlb.empty(m, link.slot());
    }

    /// Takes a binding out of the chain of its frame.
    pub(crate) fn unchain(&mut self, entry: Entry<'_>) {
        let ((next, previous), (frame, _)) = (entry.links(), entry.target());
        if let Some(neighbour) = self.entry_at(next) {
            neighbour.set_links(neighbour.links().0, previous);
        }
        match self.entry_at(previous) {
            Some(neighbour) => neighbour.set_links(next, neighbour.links().1),
            None => self.frames.update(frame, |record| record.chain = next),
        }
        self.frames.discount_binding(frame);
    }

    /// The entry that a link leads to.
    pub(crate) fn entry_at(&self, link: Link) -> Option<Entry<'a>> {
        let m = self.machine;
        if link == Link::NONE {
            return None;
        }
        Some(self.space(link.space())?.tlb.entry(m, link.slot()))
    }

    /// Unbinds `count` pages from the address `page` on, and forgets which of them were lost.
    /// Returns how many were bound. Takes no more steps than there are entries in the software
    /// TLB, however large `count` is.
    pub fn unbind(&mut self, index: u16, page: u64, count: u64) -> u64 {
        let m = self.machine;
        let Some(space) = self.space(index) else { return 0 };
        let (root, tlb) = (space.root, space.tlb);
        let start = page & !(PAGE_SIZE - 1);
        let end = start.saturating_add(count.saturating_mul(PAGE_SIZE)).min(USER_END);
        let pages = start.max(USER_START)..end;
        let mut shootdown = Shootdown::new(m, root);
        let mut bound = 0;
        let mut drop = |slot: u16| {
            bound += u64::from(tlb.entry(m, slot).is_valid());
            self.remove(Link::new(index, slot), &mut shootdown);
        };
        if count > u64::from(tlb.slots()) {
            (0..tlb.slots())
                .filter(|&slot| pages.contains(&tlb.entry(m, slot).page()))
                .for_each(&mut drop);
        } else {
            pages
                .step_by(PAGE_SIZE as usize)
                .filter_map(|page| Some(tlb.find(m, page)?.slot))
                .for_each(&mut drop);
        }
        shootdown.finish();
        bound
    }

    /// Gives `count` pages from the address `page` on these rights, all or none. Whether a page is
    /// wired changes with them.
    ///
    /// # Errors
    /// [`Error::NoEnvironment`], [`Error::BadAddress`], [`Error::BadArgument`],
    /// [`Error::WriteExecute`], [`Error::PageNotBound`], [`Error::NotDominated`] for rights that
    /// the page was not bound with.
    pub fn protect(
        &mut self,
        index: u16,
        page: u64,
        count: u64,
        rights: Rights,
    ) -> Result<(), Error> {
        let m = self.machine;
        check_rights(rights)?;
        let end = check_pages(page, count)?;
        let space = self.space(index).ok_or(Error::NoEnvironment)?;
        let (root, tlb) = (space.root, space.tlb);
        if count > u64::from(tlb.slots()) {
            return Err(Error::PageNotBound);
        }
        let change = Change::to(rights).ok_or(Error::BadArgument)?;
        for page in (page..end).step_by(PAGE_SIZE as usize) {
            let hardware = tables::entry(m, root, page).map_or(0, |entry| entry.load(Relaxed));
            if change.is_granted(hardware) {
                continue;
            }
            let Place { entry, .. } = tlb.find(m, page).ok_or(Error::PageNotBound)?;
            if !entry.is_valid() {
                return Err(Error::PageNotBound);
            }
            if !entry.granted().contains(rights) {
                return Err(Error::NotDominated);
            }
        }
        let mut shootdown = Shootdown::new(m, root);
        for page in (page..end).step_by(PAGE_SIZE as usize) {
            let Some(place) = tlb.find(m, page) else { continue };
            place.entry.set_rights(rights);
            let old = tables::entry(m, root, page).map_or(0, |entry| change_entry(entry, change));
            if change.narrows(old, old) {
                shootdown.forget(page);
            }
        }
        shootdown.finish();
        Ok(())
    }

    /// Answers a page fault as [`refill`] does, and makes the tables that are missing. Needs no memory
    /// beyond what [`create`](Self::create) was given, since it drops other tables.
    pub fn refill(&mut self, index: u16, address: u64, access: FaultCode) -> Refill {
        let m = self.machine;
        let Some((space, frames)) = self.split(index) else { return Refill::Refused(access) };
        let (root, tlb) = (space.root, space.tlb);
        match refill(m, (root, leaf_table(m, root, address), tlb), address, access) {
            Refill::TableMissing if space.leaf(m, frames, address, true).is_some() => {
                refill(m, (root, leaf_table(m, root, address), tlb), address, access)
            }
            done => done,
        }
    }

    /// The frame behind an address of an environment, for copies by the kernel, if the page is
    /// bound with the rights `access`. A write is noted like one by the hardware.
    pub fn translate(&self, index: u16, address: u64, access: Rights) -> Option<FrameNumber> {
        let m = self.machine;
        let space = self.space(index)?;
        let page = address & !(PAGE_SIZE - 1);
        check_page(page).ok()?;
        let used = if access.contains(Rights::WRITE) { ACCESSED | DIRTY } else { 0 };
        if let Some(hardware) = tables::entry(m, space.root, page) {
            let mut old = hardware.load(Relaxed);
            while old != 0 {
                if !tables::rights_now(old).contains(access) {
                    return None;
                }
                match hardware.compare_exchange(old, old | used, Relaxed, Relaxed) {
                    Ok(_) => return Some(tables::frame_in(old)),
                    Err(now) => old = now,
                }
            }
        }
        let Place { entry, .. } = space.tlb.find(m, page)?;
        let (frame, generation) = entry.target();
        let held = entry.is_valid() && self.frames.held(frame) == Some(generation);
        if !held || !entry.rights().contains(access) {
            return None;
        }
        entry.note_use(used);
        Some(frame)
    }
}
