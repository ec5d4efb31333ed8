//! The write barrier: which pages of the old space were written to since the last collection.
//!
//! The pages of old objects are protected. The first write to one faults; the fault is noted here,
//! the protection lifted, and the write done again. Later writes to the page cost nothing, and nor do
//! writes to young objects: the compiler emits plain stores.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libos_posix::memory::{self, Access, Barrier, PAGE_SIZE, Protection};

/// The most pages of an old space.
pub(crate) const PAGES_MAX: usize = 1 << 13;

/// Where the old space begins and ends. The handler reads this and the bits below; they are in the
/// image, which is always there.
static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);
/// A bit for each page that was written to.
static WRITTEN: [AtomicU64; PAGES_MAX / 64] = [const { AtomicU64::new(0) }; PAGES_MAX / 64];
/// How often a write was noticed.
static HITS: AtomicU64 = AtomicU64::new(0);

/// Watches a space from now on, of which no page is protected yet.
pub(crate) fn watch(space: Range<u64>) {
    WRITTEN.iter().for_each(|bits| bits.store(0, Relaxed));
    START.store(space.start, Relaxed);
    END.store(space.end, Relaxed);
    memory::on_barrier(hit);
}

fn hit(address: u64, _: Access) -> Barrier {
    if !(START.load(Relaxed)..END.load(Relaxed)).contains(&address) {
        return Barrier::End;
    }
    let page = (address - START.load(Relaxed)) as usize / PAGE_SIZE;
    WRITTEN[page / 64].fetch_or(1 << (page % 64), Relaxed);
    HITS.fetch_add(1, Relaxed);
    match protect(page..page + 1, Protection::ReadWrite) {
        true => Barrier::Lifted,
        false => Barrier::End,
    }
}

/// Protects pages of the space, or lifts it. Returns whether that went well.
pub(crate) fn protect(pages: Range<usize>, protection: Protection) -> bool {
    let address = |page: usize| START.load(Relaxed) + (page * PAGE_SIZE) as u64;
    memory::protect(address(pages.start)..address(pages.end), protection).is_ok()
}

/// The next page from this one on that was written to, which is then forgotten.
pub(crate) fn take_written(from: usize) -> Option<usize> {
    (from / 64..PAGES_MAX / 64).find_map(|index| {
        let skipped = if index == from / 64 { from % 64 } else { 0 };
        let bits = WRITTEN[index].load(Relaxed) >> skipped << skipped;
        (bits != 0).then(|| {
            let bit = bits.trailing_zeros();
            WRITTEN[index].fetch_and(!(1 << bit), Relaxed);
            index * 64 + bit as usize
        })
    })
}

pub(crate) fn hits() -> u64 {
    HITS.load(Relaxed)
}
