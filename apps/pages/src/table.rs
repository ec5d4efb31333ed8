//! The program's own choice of a page table.

use core::fmt;
use core::ops::Range;
use libos_posix::Start;
use libos_posix::exo_user::{Error, start};
use libos_posix::memory::{
    Entry, Extents, Hashed, InWired, Linear, PageIndex, PageTable, Protection, TableFull,
    WiredMemory,
};

/// The kinds of table that the library has.
#[derive(Clone, Copy, Default)]
pub(crate) enum Kind {
    #[default]
    Linear,
    Hashed,
    Extents,
}

/// The kind of table in the arguments; `None` if there is no such table.
pub(crate) fn chosen(start: &Start<'_>) -> Option<Kind> {
    match start.argument("table") {
        None | Some("linear") => Some(Kind::Linear),
        Some("hashed") => Some(Kind::Hashed),
        Some("extents") => Some(Kind::Extents),
        Some(_) => None,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linear => "linear",
            Self::Hashed => "hashed",
            Self::Extents => "extents",
        })
    }
}

/// One of the library's tables, chosen when the program starts. A program that knows which one it
/// wants names that one.
pub(crate) enum Table {
    Linear(Linear<'static>),
    Hashed(Hashed<'static>),
    Extents(Extents<'static>),
}

impl Table {
    fn inner(&self) -> &dyn PageTable {
        match self {
            Self::Linear(table) => table,
            Self::Hashed(table) => table,
            Self::Extents(table) => table,
        }
    }

    fn inner_mut(&mut self) -> &mut dyn PageTable {
        match self {
            Self::Linear(table) => table,
            Self::Hashed(table) => table,
            Self::Extents(table) => table,
        }
    }
}

impl PageTable for Table {
    fn pages(&self) -> u32 {
        self.inner().pages()
    }

    fn get(&self, page: PageIndex) -> Entry {
        self.inner().get(page)
    }

    fn set(&mut self, page: PageIndex, entry: Entry) -> Result<(), TableFull> {
        self.inner_mut().set(page, entry)
    }

    fn next(&self, pages: Range<u32>) -> Option<PageIndex> {
        self.inner().next(pages)
    }

    fn protect(&mut self, pages: Range<u32>, protection: Protection) -> Result<(), TableFull> {
        self.inner_mut().protect(pages, protection)
    }
}

impl InWired for Table {
    fn in_wired(memory: &mut WiredMemory, frames: usize) -> Result<Self, Error> {
        match chosen(&start::own()).unwrap_or_default() {
            Kind::Linear => Linear::in_wired(memory, frames).map(Self::Linear),
            Kind::Hashed => Hashed::in_wired(memory, frames).map(Self::Hashed),
            Kind::Extents => Extents::in_wired(memory, frames).map(Self::Extents),
        }
    }
}
