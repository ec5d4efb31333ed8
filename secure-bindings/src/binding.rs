//! Binding pages to frames, and answering misses of the hardware.

use crate::frame::{FrameTable, Link};
use crate::memory::{FrameMemory, Page, TranslationCache};
use crate::space::Space;
use crate::tables::{self, ACCESSED, BOUND, Change, DIRTY, LEAF_ENTRIES, PRESENT, WIRED};
use crate::tlb::{Bank, Entry, GROUP_SPAN, LOST, Place, Tlb, VALID};
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

/// The entry that a link leads to.
fn entry_at<'m, M: FrameMemory>(
    spaces: &[Option<Space>],
    machine: &'m M,
    link: Link,
) -> Option<Entry<'m>> {
    // The end of a chain is in no space.
    Some(spaces.get(usize::from(link.space()))?.as_ref()?.tlb.entry(machine, link.slot()))
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

/// What came of an attempt to answer a page fault without the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refill {
    /// The hardware has the entry.
    Done,
    /// The access is not allowed, or the page is not bound.
    Refused(FaultCode),
    /// Nothing has changed. A table is missing, or the hardware has an entry that allows the access:
    /// see [`Bindings::refill`]. Or one that was made had to go again, and this CPU may remember it.
    Locked,
}

/// The hardware's entry of a page in its leaf table.
#[inline]
pub fn leaf_entry<M: FrameMemory>(m: &M, leaf: FrameNumber, address: u64) -> &AtomicU64 {
    &m.page(leaf)[tables::index(address, 0)]
}

