//! What the program lets itself do with its pages: write barriers and guard pages.

use super::{MemoryError, Pager};
use crate::memory::kernel::{Access, Kernel};
use crate::memory::page_table::{PageIndex, PageTable, Place, Protection, Seat};
use crate::memory::replacement::Replacement;
use crate::memory::store::BackingStore;
use core::ops::Range;

/// Pages that follow one another and get the same rights: one call.
#[derive(Default)]
pub(super) struct Run {
    pages: Range<u32>,
    access: Option<Access>,
}

impl Run {
    /// Gives a page other rights; `None` unbinds it. The call is made when the run ends.
    pub(super) fn add(
        &mut self,
        kernel: &mut impl Kernel,
        page: PageIndex,
        access: Option<Access>,
    ) {
        let follows = !self.pages.is_empty() && self.pages.end == page.0 && self.access == access;
        if !follows {
            self.end(kernel);
            *self = Self { pages: page.0..page.0, access };
        }
        self.pages.end = page.0 + 1;
    }

    /// Makes the call for what was added.
    pub(super) fn end(&mut self, kernel: &mut impl Kernel) {
        let pages = core::mem::take(&mut self.pages);
        match self.access {
            Some(access) if !pages.is_empty() => kernel.protect(pages, access),
            Some(_) => {}
            None => pages.for_each(|page| kernel.unbind(PageIndex(page))),
        }
    }
}

impl<T: PageTable, R: Replacement, S: BackingStore, K: Kernel> Pager<'_, T, R, S, K> {
    /// Protects all pages of a range alike, whatever they hold.
    ///
    /// # Errors
    /// `TableFull`; the pages before some page are protected, the others are not.
    pub fn protect(
        &mut self,
        pages: Range<u32>,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let noted = self.table.protect(pages.clone(), protection);
        let mut run = Run::default();
        if pages.len() <= self.resident.len() {
            for page in pages.map(PageIndex) {
                if let Place::Resident(seat) = self.place(page) {
                    self.protect_resident(seat, &mut run);
                }
            }
        } else {
            let mut next = self.resident.oldest();
            while let Some(seat) = next {
                next = self.resident.newer(seat);
                let resident = self.resident.get(seat);
                if resident.is_some_and(|resident| pages.contains(&resident.page.0)) {
                    self.protect_resident(seat, &mut run);
                }
            }
        }
        run.end(&mut self.kernel);
        noted.map_err(|_| MemoryError::TableFull)
    }

    /// Brings a resident page's rights in line with the page table.
    fn protect_resident(&mut self, seat: Seat, run: &mut Run) {
        let Some(resident) = self.resident.get_mut(seat) else { return };
        let before = resident.access();
        resident.protection = self.table.get(resident.page).protection;
        if resident.access() != before {
            run.add(&mut self.kernel, resident.page, resident.access());
        }
    }
}