/// As [`Bindings::refill`], for the address space that is current on this CPU, while others may
/// change it.
///
/// Whoever takes a binding away first clears the entry of the software TLB, then that of the
/// hardware. Here the hardware's is set first, and the other looked at again: if the binding has
/// gone meanwhile, one of the two sees it.
///
/// `hardware` is the page's entry in its leaf table, if there is one.
#[inline(always)]
pub fn refill(
    m: &impl FrameMemory,
    hardware: Option<&AtomicU64>,
    tlb: Tlb,
    address: u64,
    access: FaultCode,
    soon: bool,
) -> Refill {
    let page = address & !(PAGE_SIZE - 1);
    let old = hardware.map_or(0, |hardware| hardware.load(Relaxed));
    if old != 0 {
        let allowed = tables::allows(old, access);
        let refused = Refill::Refused(access | FaultCode::PROTECTION);
        return if allowed { Refill::Locked } else { refused };
    }
    let found = if soon {
        match tlb.find_soon(m, page) {
            Err(true) => return Refill::Locked,
            found => found.ok(),
        }
    } else {
        tlb.find(m, page)
    };
    let Some(Place { entry, .. }) = found else {
        let can_be_bound = (USER_START..USER_END).contains(&address);
        let reason = if can_be_bound { FaultCode::empty() } else { FaultCode::PROTECTION };
        return Refill::Refused(access | reason);
    };
    let before @ (head, binding) = (entry.head(), entry.hardware());
    if head & VALID == 0 || !tables::allows(binding, access) {
        // What was known of it may be on the way from a table that has just gone.
        if head & VALID != 0 && hardware.is_none() {
            return Refill::Locked;
        }
        let reason = match head & (VALID | LOST) {
            0 => FaultCode::empty(),
            LOST => FaultCode::LOST,
            _ => FaultCode::PROTECTION,
        };
        // What has gone between the two loads is looked for again.
        let stands = entry.again() == before;
        return if stands { Refill::Refused(access | reason) } else { Refill::Done };
    }
    let Some(hardware) = hardware else { return Refill::Locked };
    let new = binding | tables::used(access);
    let set = hardware.compare_exchange(0, new, SeqCst, Relaxed).is_ok();
    // The page may have been bound anew meanwhile: then one of the two words tells.
    if set && entry.again() != before {
        let _ = hardware.compare_exchange(new, 0, Relaxed, Relaxed);
        return Refill::Locked;
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
        let crowded = |page: u64| !tlb.bank(m, page).has_room(wired);
        if requests.clone().any(|run| run.starts(GROUP_SPAN).any(crowded)) {
            let groups = requests.clone().flat_map(|run| run.pieces(GROUP_SPAN));
            self.claim_all(index, groups.filter(|group| crowded(group.page())))?;
        }
        let mut shootdown = Shootdown::new(m, root);
        let done = requests.into_iter().try_for_each(|run| self.insert(index, run, &mut shootdown));
        shootdown.finish();
        done
    }

    /// As [`bind_all`](Self::bind_all), for the first page of a request, if its entry finds an empty place
    /// and there is a table for it. `None`: nothing has changed, and `bind_all` has to do it or to say
    /// why not.
    pub fn bind_one(
        &mut self,
        index: u16,
        request: BindRequest,
        allow: impl Fn(&CapabilityName, Rights) -> Result<(), Error>,
    ) -> Option<()> {
        let (m, request) = (self.machine, BindRequest { more: 0, ..request });
        let rights = request.rights().filter(|rights| !rights.contains(Rights::WIRED))?;
        check_rights(rights).and(check_page(request.page())).ok()?;
        let first = FrameNumber(request.frame);
        self.frames.guards(first, 1, |guard| allow(guard, rights)).ok()?;
        let space = self.space(index)?;
        let (bank, leaf) =
            (space.tlb.bank(m, request.page()), space.table(m, request.page()).ok()?);
        let row = bank.empty_place(request.page())?;
        self.fill(index, (&bank, row), request, (tables::bound_with(rights), Some(leaf)));
        Some(())
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
        let place = |page| tlb.place(m, page, hand);
        let pages = requests.flat_map(|request| request.pieces(PAGE_SIZE));
        let is_wired = |page: &BindRequest| page.page_and_rights & WIRED != 0;
        let wired = pages.clone().filter(is_wired).map(|request| request.page());
        let mut fits = wired.clone().all(|page| {
            let Some(place) = place(page) else { return false };
            if place.entry.page() != page {
                self.remove(Link::new(index, place.slot), &mut shootdown);
            }
            place.entry.claim(page);
            place.bank.note_filled(place.row, page, 1);
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

    /// Binds pages, for which everything was checked.
    fn insert(
        &mut self,
        index: u16,
        request: BindRequest,
        shootdown: &mut Shootdown<'_, M>,
    ) -> Result<(), Error> {
        let (m, rights) = (self.machine, request.rights().unwrap_or_default());
        let bits = tables::bound_with(rights);
        for run in request.pieces(GROUP_SPAN) {
            let (space, frames) = self.split(index).ok_or(Error::NoEnvironment)?;
            let bank = space.tlb.bank(m, run.page());
            // All pages of a group have the same leaf table.
            let leaf = space.leaf(m, frames, run.page(), false);
            match bank.empty_row(run.page(), run.count()) {
                Some(row) => self.fill(index, (&bank, row), run, (bits, leaf)),
                None => self.insert_apart(index, run, (bits, leaf), shootdown)?,
            }
        }
        Ok(())
    }

    /// Binds pages of one group, each where its entry was, or where there is place for one.
    #[inline(never)]
    fn insert_apart(
        &mut self,
        index: u16,
        run: BindRequest,
        bits_and_leaf: (u64, Option<&Page>),
        shootdown: &mut Shootdown<'_, M>,
    ) -> Result<(), Error> {
        let m = self.machine;
        let space = self.space_mut(index).ok_or(Error::NoEnvironment)?;
        space.hand = space.hand.wrapping_add(1);
        let (tlb, hand) = (space.tlb, space.hand);
        run.pieces(PAGE_SIZE).try_for_each(|page| {
            let place = tlb.place(m, page.page(), hand).ok_or(Error::TlbFull)?;
            self.remove(Link::new(index, place.slot), shootdown);
            self.fill(index, (&place.bank, place.row), page, bits_and_leaf);
            Ok(())
        })
    }

    /// Binds pages of one group in a row of its software TLB, where their entries are empty. But for the
    /// frame, `bits` is what the hardware's entries are to be; `leaf` is the table for them.
    #[inline(always)]
    fn fill(
        &mut self,
        index: u16,
        (bank, row): (&Bank<'_>, u16),
        run: BindRequest,
        (bits, leaf): (u64, Option<&Page>),
    ) {
        let Self { machine, frames, spaces } = self;
        let (page, count, first) = (run.page(), run.count(), FrameNumber(run.frame));
        if bits & WIRED != 0 {
            frames.run(first, count).for_each(|(_, record)| record.wired += 1);
        }
        let entries = bank.row(row);
        let (slot, mut column) = (Link::new(index, bank.slot(row)), bank.column(page) as usize);
        let (mut at, mut binding) = (page, bits | first.address());
        let start = tables::index(page, 0);
        let mut hardware =
            leaf.and_then(|leaf| leaf.get(start..start + count as usize)).unwrap_or(&[]).iter();
        for (words, record) in frames.run(first, count) {
            let (link, entry) = (slot.column(column), Entry(&entries[column % entries.len()]));
            words[1].store(words[1].load(Relaxed) + 1, Relaxed);
            let next = core::mem::replace(&mut record.chain, link);
            if next != Link::NONE
                && let Some(neighbour) = entry_at(spaces, *machine, next)
            {
                neighbour.set_links(neighbour.links().0, link);
            }
            entry.bind(at, binding, next);
            if let Some(hardware) = hardware.next() {
                // The old entry, if there was one, went with the old binding. One that stands here
                // comes from a refill on another CPU, and may have noted a write already.
                let _ = hardware.compare_exchange(0, binding, Relaxed, Relaxed);
            }
            (at, binding) = (at + PAGE_SIZE, binding + PAGE_SIZE);
            column = (column + 1) % entries.len();
        }
        bank.note_filled(row, page, count);
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
            if let Some(hardware) = space.entry(m, page) {
                shootdown.clear(hardware, page);
            }
            self.unchain(entry);
        }
        tlb.empty(m, link.slot());
    }

    /// Takes a binding out of the chain of its frame.
    pub(crate) fn unchain(&mut self, entry: Entry<'_>) {
        let ((next, previous), binding) = (entry.links(), entry.hardware());
        if let Some(neighbour) = self.entry_at(next) {
            neighbour.set_links(neighbour.links().0, previous);
        }
        let before = self.entry_at(previous);
        if let Some(neighbour) = before {
            neighbour.set_links(next, neighbour.links().1);
        }
        let first = before.is_none().then_some(next);
        self.frames.chain_out(tables::frame_in(binding), first, binding & WIRED != 0);
    }

    /// The entry that a link leads to.
    pub(crate) fn entry_at(&self, link: Link) -> Option<Entry<'a>> {
        entry_at(self.spaces, self.machine, link)
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
        let (space, frames) = self.split(index).ok_or(Error::NoEnvironment)?;
        let tlb = space.tlb;
        if count > u64::from(tlb.slots()) {
            return Err(Error::PageNotBound);
        }
        let change = Change::to(rights).ok_or(Error::BadArgument)?;
        for page in (page..end).step_by(PAGE_SIZE as usize) {
            let place = tlb.find(m, page).filter(|place| place.entry.is_valid());
            let place = place.ok_or(Error::PageNotBound)?;
            if !change.is_granted(place.entry.hardware()) {
                return Err(Error::NotDominated);
            }
        }
        let mut shootdown = Shootdown::new(m, space.root);
        for page in (page..end).step_by(PAGE_SIZE as usize) {
            let Some(Place { entry, .. }) = tlb.find(m, page) else { continue };
            let before = entry.hardware();
            entry.set_hardware(change.apply(before));
            frames.update(tables::frame_in(before), |record| {
                record.wired -= u32::from(before & WIRED != 0);
                record.wired += u32::from(rights.contains(Rights::WIRED));
            });
            let old = space.entry(m, page).map_or(0, |entry| change_entry(entry, change));
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
        // Behind these, tables and large pages are the kernel's own: an entry must not be looked for.
        if !(USER_START..USER_END).contains(&address) {
            return Refill::Refused(access | FaultCode::PROTECTION);
        }
        let Some((space, frames)) = self.split(index) else { return Refill::Refused(access) };
        let tlb = space.tlb;
        let done = refill(m, space.entry(m, address), tlb, address, access, false);
        if done != Refill::Locked {
            return done;
        }
        let Some(leaf) = space.leaf(m, frames, address, true) else { return Refill::Locked };
        let hardware = &leaf[tables::index(address, 0)];
        let done = refill(m, Some(hardware), tlb, address, access, false);
        if done != Refill::Locked {
            return done;
        }
        // The CPU remembers an entry that allowed less, or objects to something else. If this one has
        // changed meanwhile, the access faults again.
        let old = hardware.load(Relaxed);
        let _ = hardware.compare_exchange(old, old | tables::used(access), Relaxed, Relaxed);
        m.flush(space.root, address & !(PAGE_SIZE - 1));
        Refill::Done
    }

    /// The frame behind an address of an environment, for copies by the kernel, if the page is
    /// bound with the rights `access`. A write is noted like one by the hardware.
    #[inline(always)]
    pub fn translate(&self, index: u16, address: u64, access: Rights) -> Option<FrameNumber> {
        let m = self.machine;
        let space = self.space(index)?;
        let page = address & !(PAGE_SIZE - 1);
        check_page(page).ok()?;
        let used = if access.contains(Rights::WRITE) { ACCESSED | DIRTY } else { 0 };
        if let Some(hardware) = space.entry(m, page) {
            let mut old = hardware.load(Relaxed);
            while old != 0 {
                if !tables::rights_now(old).contains(access) {
                    return None;
                }
                if old & used == used {
                    return Some(tables::frame_in(old));
                }
                let set = hardware.compare_exchange(old, old | used, Relaxed, Relaxed);
                old = set.map_or_else(|now| now, |old| old | used);
            }
        }
        let Place { entry, .. } = space.tlb.find(m, page)?;
        let binding = entry.hardware();
        if !entry.is_valid() || !tables::rights_now(binding).contains(access) {
            return None;
        }
        entry.set_hardware(binding | used);
        Some(tables::frame_in(binding))
    }
}
